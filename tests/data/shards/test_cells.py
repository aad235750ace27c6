from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbrlib.data.shards.cells import CELL, cells_of, count_cells
from pbrlib.maps import CLASSES, IGNORE
from tests.data.shards.materials import make_set, material

side = st.one_of(st.integers(1, 200), st.sampled_from([CELL - 1, CELL, CELL + 1, 3 * CELL]))


@settings(max_examples=40)
@given(side, side, st.integers(0, 2**32 - 1))
def test_a_cell_counts_exactly_its_own_pixels(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice([*range(len(CLASSES)), IGNORE], (height, width, 1)).astype(np.uint8)
    counts = count_cells(mask)
    assert counts.shape == (len(CLASSES), -(-height // CELL), -(-width // CELL))
    for y in range(counts.shape[1]):
        for x in range(counts.shape[2]):
            cell = mask[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL]
            assert counts[:, y, x].tolist() == [int((cell == c).sum()) for c in range(len(CLASSES))]


@pytest.mark.parametrize("kind", ["mixed", "one class and ignored pixels", "one class", "nothing known"])
def test_the_index_has_the_class_counts_by_cell(tmp_path: Path, kind: str) -> None:
    one = material(0, size=(200, 130), maps=("normal", "mask"))
    mask = one.maps["mask"]
    if kind != "mixed":
        mask[...] = IGNORE if kind == "nothing known" else CLASSES.index("metal")
    if kind == "one class and ignored pixels":
        mask[:70] = IGNORE
    (row,) = make_set(tmp_path, [one]).rows
    np.testing.assert_array_equal(cells_of(row), count_cells(mask))
    assert row.class_pixels == tuple(cells_of(row).sum(axis=(1, 2)))
    assert (row.cells == b"") == (kind in ("one class", "nothing known"))


def test_a_material_without_a_mask_has_its_class_in_all_cells(tmp_path: Path) -> None:
    labelled = material(0, size=(100, 70), maps=("normal",), label="fabric")
    unknown = material(1, size=(100, 70), maps=("normal",), label=None)
    known, other = (cells_of(row) for row in make_set(tmp_path, [labelled, unknown]).rows)
    np.testing.assert_array_equal(known[CLASSES.index("fabric")], [[64 * 64, 64 * 6], [36 * 64, 36 * 6]])
    assert known.sum() == 100 * 70
    assert not other.any()


def test_the_counts_of_a_painted_texture_are_small(tmp_path: Path) -> None:
    """The index must be small, since every task that reads a shard set has it in memory."""
    one = material(0, size=(2048, 2048), maps=("normal", "mask"))
    ys, xs = np.mgrid[:2048, :2048]
    one.maps["mask"][..., 0] = np.where(np.hypot(ys - 900, xs - 700) < 500, 4, np.where(xs > 1500, 5, 6))
    (row,) = make_set(tmp_path, [one]).rows
    assert 0 < len(row.cells) < 1500
