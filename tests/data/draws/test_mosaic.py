"""Tests of mosaics: the selection of draws, the origin of parts, and their assembly."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pbrlib.data.augment.assembly import region_map
from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.augment.pipeline import augment
from pbrlib.data.draws.batch import Batch, RawBatch, sample_hashes
from pbrlib.data.draws.collate import collate
from pbrlib.data.draws.drawspec import BalanceSpec, MosaicSpec, SamplerSpec
from pbrlib.data.draws.fetch import fetch
from pbrlib.data.draws.mosaic import Layout
from pbrlib.data.draws.plan import make_plan
from pbrlib.maps import IGNORE
from tests.data.augment.test_pipeline import EVERYTHING, raw_batch
from tests.data.draws.test_plan import ROWS, request, row
from tests.data.shards.materials import make_set, material

BOTH = {"a": 0.5, "b": 0.5}
SPEC = MosaicSpec(sources=("b",), two=0.3, four=0.15)
REGIONS = {
    Layout.SINGLE: [(slice(None), slice(None))],
    Layout.SIDE_BY_SIDE: [(slice(None), slice(0, 8)), (slice(None), slice(8, 16))],
    Layout.STACKED: [(slice(0, 8), slice(None)), (slice(8, 16), slice(None))],
    Layout.QUARTERS: [
        (slice(0, 8), slice(0, 8)),
        (slice(0, 8), slice(8, 16)),
        (slice(8, 16), slice(0, 8)),
        (slice(8, 16), slice(8, 16)),
    ],
}


@settings(max_examples=50)
@given(
    two=st.floats(0, 0.6),
    four=st.floats(0, 0.4),
    batch=st.integers(1, 16),
    steps=st.integers(1, 20),
    part=st.floats(0.1, 0.9),
)
def test_mosaics_have_the_declared_shares_of_their_sources(
    two: float, four: float, batch: int, steps: int, part: float
) -> None:
    plan = make_plan(
        ROWS,
        request(
            mix={"a": 1 - part, "b": part},
            batch=batch,
            steps_per_epoch=steps,
            mosaic=MosaicSpec(sources=("b",), two=two, four=four),
        ),
    )
    draws = plan.table.to_pylist()
    for epoch in range(3):
        of_epoch = draws[epoch * batch * steps : (epoch + 1) * batch * steps]
        own = [draw for draw in of_epoch if ROWS[draw["sample"]].source == "b"]
        parts = Counter(Layout(draw["layout"]).parts for draw in own)
        assert abs(parts[2] - two * len(own)) <= 0.5 + 1e-9
        # Where rounding would take more draws than there are, the quarters give way.
        assert abs(parts[4] - four * len(own)) <= (0.5 if two + four < 0.9 else 1.0) + 1e-9
        others = [draw for draw in of_epoch if ROWS[draw["sample"]].source == "a"]
        assert not any(draw["layout"] for draw in others)
        assert all(len(draw["partners"]) == Layout(draw["layout"]).parts - 1 for draw in of_epoch)


def test_halves_are_side_by_side_or_stacked_equally_often() -> None:
    spec = MosaicSpec(sources=("a",), two=1.0, four=0.0)
    layouts = Counter(make_plan(ROWS, request(epochs=100, mosaic=spec)).table["layout"].to_pylist())
    assert set(layouts) == {Layout.SIDE_BY_SIDE, Layout.STACKED}
    assert min(layouts.values()) > 0.44 * sum(layouts.values())


def test_partners_are_drawn_evenly_from_usable_training_textures() -> None:
    rows = [*ROWS, row(0, source="c"), row(1, source="c", split="val"), row(2, source="c", maps=("normal",))]
    spec = MosaicSpec(sources=("b", "c"), two=0.0, four=1.0)
    mix = {"a": 0.2, "b": 0.6, "c": 0.2}
    plan = make_plan(rows, request(mix=mix, batch=50, epochs=40, mosaic=spec))
    partners = [part for draw in plan.table.to_pylist() for part in draw["partners"]]
    counts = Counter(rows[part["sample"]].id for part in partners)
    assert set(counts) == {"b-0", "b-1", "b-2", "b-3", "b-4", "c-0"}
    assert min(counts.values()) > 0.8 * len(partners) / 6
    corners = [part[axis] for part in partners for axis in ("y", "x")]
    assert min(corners) == 0 and max(corners) == 64 - 32


def test_every_part_has_its_own_seed() -> None:
    draws = make_plan(ROWS, request(mix=BOTH, epochs=20, mosaic=SPEC)).table.to_pylist()
    seeds = [part["seed"] for draw in draws for part in (draw, *draw["partners"])]
    assert len(seeds) > len(draws)
    assert len(set(seeds)) == len(seeds)


def test_mosaics_change_no_other_column_of_a_plan() -> None:
    plain = make_plan(ROWS, request(mix=BOTH)).table
    mixed = make_plan(ROWS, request(mix=BOTH, mosaic=SPEC)).table
    columns = [name for name in plain.column_names if name not in ("layout", "partners")]
    assert mixed.select(columns).equals(plain.select(columns))
    assert not any(plain["layout"].to_pylist())
    assert make_plan(ROWS, request(mix=BOTH, mosaic=SPEC)).table.equals(mixed)


def test_minority_tiles_do_not_become_mosaics() -> None:
    rows = [row(n, height=128, width=128, class_pixels=(128**2, 0, 0, 0, 0, 0, 0)) for n in range(5)]
    balance = BalanceSpec(minority=("ceramic",), minority_tiles=0.4)
    spec = MosaicSpec(sources=("a",), two=0.3, four=0.3)
    plan = make_plan(rows, request(batch=10, epochs=20, balance=balance, mosaic=spec))
    drawn = Counter((draw["minority"], Layout(draw["layout"]).parts) for draw in plan.table.to_pylist())
    assert drawn == {(True, 1): 20 * 4, (False, 2): 20 * 3, (False, 4): 20 * 3}


def test_shares_over_one_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"two \+ four: got 1\.2; expected at most 1"):
        MosaicSpec(sources=("a",), two=0.7, four=0.5)


def mosaic_batch(*layouts: Layout, size: int = 16) -> RawBatch:
    raw = raw_batch(sum(layout.parts for layout in layouts), size=size)
    return replace(raw, layouts=layouts)


ALL = (Layout.QUARTERS, Layout.SINGLE, Layout.STACKED, Layout.SIDE_BY_SIDE)


def test_each_part_of_a_mosaic_equals_its_single_crop() -> None:
    raw = mosaic_batch(*ALL)
    batch = augment(raw, EVERYTHING, device="cpu")
    alone = augment(replace(raw, layouts=None), EVERYTHING, device="cpu")
    assert len(raw) == len(batch) == 4
    assert batch.regions is not None
    first = 0
    for number, layout in enumerate(ALL):
        for part, (rows, columns) in enumerate(REGIONS[layout]):
            for name, x in batch.maps.items():
                shown, own = x[number][..., rows, columns], alone.maps[name][first + part]
                assert torch.equal(shown, own[..., rows, columns]), (layout, part, name)
            assert batch.regions[number, 0, rows, columns].unique().tolist() == [part]
        first += layout.parts


def test_a_mosaic_has_maps_and_class_of_all_its_parts() -> None:
    raw = mosaic_batch(*ALL)
    raw.present["height"][[1, 4]] = False
    raw.classes[:] = torch.tensor([3, 3, 3, 3, 1, 2, 2, 2, 5])
    batch = augment(raw, AugmentSpec(), device="cpu")
    assert batch.ids[0] == "material-0+material-1+material-2+material-3"
    assert batch.ids[1:3] == ("material-4", "material-5+material-6")
    assert batch.present["height"].tolist() == [False, False, True, True]
    assert batch.classes.tolist() == [3, 1, 2, IGNORE]
    assert batch.seeds.tolist() == raw.seeds[[0, 4, 5, 7]].tolist()
    assert batch.maps["mask"].shape == (4, 16, 16)
    assert bool(batch.valid.all())


@settings(max_examples=20)
@given(
    layouts=st.lists(st.sampled_from(Layout), min_size=1, max_size=6),
    parts=st.integers(1, 7),
    size=st.sampled_from([16, 33]),
)
def test_a_draw_does_not_depend_on_other_draws_of_the_batch(
    layouts: list[Layout], parts: int, size: int
) -> None:
    raw = mosaic_batch(*layouts, size=size)
    split = [augment(part, EVERYTHING, device="cpu") for part in raw.split(parts)]
    assert [len(batch) for batch in split] == [len(part) for part in raw.split(parts)]
    whole = sample_hashes(augment(raw, EVERYTHING, device="cpu"))
    assert [name for batch in split for name in sample_hashes(batch)] == whole
    assert sample_hashes(Batch.concatenate([batch for batch in split if len(batch)])) == whole


def test_the_hash_of_a_crop_does_not_depend_on_mosaics_in_the_batch() -> None:
    raw = mosaic_batch(Layout.QUARTERS, Layout.SINGLE)
    beside = sample_hashes(augment(raw, EVERYTHING, device="cpu"))[1]
    (part,) = replace(raw, layouts=None).split(5)[4:]
    assert part.ids == ("material-4",)
    assert sample_hashes(augment(part, EVERYTHING, device="cpu")) == [beside]


def test_the_hash_depends_on_the_regions() -> None:
    raw = mosaic_batch(Layout.STACKED)
    for x in raw.maps.values():
        x[:] = x[:1, :, :1, :1]
    batch = augment(raw, AugmentSpec(), device="cpu")
    moved = replace(
        batch, regions=region_map([Layout.SIDE_BY_SIDE], size=(16, 16), device=torch.device("cpu"))
    )
    assert sample_hashes(batch) != sample_hashes(moved)


def test_collated_mosaics_equal_the_plan(tmp_path: Path) -> None:
    shards = make_set(tmp_path, [material(n, size=(96, 80)) for n in range(6)])
    spec = MosaicSpec(sources=("test",), two=0.4, four=0.4)
    plan = make_plan(shards.rows, request(mix={"test": 1.0}, maps=("normal",), batch=5, crop=32, mosaic=spec))
    maps = ("albedo", "height")
    drawn = plan.table.slice(0, 5)
    raw = collate(fetch(drawn, shards, maps), shards, maps=maps)
    assert raw.layouts is not None
    assert list(raw.layouts) == drawn["layout"].to_pylist()
    parts = [part for draw in drawn.to_pylist() for part in (draw, *draw["partners"])]
    assert raw.seeds.tolist() == [part["seed"] for part in parts]
    for number, part in enumerate(parts):
        stored = material(int(raw.ids[number][1:]), size=(96, 80)).maps["height"][..., 0]
        assert shards.rows[part["sample"]].id == raw.ids[number]
        rolled = torch.from_numpy(stored.astype("int32")).roll((-part["y"], -part["x"]), (0, 1))
        assert torch.equal(raw.maps["height"][number, 0].int(), rolled[:32, :32])


@pytest.mark.parametrize("world", [2, 3, 5])
def test_global_batches_do_not_depend_on_the_number_of_workers(tmp_path: Path, world: int) -> None:
    names = ("normal", "albedo", "roughness", "metallic", "ao", "mask")
    shards = make_set(tmp_path, [material(n, size=(160, 160), maps=names) for n in range(8)])
    balance = BalanceSpec(sampler=SamplerSpec(), minority=("metal",), minority_tiles=0.2)
    spec = MosaicSpec(sources=("test",), two=0.3, four=0.2)
    plan = make_plan(
        shards.rows,
        request(mix={"test": 1.0}, maps=names, batch=5, crop=48, epochs=2, balance=balance, mosaic=spec),
    )

    def hashes(rank: int, of: int) -> list[list[str]]:
        """Return the samples of one rank for each step, after augmentation."""
        table = plan.rows_of(rank=rank, world=of, first_step=0)
        steps = [table.filter(pc.field("step") == step) for step in range(plan.total_steps)]
        raws = [collate(fetch(draws, shards, names), shards, maps=names) for draws in steps]
        return [sample_hashes(augment(raw, EVERYTHING, device="cpu")) for raw in raws]

    ranks = [hashes(rank, world) for rank in range(world)]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == hashes(0, 1)


def test_a_batch_without_mosaics_has_no_layouts(tmp_path: Path) -> None:
    shards = make_set(tmp_path, [material(n, size=(40, 40)) for n in range(6)])
    plan = make_plan(shards.rows, request(mix={"test": 1.0}, maps=("normal",), batch=2, crop=32))
    raw = collate(fetch(plan.table.slice(0, 2), shards, ("normal",)), shards, maps=("normal",))
    assert raw.layouts is None
    assert augment(raw, AugmentSpec(), device="cpu").regions is None
