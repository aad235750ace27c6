from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbrlib.data.draws.balance import (
    MAX_WEIGHT,
    balance_statistics,
    capped_classes,
    class_weights,
    describe_capped,
    merge_classes,
    minority_classes,
    minority_tiles,
    sampler_weights,
)
from pbrlib.data.draws.drawspec import BalanceSpec, SamplerSpec
from pbrlib.data.draws.plan import make_plan
from pbrlib.data.shards.cells import cells_of, count_cells, pack_cells
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.window import Window
from pbrlib.maps import CLASSES, IGNORE, Stored
from tests.data.draws.test_plan import request, row
from tests.data.shards.materials import make_set, material

CERAMIC, METAL, STONE, WOOD = (CLASSES.index(name) for name in ("ceramic", "metal", "stone", "wood"))
TILES = BalanceSpec(minority=("ceramic",), minority_tiles=0.3)


def painted(number: int, mask: Stored, **changes: object) -> IndexRow:
    """Return the index row of a texture with a mask ``(H, W)``."""
    height, width = mask.shape
    counts = count_cells(mask[..., None])
    return row(
        number,
        height=height,
        width=width,
        class_pixels=tuple(int(n) for n in counts.sum(axis=(1, 2), dtype=np.int64)),
        cells=pack_cells(counts, num_pixels=height * width),
        **changes,
    )


def blobs(size: tuple[int, int], seed: int) -> Stored:
    """Return a mask of stone with rectangles of ceramic and of no class."""
    rng = np.random.default_rng(seed)
    mask = np.full(size, STONE, np.uint8)
    for label in (CERAMIC, IGNORE, CERAMIC, CERAMIC):
        y, x = (int(rng.integers(side)) for side in size)
        tall, wide = rng.integers(1, 60, 2)
        mask[y : y + tall, x : x + wide] = label
    return mask


@given(
    weights=st.lists(st.integers(0, 7), min_size=1, max_size=30),
    exponent=st.floats(0.05, 3),
    floor=st.floats(0.01, 1),
)
def test_sampler_weights_have_mean_one_and_a_floor(weights: list[int], exponent: float, floor: float) -> None:
    rows = [row(n, class_pixels=(part, 0, 0, 0, 0, 7 - part, 0)) for n, part in enumerate(weights)]
    found = sampler_weights(rows, spec=SamplerSpec(exponent=exponent, floor=floor), minority=[CERAMIC])
    wanted = [max((part / 7) ** exponent, floor) for part in weights]
    assert found.mean() == pytest.approx(1.0)
    assert found == pytest.approx(np.asarray(wanted) / np.mean(wanted))
    assert found.min() >= floor / np.mean(wanted) - 1e-12


def test_class_weights_are_inverse_roots_with_mean_one_over_the_classes_present() -> None:
    weights = class_weights([100, 0, 400, 0, 0, 1600, 0])
    present = weights[[0, 2, 5]]
    assert present.mean() == pytest.approx(1.0)
    assert present[0] / present[1] == pytest.approx(2.0)
    assert present[1] / present[2] == pytest.approx(2.0)
    assert weights[1] == 1.0


def test_a_very_rare_class_does_not_take_the_weight_of_others() -> None:
    weights = class_weights([100_000] * 6 + [6])
    assert weights.mean() == pytest.approx(1.0)
    assert weights.max() / weights.min() == pytest.approx(MAX_WEIGHT)
    assert weights[:6].min() > 0.4
    assert capped_classes([100_000] * 6 + [6]) == (6,)
    assert describe_capped([100_000] * 6 + [6]) is not None


@given(st.lists(st.integers(0, 10**12), min_size=7, max_size=7))
def test_only_weights_of_rare_classes_are_capped(pixels: list[int]) -> None:
    weights, capped = class_weights(pixels), capped_classes(pixels)
    present = np.asarray(pixels) > 0
    assert (weights[~present] == 1.0).all()
    if not present.any():
        assert capped == ()
        return
    assert weights[present].mean() == pytest.approx(1.0)
    assert weights[present].max() <= weights[present].min() * MAX_WEIGHT * (1 + 1e-9)
    if not capped:
        inverse = 1.0 / np.sqrt(np.asarray(pixels)[present])
        assert weights[present] == pytest.approx(inverse / inverse.mean())
        assert describe_capped(pixels) is None


def test_ceramic_is_the_minority_class_of_the_recipe() -> None:
    by_name = {"stone": 36, "metal": 18, "wood": 17, "fabric": 10, "ground": 9, "leather": 7, "ceramic": 2}
    assert minority_classes([by_name[name] for name in CLASSES]) == (CERAMIC,)


