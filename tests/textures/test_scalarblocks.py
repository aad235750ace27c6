from pathlib import Path

import numpy as np
import pytest

from pbrlib.textures.decode import read_picture
from pbrlib.textures.layouts import Block
from pbrlib.textures.scalarblocks import decode_scalar_blocks, encode_scalar_blocks
from tests.convert.textures import dds


def shown(blocks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Decode like a graphics card, with the eight values of Microsoft's guide as fractions."""
    pixels = np.empty((len(blocks), 16))
    for number, (first, second, *packed) in enumerate(blocks.tolist()):
        if first > second:
            palette = [first, second] + [((7 - i) * first + i * second) / 7 for i in range(1, 7)]
        else:
            palette = [first, second] + [((5 - i) * first + i * second) / 5 for i in range(1, 5)] + [0, 255]
        bits = int.from_bytes(bytes(packed), "little")
        pixels[number] = [palette[bits >> 3 * i & 7] for i in range(16)]
    return pixels.reshape(height // 4, width // 4, 4, 4).swapaxes(1, 2).reshape(height, width)


def errors(channel: np.ndarray) -> np.ndarray:
    return shown(encode_scalar_blocks(channel), *channel.shape) - channel


def relief(side: int, *, seed: int) -> np.ndarray:
    """Return smooth hills with fine noise, like a height map."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(*[np.linspace(0.0, 2 * np.pi, side)] * 2)
    hills = sum(np.sin(rng.integers(1, 6) * x + rng.integers(1, 6) * y + rng.random()) for _ in range(6))
    rough = hills + 0.2 * rng.standard_normal((side, side))
    low, high = rough.min(), rough.max()
    return np.rint((rough - low) / (high - low) * 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(3))
def test_blocks_decode_to_the_nearest_of_the_eight_values_of_the_guide(seed: int) -> None:
    blocks = np.random.default_rng(seed).integers(0, 256, (6 * 8, 8), dtype=np.uint8)
    blocks[0, :2] = 77  # equal ends are the short mode
    got = decode_scalar_blocks(blocks, height=24, width=32)
    assert np.abs(got - shown(blocks, 24, 32)).max() < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_heights_are_not_biased_and_err_less_than_with_the_extremes_as_ends(seed: int) -> None:
    height = relief(128, seed=seed)
    found = errors(height)
    assert abs(found.mean()) < 0.05
    blocks = height.reshape(32, 4, 32, 4).swapaxes(1, 2).reshape(-1, 16).astype(float)
    low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
    step = np.maximum(high - low, 1.0) / 7
    extremes = low + np.rint((blocks - low) / step) * step - blocks
    assert np.square(found).mean() < 0.95 * np.square(extremes).mean()


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize("start", [0, 100, 248])
def test_a_ramp_of_small_steps_is_exact(start: int, step: int) -> None:
    ramp = start + np.minimum(step * (np.arange(8)[:, None] + np.arange(12)) // 3, 7)
    assert np.abs(errors(ramp.astype(np.uint8))).max() < 1e-9


@pytest.mark.parametrize("low", [0, 13, 254])
@pytest.mark.parametrize("high", [1, 128, 255])
def test_no_pixel_exceeds_the_range_by_more_than_half_a_step(low: int, high: int) -> None:
    low, high = min(low, high), max(low, high)
    noise = np.random.default_rng(low).integers(low, high + 1, (32, 32)).astype(np.uint8)
    assert np.abs(errors(noise)).max() <= max((high - low) / 7, 1.0)


@pytest.mark.parametrize(("block", "channels"), [(Block.BC3, [3]), (Block.BC4, [0]), (Block.BC5, [0, 1])])
def test_every_format_with_scalar_blocks_preserves_its_channels(
    tmp_path: Path, block: Block, channels: list[int]
) -> None:
    pixels = np.dstack([relief(64, seed=i) for i in range(4)])
    path = tmp_path / "texture.dds"
    path.write_bytes(dds(pixels, block=block))
    decoded = read_picture(path)
    for channel in channels:
        exact = shown(encode_scalar_blocks(pixels[..., channel]), 64, 64)
        np.testing.assert_array_equal(decoded[..., channel], np.rint(exact))
