from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.augment.pipeline import augment
from pbrlib.data.augment.preview import CELL, OUTLINE, preview_sheet
from pbrlib.data.draws.batch import Batch
from tests.data.augment.test_pipeline import raw_batch

CAPTION = 14


def cells(before: Batch, after: Batch, *, maps: tuple[str, ...]) -> np.ndarray:
    """Return the pictures of the sheet by row and column, without captions."""
    sheet = np.asarray(
        Image.open(
            io.BytesIO(preview_sheet(before, after, maps=maps, captions=[f"draw {i}" for i in before.ids]))
        )
    )
    rows = [
        sheet[CAPTION + number * (CELL + CAPTION) + CAPTION :][:CELL] for number in range(len(before.ids))
    ]
    return np.stack([np.stack(np.split(row, 2 * len(maps), axis=1)) for row in rows])


def painted(colour: tuple[float, float, float], num: int = 2) -> Batch:
    batch = augment(raw_batch(num, size=64), AugmentSpec(), device="cpu")
    albedo = torch.tensor(colour).view(1, 3, 1, 1).expand(num, 3, 64, 64)
    return replace(batch, maps=batch.maps | {"albedo": albedo})


def test_each_map_has_a_column_before_and_after() -> None:
    shown = cells(painted((1.0, 1.0, 0.0)), painted((0.0, 0.0, 1.0)), maps=("mask", "albedo"))
    assert shown.shape[:2] == (2, 4)
    for row in shown:
        assert row[2][80, 80].tolist() == [255, 255, 0]
        assert row[3][80, 80].tolist() == [0, 0, 255]
        assert len(np.unique(row[0].reshape(-1, 3), axis=0)) > 5  # the colours of the classes


def test_the_cell_of_a_missing_map_is_grey() -> None:
    before, after = painted((1.0, 1.0, 0.0)), painted((0.0, 0.0, 1.0))
    before = replace(before, present=before.present | {"albedo": torch.tensor([True, False])})
    shown = cells(before, after, maps=("albedo",))
    assert shown[0, 0, 80, 80].tolist() == [255, 255, 0]
    for column in (0, 1):
        (grey,) = set(shown[1, column, 80, 80].tolist())
        assert 200 < grey < 255


def test_only_the_picture_after_outlines_parts_and_invalid_pixels() -> None:
    plain = painted((0.0, 0.0, 1.0))
    regions = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    regions[0, :, :, 32:] = 1
    valid = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    valid[1, :, 16:48] = False
    shown = cells(plain, replace(plain, regions=regions, valid=valid), maps=("albedo",))
    outlined = (shown == np.array(OUTLINE)).all(axis=-1)
    assert not outlined[:, 0].any()
    columns, rows = np.flatnonzero(outlined[0, 1].any(axis=0)), np.flatnonzero(outlined[1, 1].any(axis=1))
    assert abs(columns.mean() - 79) < 3 and np.ptp(columns) < 8
    assert abs(rows.min() - 40) < 4 and abs(rows.max() - 119) < 4 and len(rows) < 12
    assert outlined[0, 1, :150, columns[1]].all() and outlined[1, 1, rows[1], :150].all()