@settings(max_examples=60)
@given(
    height=st.integers(100, 500),
    width=st.integers(100, 500),
    crop=st.sampled_from([64, 128, 160, 256, 300]),
    seed=st.integers(0, 1000),
)
def test_every_minority_tile_has_three_percent_of_minority_pixels(
    height: int, width: int, crop: int, seed: int
) -> None:
    mask = blobs((height, width), seed)
    tiles = minority_tiles([painted(0, mask)], crop=crop, minority=[CERAMIC])
    assert tiles.side == max(crop, 128)
    for y, x in zip(tiles.y, tiles.x, strict=True):
        tile = mask[y : y + tiles.side, x : x + tiles.side]
        assert tile.shape == (tiles.side, tiles.side)
        assert (tile == CERAMIC).mean() >= 0.03


@settings(max_examples=30)
@given(height=st.integers(100, 600), width=st.integers(100, 600), seed=st.integers(0, 1000))
def test_all_minority_tiles_are_found_for_the_crops_of_the_recipe(height: int, width: int, seed: int) -> None:
    mask = blobs((height, width), seed)
    tiles = minority_tiles([painted(0, mask)], crop=256, minority=[CERAMIC])
    corners = [(y, x) for y in range(0, height - 255, 128) for x in range(0, width - 255, 128)]
    wanted = {
        (y, x) for y, x in corners if (mask[y : y + 256, x : x + 256] == CERAMIC).sum() >= 0.03 * 256**2
    }
    assert set(zip(tiles.y.tolist(), tiles.x.tolist(), strict=True)) == wanted


def test_validation_textures_have_no_minority_tiles() -> None:
    mask = np.full((256, 256), CERAMIC, np.uint8)
    rows = [painted(n, mask, split=split) for n, split in enumerate(["train", "val", "train", "val"])]
    tiles = minority_tiles(rows, crop=128, minority=[CERAMIC])
    assert Counter(tiles.row.tolist()) == {0: 9, 2: 9}


def test_a_texture_smaller_than_a_tile_has_no_minority_tile() -> None:
    small = painted(0, np.full((100, 400), CERAMIC, np.uint8), tileable=True)
    assert len(minority_tiles([small], crop=64, minority=[CERAMIC])) == 0
    assert len(minority_tiles([], crop=64, minority=[CERAMIC])) == 0


MIXED = [painted(n, blobs((256, 256), n), split="val" if n % 5 == 4 else "train") for n in range(20)]
OTHER = [row(n, source="b", height=256, width=256, label="wood") for n in range(8)]
RARE = [row(n, source="c", height=192, width=192, class_pixels=(192**2, 0, 0, 0, 0, 0, 0)) for n in range(3)]


@settings(max_examples=40)
@given(
    share=st.floats(0, 1),
    batch=st.integers(1, 12),
    sampler=st.sampled_from([None, SamplerSpec()]),
    part=st.floats(0.1, 0.9),
)
def test_each_source_has_the_declared_share_of_tile_draws(
    share: float, batch: int, sampler: SamplerSpec | None, part: float
) -> None:
    balance = BalanceSpec(sampler=sampler, minority=("ceramic",), minority_tiles=share)
    rows = [*MIXED, *RARE]
    plan = make_plan(rows, request(mix={"a": part, "c": 1 - part}, crop=128, batch=batch, balance=balance))
    draws = plan.steps_per_epoch * batch
    for epoch in range(3):
        table = plan.table.slice(epoch * draws, draws).to_pylist()
        for source in ("a", "c"):
            own = [draw for draw in table if rows[draw["sample"]].source == source]
            in_tiles = sum(draw["minority"] for draw in own)
            assert abs(in_tiles - share * len(own)) <= 0.5 + 1e-9
            assert all(rows[draw["sample"]].split == "train" for draw in own)


def test_tile_draws_change_neither_the_size_of_an_epoch_nor_the_mix() -> None:
    rows = [*MIXED, *RARE]
    plan = make_plan(rows, request(mix={"a": 0.75, "c": 0.25}, crop=128, batch=4, balance=TILES))
    assert plan.steps_per_epoch == 5  # 16 + 3 textures
    for epoch in range(3):
        samples = plan.table["sample"].to_pylist()[epoch * 20 : (epoch + 1) * 20]
        assert Counter(rows[sample].source for sample in samples) == {"a": 15, "c": 5}


