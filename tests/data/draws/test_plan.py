from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.data.draws.drawspec import BalanceSpec, SamplerSpec
from pbrlib.data.draws.plan import PlanRequest, apportion, make_plan, share
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import DataError
from pbrlib.maps import CLASSES


def row(
    number: int, *, source: str = "a", label: str = "stone", split: str = "train", **changes: object
) -> IndexRow:
    pixels = tuple(64 * 64 if name == label else 0 for name in CLASSES)
    fields = {
        "id": f"{source}-{number}",
        "source": source,
        "family": f"{label}/x",
        "split": split,
        "label": label,
        "shard": 0,
        "first_row": 0,
        "height": 64,
        "width": 64,
        "tileable": False,
        "maps": ("normal", "albedo"),
        "class_pixels": pixels,
        "cells": b"",
        "means": {},
        "licence": "",
        "attribution": "",
    }
    return IndexRow(**{**fields, **changes})


def request(**changes: object) -> PlanRequest:
    fields = {
        "mix": {"a": 1.0},
        "crop": 32,
        "batch": 4,
        "epochs": 3,
        "maps": ("normal", "albedo"),
        "balance": BalanceSpec(),
        "seed": 7,
        "phase": "A1",
    }
    return PlanRequest(**{**fields, **changes})


ROWS = [row(n, label=CLASSES[n % 7]) for n in range(10)] + [
    row(n, source="b", label="wood") for n in range(5)
]


TILED = [
    row(n, label=CLASSES[n % 7], height=128, width=128, class_pixels=(n % 2 * 128**2, 0, 0, 0, 0, 1, 0))
    for n in range(10)
]
BALANCE = BalanceSpec(sampler=SamplerSpec(), minority=("ceramic",), minority_tiles=0.3)


def test_an_epoch_has_all_training_textures_rounded_up_to_batches() -> None:
    plan = make_plan(ROWS, request())
    assert plan.steps_per_epoch == 3  # 10 textures of source a, batches of 4
    assert plan.total_steps == 9
    assert plan.table.num_rows == 36


def test_without_a_sampler_every_texture_is_drawn_before_any_is_drawn_again() -> None:
    plan = make_plan(ROWS, request(batch=5))
    for epoch in range(3):
        drawn = plan.table["sample"].to_pylist()[epoch * 10 : (epoch + 1) * 10]
        assert sorted(drawn) == list(range(10))


def test_the_mix_is_exact_in_every_epoch() -> None:
    plan = make_plan(ROWS, request(mix={"a": 0.75, "b": 0.25}, batch=8))
    per_epoch = plan.steps_per_epoch * 8
    for epoch in range(3):
        drawn = plan.table["sample"].to_pylist()[epoch * per_epoch : (epoch + 1) * per_epoch]
        counts = Counter(ROWS[sample].source for sample in drawn)
        assert counts == {"a": per_epoch * 3 // 4, "b": per_epoch // 4}


def test_epochs_differ_and_plans_are_reproducible() -> None:
    plan, again = make_plan(ROWS, request()), make_plan(ROWS, request())
    assert plan.table.equals(again.table)
    samples = plan.table["sample"].to_pylist()
    assert samples[:12] != samples[12:24]
    assert not plan.table.equals(make_plan(ROWS, request(seed=8)).table)
    assert not plan.table.equals(make_plan(ROWS, request(phase="A2")).table)


def test_every_draw_has_its_own_seed() -> None:
    seeds = make_plan(ROWS, request()).table["seed"].to_pylist()
    assert len(set(seeds)) == len(seeds)


@given(world=st.integers(1, 4), first=st.integers(0, 9), tiles=st.booleans())
def test_ranks_together_have_every_global_batch_in_order(world: int, first: int, tiles: bool) -> None:
    plan = make_plan(TILED if tiles else ROWS, request(balance=BALANCE if tiles else BalanceSpec()))
    assert any(plan.table["minority"].to_pylist()) == tiles
    parts = [plan.rows_of(rank=rank, world=world, first_step=first) for rank in range(world)]
    together = pa.concat_tables(parts).sort_by([("step", "ascending"), ("position", "ascending")])
    assert together.equals(plan.table.slice(first * 4).combine_chunks())
    for rank, part in enumerate(parts):
        start, stop = share(4, rank=rank, world=world)
        assert part.num_rows == (9 - first) * (stop - start)


def test_windows_are_inside_of_textures_that_are_not_tileable() -> None:
    table = make_plan(ROWS, request(crop=48, epochs=20)).table
    for axis in ("y", "x"):
        values = np.asarray(table[axis])
        assert values.min() >= 0
        assert values.max() <= 64 - 48
        assert len(set(values.tolist())) > 8


def test_windows_of_tileable_textures_start_anywhere() -> None:
    rows = [replace(one, tileable=True) for one in ROWS]
    values = np.asarray(make_plan(rows, request(crop=48, epochs=40)).table["y"])
    assert values.max() > 64 - 48
    assert values.max() < 64


def test_small_textures_are_usable_only_if_tileable() -> None:
    rows = [row(0), row(1, tileable=True), row(2, maps=("normal",)), row(3, split="val")]
    plan = make_plan(rows, request(crop=128))
    assert set(plan.table["sample"].to_pylist()) == {1}
    assert plan.left_out == {"smaller than 128 px and not tileable": 1, "no albedo": 1}


def test_a_source_without_a_usable_texture_is_an_error_with_reasons() -> None:
    with pytest.raises(DataError, match=r"phases\.A1\.data\.c: no usable training texture.*a, b"):
        make_plan(ROWS, request(mix={"c": 1.0}))


def test_the_sampler_draws_rare_classes_more_often() -> None:
    rows = [row(n, label="stone") for n in range(60)] + [row(60 + n, label="ceramic") for n in range(4)]
    rows += [row(70 + n, label="wood") for n in range(60)]
    balanced = make_plan(rows, request(balance=BalanceSpec(sampler=SamplerSpec()), epochs=200)).table
    drawn = np.asarray(balanced["sample"])
    rare = np.mean((drawn >= 60) & (drawn < 64))
    # Ceramic weighs 1, the others the floor of 0.3.
    assert rare == pytest.approx(4 / (4 + 120 * 0.3), rel=0.05)


@given(
    total=st.integers(0, 500),
    shares=st.dictionaries(st.text(min_size=1), st.floats(0.01, 10), min_size=1, max_size=6),
)
def test_apportioned_counts_sum_to_the_total(total: int, shares: dict[str, float]) -> None:
    counts = apportion(total, shares)
    assert sum(counts.values()) == total
    for name, count in counts.items():
        assert abs(count - total * shares[name] / sum(shares.values())) < 1 + 1e-9
