"""Tests of several sets opened as one: equal pixels, in an order that does not depend on the command line."""

from __future__ import annotations

import itertools
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pbrlib.data.draws.balance import BalanceSpec
from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.plan import PlanRequest, make_plan
from pbrlib.data.materials.material import Material
from pbrlib.data.shards.dataset import DataSet
from pbrlib.data.shards.dataspec import DataPlace, DataSpec
from pbrlib.data.shards.manifest import load_manifest
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.tilecache import TileCache
from pbrlib.data.shards.union import open_data, read_fingerprint
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.errors import DataError
from pbrlib.train.runtime import LocalRuntime
from pbrlib.train.runtimespec import Selection
from tests.data.shards.materials import material

MAPS = ("albedo", "height")


def made(root: Path, *materials: Material, split: str = "train") -> Path:
    """Write a set of two shards: the first material in one, the others in the other."""
    shards = [
        write_shard(root / shard_name(version=1, ordinal=n), group, split_for=lambda one: split)
        for n, group in enumerate((materials[:1], materials[1:]))
    ]
    infos, rows = zip(*shards, strict=True)
    publish(root, shards=infos, rows=rows, previous=None)
    return root


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write three sets with one source each and several sizes; their shards have the same names."""
    root = tmp_path_factory.mktemp("sets")
    return [
        made(root / name, *(replace(material(n), source=name) for n in numbers))
        for name, numbers in (("a", range(3)), ("b", range(3, 6)), ("c", range(6, 9)))
    ]


def spec(*places: Path | DataPlace) -> DataSpec:
    return DataSpec(tuple(one if isinstance(one, DataPlace) else DataPlace(str(one)) for one in places))


def by_id(data: DataSet) -> dict[str, dict[str, np.ndarray]]:
    return {row.id: data.read_whole(row, MAPS) for row in data.rows}


def batches(data: DataSet, *, world: int) -> list[RawBatch]:
    """Return the batches of all ranks, in the order of ranks for each step."""
    request = PlanRequest(
        mix={"a": 0.5, "b": 0.25, "c": 0.25},
        crop=64,
        batch=4,
        epochs=2,
        maps=MAPS,
        balance=BalanceSpec(),
        seed=1,
        phase="S0",
    )
    plan = make_plan(data.rows, request)
    ranks = [
        LocalRuntime(
            shards=data,
            directory=Path("unused"),
            selection=Selection(metric="m", mode="min"),
            device=torch.device("cpu"),
            rank=rank,
            world_size=world,
        ).batches(plan, maps=MAPS, first_step=0)
        for rank in range(world)
    ]
    return [batch for step in zip(*ranks, strict=True) for batch in step]


def test_materials_equal_those_of_their_own_sets(sets: list[Path], tmp_path: Path) -> None:
    alone = {id_: maps for folder in sets for id_, maps in by_id(ShardSet.open(folder)).items()}
    cache = TileCache(tmp_path, max_bytes=2**30, keep_free=0)
    data = open_data(spec(*sets), cache=cache)
    assert {row.source for row in data.rows} == {"a", "b", "c"}
    for found in (
        by_id(open_data(spec(*sets))),
        by_id(data),
        by_id(data),
        by_id(pickle.loads(pickle.dumps(data))),
    ):
        assert found.keys() == alone.keys()
        for id_, name in itertools.product(alone, MAPS):
            assert np.array_equal(found[id_][name], alone[id_][name]), (id_, name)
    assert cache.used_bytes > 0


def test_draws_of_several_sets_in_one_read_keep_their_order(sets: list[Path]) -> None:
    data = open_data(spec(*sets))
    rows = [data.rows[number] for number in (8, 0, 4, 1, 7)]
    column = data.read_columns(rows, [[0, 1]] * len(rows), ["albedo"])["albedo"].to_pylist()
    for row, blobs in zip(rows, column, strict=True):
        (own,) = [one for one in map(ShardSet.open, sets) if row.id in {other.id for other in one.rows}]
        (its,) = [one for one in own.rows if one.id == row.id]
        assert blobs == own.read_columns([its], [[0, 1]], ["albedo"])["albedo"].to_pylist()[0]


def test_draws_do_not_depend_on_the_order_of_sets_or_workers(sets: list[Path]) -> None:
    wanted = open_data(spec(*sets))
    for places in itertools.permutations(sets):
        found = open_data(spec(*places))
        assert (found.rows, found.fingerprint) == (wanted.rows, wanted.fingerprint)
    one, two = batches(wanted, world=1), batches(wanted, world=2)
    assert {id_ for batch in one for id_ in batch.ids} == {row.id for row in wanted.rows}
    assert [id_ for batch in one for id_ in batch.ids] == [id_ for batch in two for id_ in batch.ids]
    for name in MAPS:
        whole = torch.cat([batch.maps[name] for batch in one])
        assert torch.equal(whole, torch.cat([batch.maps[name] for batch in two]))


def test_the_fingerprint_depends_on_names_and_sets(
    sets: list[Path],
) -> None:
    own = load_manifest(sets[0]).fingerprint
    named = DataPlace(str(sets[0]), "skyrim")
    assert open_data(spec(sets[0])).fingerprint == own
    assert open_data(spec(DataPlace(str(sets[0]), "a"))).fingerprint == own, (
        "the source has the name a already"
    )
    others = [spec(named), spec(*sets[:2]), spec(named, sets[1]), spec(*sets)]
    prints = [open_data(one).fingerprint for one in others]
    assert len({own, *prints}) == 5
    assert [read_fingerprint(one) for one in others] == prints, "manifests are sufficient"


def test_a_name_is_the_source_of_all_materials_of_a_set(sets: list[Path]) -> None:
    data = open_data(spec(DataPlace(str(sets[0]), "skyrim"), DataPlace(str(sets[1]), "skyrim"), sets[2]))
    assert {(row.id in {"m6", "m7", "m8"}, row.source) for row in data.rows} == {
        (True, "c"),
        (False, "skyrim"),
    }


def test_one_name_for_a_set_of_several_sources_is_refused(tmp_path: Path) -> None:
    both = made(tmp_path / "both", material(0), replace(material(1), source="other"))
    with pytest.raises(DataError, match=r"a set of 2 sources \(other, test\).*--source skyrim=other"):
        open_data(spec(DataPlace(str(both), "skyrim")))


def test_a_material_in_two_sets_is_refused(sets: list[Path], tmp_path: Path) -> None:
    copy = made(tmp_path / "copy", *map(material, (9, 1, 2)))
    with pytest.raises(DataError, match=rf"--data {copy}: got m1 and 1 more, which {sets[0]} has too"):
        open_data(spec(*sets, copy))


def test_a_family_in_both_splits_of_two_sets_is_refused(sets: list[Path], tmp_path: Path) -> None:
    kin = made(tmp_path / "kin", material(10), replace(material(11), family="family1"), split="val")
    with pytest.raises(DataError, match=rf"{kin}: got the family family1 for val, but {sets[0]} has it"):
        open_data(spec(*sets, kin))


@pytest.mark.parametrize(
    ("field", "words"),
    [("class_pixels", "classes"), ("normal_convention", "normals"), ("colour_space", "colour")],
)
def test_sets_of_different_formats_are_refused(
    sets: list[Path], tmp_path: Path, field: str, words: str
) -> None:
    other = made(tmp_path / "other", material(10), material(11))
    content = json.loads((other / "manifest.json").read_text())
    value = content[field]
    content[field] = dict(reversed(value.items())) if isinstance(value, dict) else f"not {value}"
    del content["sha256"]
    (other / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"--data {other}: got other {words}.*Prepare both with one version"):
        open_data(spec(sets[0], other))