def test_a_source_without_minority_tiles_has_ordinary_draws() -> None:
    rows = [*MIXED, *OTHER]
    plan = make_plan(rows, request(mix={"a": 0.5, "b": 0.5}, crop=128, batch=8, epochs=5, balance=TILES))
    drawn = plan.table.to_pylist()
    assert not any(draw["minority"] for draw in drawn if rows[draw["sample"]].source == "b")
    assert sum(draw["minority"] for draw in drawn) == 5 * round(0.3 * 12)


def test_the_crop_of_every_minority_draw_has_three_percent_of_minority_pixels(tmp_path: Path) -> None:
    materials = [material(n, size=(300, 280), maps=("normal", "mask"), label=None) for n in range(6)]
    for number, one in enumerate(materials):
        one.maps["mask"][..., 0] = blobs((300, 280), number)
    shards = make_set(tmp_path, materials)
    plan = make_plan(
        shards.rows,
        request(mix={"test": 1.0}, crop=128, maps=("mask",), epochs=30, batch=2, balance=TILES),
    )
    drawn = [draw for draw in plan.table.to_pylist() if draw["minority"]]
    assert len({(draw["sample"], draw["y"], draw["x"]) for draw in drawn}) > 5
    for draw in drawn:
        row = shards.rows[draw["sample"]]
        assert row.split == "train"
        mask = shards.read_crop(row, Window(draw["y"], draw["x"], 128, 128), ["mask"])["mask"]
        assert (mask == CERAMIC).mean() >= 0.03


def test_a_crop_smaller_than_its_tile_is_anywhere_inside_of_it() -> None:
    mask = np.full((256, 256), STONE, np.uint8)
    mask[64:128, 64:128] = CERAMIC
    plan = make_plan([painted(0, mask)], request(crop=64, batch=1, epochs=60, balance=TILES))
    assert plan.table["minority"].to_pylist() == [False] * 60  # 30 % of one draw is none
    plan = make_plan([painted(0, mask)], request(crop=64, batch=10, epochs=60, balance=TILES))
    drawn = [draw for draw in plan.table.to_pylist() if draw["minority"]]
    assert len(drawn) == 180
    for axis in ("y", "x"):
        values = np.array([draw[axis] for draw in drawn])
        assert values.min() >= 0 and values.max() <= 64 + 128 - 64
        assert len(set(values.tolist())) > 40


def test_pixels_of_merged_classes_count_for_their_target_class() -> None:
    mask = np.random.default_rng(0).choice([CERAMIC, METAL, STONE, IGNORE], (200, 150)).astype(np.uint8)
    uniform = painted(1, np.full((70, 70), CERAMIC, np.uint8), label="ceramic")
    rows = merge_classes([painted(0, mask), uniform], {"ceramic": "stone", "wood": "metal"})
    expected = count_cells(np.where(mask == CERAMIC, STONE, mask)[..., None])
    np.testing.assert_array_equal(cells_of(rows[0]), expected)
    assert rows[0].class_pixels == tuple(expected.sum(axis=(1, 2)))
    assert rows[1].label == "stone"
    assert rows[1].class_pixels[STONE] == 70 * 70
    assert cells_of(rows[1])[STONE].sum() == 70 * 70
    weights = class_weights(np.sum([row.class_pixels for row in rows], axis=0).tolist())
    assert weights[CERAMIC] == 1.0


def test_merging_to_a_single_class_keeps_the_counts_by_cell() -> None:
    mask = np.full((100, 100), STONE, np.uint8)
    mask[:30] = CERAMIC
    (row,) = merge_classes([painted(0, mask)], {"ceramic": "stone"})
    assert row.cells == b""
    assert cells_of(row)[STONE].sum() == 100 * 100


def test_balance_statistics_use_training_textures_only() -> None:
    rows = [row(n, label=label) for n, label in enumerate(["stone"] * 8 + ["wood"] * 6 + ["ceramic"])]
    rows += [row(30 + n, label="metal", split="val") for n in range(9)]
    rows.append(painted(50, np.full((256, 256), CERAMIC, np.uint8), split="val"))
    found = balance_statistics(rows, crops=(256,))
    assert found.shares["stone"] == pytest.approx(8 / 15)
    assert found.shares["metal"] == 0.0
    assert found.minority == ("ceramic",)
    assert found.sampler.max() / found.sampler.min() == pytest.approx(1 / 0.3)
    assert found.class_weights["metal"] == 1.0
    assert found.tiles == {256: 0}
