from __future__ import annotations

from dataclasses import replace

import etcpak
import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbrlib.data.shards.duplicates import MAX_DISTANCE, distance, pairs_across_splits, perceptual_hash
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.maps import Stored
from tests.data.shards.materials import index_row


@pytest.fixture(scope="module")
def albedos() -> list[Stored]:
    """Return a material of every class and some mixed ones."""
    source = GeneratedSource(count=21, size=128, seed=11)
    return [source.load(entry).maps["albedo"] for entry in source.entries()]


def hashed(colours: Stored) -> int:
    found = perceptual_hash(colours)
    assert found is not None
    return found


def compressed(colours: Stored) -> Stored:
    """Compress to BC1 and decompress."""
    height, width = colours.shape[:2]
    opaque = np.ascontiguousarray(np.dstack((colours, np.full((height, width), 255, np.uint8))))
    data = etcpak.compress_bc1(opaque.tobytes(), width, height)
    return np.asarray(imagecodecs.bcn_decode(data, 1, shape=(height, width, 4)))[..., :3]


def clouds(seed: int, size: int = 64) -> Stored:
    """Return a soft picture whose values allow a gain without clipping."""
    spectrum = np.random.default_rng(seed).normal(size=(3, size, size)) + 0j
    spectrum[:, 8:-7] = 0
    spectrum[:, :, 8:-7] = 0
    waves = np.fft.ifft2(spectrum).real
    return np.rint(waves / np.abs(waves).max() * 70 + 120).transpose(1, 2, 0).astype(np.uint8)


def row(name: str, split: str, phash: int | None) -> IndexRow:
    return replace(index_row(size=(64, 64)), id=name, split=split, phash=phash)


def test_a_block_compressed_picture_is_a_near_duplicate(albedos: list[Stored]) -> None:
    assert max(distance(hashed(one), hashed(compressed(one))) for one in albedos) <= MAX_DISTANCE


def test_a_picture_of_half_the_size_is_a_near_duplicate(albedos: list[Stored]) -> None:
    for one in albedos:
        half = one.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
        assert distance(hashed(one), hashed(half)) <= MAX_DISTANCE


def test_different_materials_are_no_near_duplicates(albedos: list[Stored]) -> None:
    hashes = [hashed(one) for one in albedos]
    pairs = [distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(pairs) > MAX_DISTANCE
    assert 28 < np.mean(pairs) < 36


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(0.6, 1.3), st.integers(-20, 20))
def test_a_picture_at_another_exposure_is_a_near_duplicate(seed: int, gain: float, offset: int) -> None:
    picture = clouds(seed)
    other = np.rint(picture * gain + offset).clip(0, 255).astype(np.uint8)
    assert distance(hashed(picture), hashed(other)) <= MAX_DISTANCE


def test_the_hash_of_a_picture_is_fixed() -> None:
    """With another hash, appended materials could not be compared with those of existing sets."""
    rows, cols = np.mgrid[0:64, 0:64] / 64
    waves = np.sin(9 * rows + 4 * cols**2) * np.cos(17 * cols - 8 * rows * cols) + rows * cols
    picture = np.rint(waves * 50 + 110).astype(np.uint8)[..., None].repeat(3, axis=-1)
    assert hashed(picture) == 10194348287409250723


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_plain_colour_has_no_hash(value: int) -> None:
    assert perceptual_hash(np.full((64, 64, 3), value, np.uint8)) is None


def test_stripes_have_no_hash() -> None:
    stripes = np.tile(np.repeat([60, 180], 8).astype(np.uint8), (64, 4))[..., None].repeat(3, axis=-1)
    assert perceptual_hash(stripes) is None


def test_only_pairs_across_splits_are_reported_with_their_distance() -> None:
    rows = [
        row("a", "train", 0b1111),
        row("b", "train", 2**64 - 1),
        row("plain", "train", None),
        row("c", "val", 0b0111),
        row("d", "val", 0b1111 << 20),
        row("e", "val", 2**64 - 2 - 2**63),
        row("flat", "val", None),
    ]
    found = {(held.id, seen.id): apart for held, seen, apart in pairs_across_splits(rows)}
    assert found == {("c", "a"): 1, ("d", "a"): 8, ("e", "b"): 2}
    assert list(pairs_across_splits([one for one in rows if one.split == "val"])) == []
