"""Tests of validation on textures that are downscaled to at most 1024 px."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

import pbrlib.train.validation as validation
from pbrlib.colour import srgb_to_linear
from pbrlib.data.draws.batch import Batch, RawBatch
from pbrlib.data.materials.material import Material
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.maps import IGNORE, MAPS
from pbrlib.train.task import Task
from pbrlib.train.validation import SHOWN_PX, ValidationTexture, contact_sheet, load_validation, validated
from tests.data.shards.materials import material

READ = ("albedo", "normal", "height", "relief", "mask")


def loaded(root: Path, one: Material, *, maps: Sequence[str] = READ) -> tuple[ValidationTexture, ...]:
    shard, rows = write_shard(root / shard_name(version=1, ordinal=0), [one], split_for=lambda _: "val")
    publish(root, shards=[shard], rows=[rows], previous=None)
    return load_validation(ShardSet.open(root), maps=maps, required=("normal",), rank=0, world=1)


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> int:
    """Set the validation size to 64 px, so that test textures are small."""
    monkeypatch.setattr(validation, "SIDE", 64)
    return 64


def test_a_larger_texture_is_downscaled_and_not_cropped(tmp_path: Path, side: int) -> None:
    big = material(1, size=(2 * side, 2 * side), maps=READ)
    (texture,) = loaded(tmp_path, big)
    assert {name: x.shape[-2:] for name, x in texture.raw.maps.items()} == dict.fromkeys(READ, (side, side))

    def blocks(name: str) -> np.ndarray:
        stored = big.maps[name].astype(np.float64) / MAPS[name].maximum
        return stored.reshape(side, 2, side, 2, -1).transpose(4, 0, 2, 1, 3)

    def found(name: str) -> np.ndarray:
        return texture.raw.maps[name][0].double().numpy() / MAPS[name].maximum

    for name in ("height", "relief"):
        assert np.abs(found(name) - blocks(name).mean(axis=(-2, -1))).max() < 1e-4
    light = srgb_to_linear(blocks("albedo")).mean(axis=(-2, -1))
    assert np.abs(srgb_to_linear(found("albedo")) - light).max() < 0.006, "averaged in linear light"
    lengths = (found("normal") * 2 - 1 + 1 / 255).astype(float)
    assert np.abs(np.linalg.norm(lengths, axis=0) - 1).max() < 0.03
    ids = texture.raw.maps["mask"][0, 0].numpy()
    candidates = big.maps["mask"][..., 0].reshape(side, 2, side, 2)
    assert (ids[:, None, :, None] == candidates).any(axis=(1, 3)).all(), "class ids are never averaged"


def test_a_long_texture_keeps_its_proportion(tmp_path: Path, side: int) -> None:
    (texture,) = loaded(tmp_path, material(1, size=(2 * side, 4 * side)), maps=("albedo", "normal"))
    assert texture.raw.maps["albedo"].shape[-2:] == (side // 2, side)


def test_a_texture_of_validation_size_is_unchanged(tmp_path: Path, side: int) -> None:
    one = material(1, size=(side, side))
    (texture,) = loaded(tmp_path, one, maps=("albedo", "normal", "height"))
    for name, stored in one.maps.items():
        assert torch.equal(texture.raw.maps[name][0], torch.from_numpy(stored.transpose(2, 0, 1)))


def test_a_texture_that_is_too_small_after_downscaling_is_excluded(tmp_path: Path, side: int) -> None:
    assert loaded(tmp_path, material(1, size=(40, 4 * side)), maps=("albedo", "normal")) == ()
    assert validated(ShardSet.open(tmp_path).rows, required=("normal",)) == []


class Shows:
    """A task whose picture shows the texture's grey value, at twice its width."""

    def picture(self, batch: Batch) -> Tensor:
        return batch.maps["height"][0].expand(3, -1, -1).repeat(1, 1, 2)


def textures(*sizes: tuple[int, int]) -> list[ValidationTexture]:
    """Heights of one level each, the n-th of n percent."""
    return [
        ValidationTexture(
            "source",
            RawBatch(
                maps={"height": torch.full((1, 1, *size), round(655.35 * n), dtype=torch.uint16)},
                present={"height": torch.ones(1, dtype=torch.bool)},
                seeds=torch.zeros(1, dtype=torch.int64),
                ids=("texture",),
                classes=torch.full((1,), IGNORE),
            ),
        )
        for n, size in enumerate(sizes)
    ]


def test_a_contact_sheet_shows_evenly_spaced_textures() -> None:
    sheet = contact_sheet(cast("Task", Shows()), textures(*[(8, 8)] * 9), device=torch.device("cpu"))
    assert sheet.shape == (3, 3 * 8, 16)
    assert torch.allclose(sheet[0, ::8, 0], torch.tensor([0.00, 0.03, 0.06]), atol=1e-4)


def test_large_pictures_are_reduced_and_narrow_ones_have_white_beside_them() -> None:
    sheet = contact_sheet(
        cast("Task", Shows()), textures((2 * SHOWN_PX, 2 * SHOWN_PX), (8, 8)), device=torch.device("cpu")
    )
    assert sheet.shape == (3, SHOWN_PX + 8, 2 * SHOWN_PX)
    assert bool((sheet[:, SHOWN_PX:, 16:] == 1).all())
    assert torch.allclose(sheet[:, SHOWN_PX:, :16], torch.tensor(0.01), atol=1e-4)
