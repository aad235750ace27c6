import numpy as np
import pytest

from pbrlib.errors import DataError
from pbrlib.textures.blocks import Bytes
from pbrlib.textures.normalpixels import split_normal, vector_problem


def bumps(*, gloss: int = 90) -> Bytes:
    """Unit normals of waves in all directions, with gloss in alpha."""
    y, x = np.mgrid[0:32, 0:32] * (2 * np.pi / 16)
    vectors = np.stack((0.5 * np.sin(x), 0.5 * np.cos(y), np.ones_like(x)), axis=-1)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    pixels = np.rint(vectors * 127.5 + 127.5)
    return np.concatenate((pixels, np.full((32, 32, 1), gloss)), axis=-1).astype(np.uint8)


def moved(**channels: int | Bytes) -> Bytes:
    """Return the normals with some channels replaced."""
    pixels = bumps()
    for name, value in channels.items():
        pixels[..., "rgba".index(name)] = value
    return pixels


def test_an_ordinary_normal_is_unchanged() -> None:
    found = split_normal(bumps())
    np.testing.assert_array_equal(found.xy, bumps()[..., :2])
    assert found.z is not None
    np.testing.assert_array_equal(found.z, bumps()[..., 2:3])
    assert found.gloss is not None
    assert found.notes == ()


@pytest.mark.parametrize("red", [0, 255])
@pytest.mark.parametrize("blue", [0, 255, bumps()[..., 1]], ids=["0", "255", "green"])
def test_x_in_alpha_is_found_and_is_no_gloss(red: int, blue: int | Bytes) -> None:
    found = split_normal(moved(a=bumps()[..., 0], r=red, b=blue))
    np.testing.assert_array_equal(found.xy, bumps()[..., :2])
    assert (found.z, found.gloss) == (None, None)
    assert "X is in alpha" in found.notes[0]


@pytest.mark.parametrize("blue", [0, 128, 255])
def test_z_is_computed_if_blue_is_empty(blue: int) -> None:
    found = split_normal(moved(b=blue))
    np.testing.assert_array_equal(found.xy, bumps()[..., :2])
    assert found.z is None
    assert "blue is empty" in found.notes[0]


def test_grey_bump_maps_of_one_or_three_channels_are_errors() -> None:
    grey = bumps()[..., :1]
    with pytest.raises(DataError, match="one channel, a bump or height map"):
        split_normal(grey)
    with pytest.raises(DataError, match="a grey picture, a bump or height map"):
        split_normal(np.repeat(grey, 3, axis=-1))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (32, 32)])
@pytest.mark.parametrize("colour", [(128, 128, 255), (127, 127, 254), (128, 90, 249)])
def test_a_flat_colour_of_any_size_is_a_normal(size: tuple[int, int], colour: tuple[int, ...]) -> None:
    found = split_normal(np.full((*size, 3), colour, np.uint8))
    assert found.xy[0, 0].tolist() == list(colour[:2])
    assert found.notes == ()


@pytest.mark.parametrize("grey", [128, 200, 255])
def test_a_single_grey_value_is_a_flat_surface(grey: int) -> None:
    found = split_normal(np.full((4, 4, 3), grey, np.uint8))
    assert np.unique(found.xy).tolist() == [128]
    assert found.notes == ("one grey value, read as a flat surface",)


@pytest.mark.parametrize("grey", [0, 60])
def test_a_single_dark_grey_value_is_an_error(grey: int) -> None:
    with pytest.raises(DataError, match="expected a tangent-space normal map"):
        split_normal(np.full((4, 4, 3), grey, np.uint8))


def test_a_missing_x_is_an_error() -> None:
    with pytest.raises(DataError, match="red is 255 everywhere, and alpha does not contain X"):
        split_normal(moved(r=255, a=255))
    with pytest.raises(DataError, match="red is 0 everywhere"):
        split_normal(moved(r=0, a=5))


def test_model_space_normals_are_an_error() -> None:
    y, x = np.mgrid[0:64, 0:64] / 63.0
    turns, heights = x * 2 * np.pi, y * 2 - 1
    radii = np.sqrt(1 - heights**2)
    vectors = np.stack((radii * np.cos(turns), heights, radii * np.sin(turns)), axis=-1)
    with pytest.raises(DataError, match="model-space"):
        split_normal(np.rint(vectors * 127.5 + 127.5).astype(np.uint8))


def test_black_gaps_of_an_atlas_are_ignored() -> None:
    pixels = bumps()
    pixels[:20] = 0
    assert split_normal(pixels).z is not None


def test_problems_are_found_without_alpha_too() -> None:
    assert vector_problem(bumps()[..., :3]) == ""
    assert "a grey picture" in vector_problem(np.repeat(bumps()[..., :1], 3, axis=-1))
