"""One worker, several workers and one process without Ray train the same network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
import torch

from pbrlib import storage
from pbrlib.curriculum.draws import phase_plan
from pbrlib.curriculum.run import PhaseJob, carry_out, launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.draws.drawspec import BalanceSpec
from pbrlib.data.draws.plan import PlanRequest, make_plan
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import DataError, NumericsError
from pbrlib.train.checkpoint.players import weights_file
from pbrlib.train.checkpoint.state import read_state
from pbrlib.train.record.journal import METRICS
from ray_jobs.fit.datasets import stream
from ray_jobs.fit.fit import launch_on_ray
from tests.damage import flip_tile
from tests.train.phases import difference, job_of, still

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def job_for(
    curriculum: Curriculum,
    phase: str,
    *,
    shards: ShardSet,
    donors: Path,
    runs: Path,
    workers: int,
    cache: Path | None = None,
) -> PhaseJob:
    # So that three workers with their streams find room on four CPUs.
    given: dict[str, Any] = {"workers": workers, "record_batches": True, "data_cpus": 0.3}
    if cache is not None:
        given["tile_cache"] = {"gib": 1, "folder": str(cache), "keep_free": 0}
    return job_of(curriculum, phase, shards=shards, donors=donors, runs=runs, **given)


def global_batches(directory: Path, *, workers: int) -> dict[int, list[Any]]:
    """The samples of every step with their hashes, in the order of the global batch."""
    steps: dict[int, list[Any]] = {}
    for rank in range(workers):
        for line in (directory / f"batches-rank{rank}.jsonl").read_text().splitlines():
            entry = json.loads(line)
            steps.setdefault(entry["step"], []).extend(entry["samples"])
    return steps


def data_executions() -> set[str]:
    """The Ray Data executions that this cluster has seen."""
    from ray.data._internal.stats import get_or_create_stats_actor

    return set(ray.get(get_or_create_stats_actor().get_datasets.remote()))


def test_one_ray_worker_with_a_tile_cache_equals_the_local_runtime_bit_for_bit(
    ray_cluster: None, shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    given = {"shards": shard_set, "donors": trained_runs, "workers": 1}
    local = job_for(albedo_curriculum, "A1", runs=tmp_path / "local", **given)
    cache = tmp_path / "cache"
    on_ray = job_for(albedo_curriculum, "A1", runs=tmp_path / "ray", cache=cache, **given)
    ours, theirs = launch_local(local), launch_on_ray(on_ray)
    assert list(cache.glob("*/*/tiles/*/[0-9]*")), "tiles were kept"
    assert weights_file(ours).read_bytes() == weights_file(theirs).read_bytes()
    assert read_state(ours).metrics == read_state(theirs).metrics


@pytest.mark.parametrize("workers", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_several_workers_equal_one_with_ratio_losses_and_uneven_batches(
    ray_cluster: None,
    shard_set: ShardSet,
    trained_runs: Path,
    metallic_curriculum: Curriculum,
    tmp_path: Path,
    workers: int,
) -> None:
    given = {"shards": shard_set, "donors": trained_runs}
    one = job_for(metallic_curriculum, "M0", runs=tmp_path / "one", workers=1, **given)
    many = job_for(metallic_curriculum, "M0", runs=tmp_path / "many", workers=workers, **given)
    ours = launch_local(one)
    before = data_executions()
    theirs = launch_on_ray(many)
    assert len(data_executions() - before) == workers, "one Ray Data execution per phase and rank"
    batches = global_batches(many.directory, workers=workers)
    assert batches == global_batches(one.directory, workers=1)
    assert [len(batches[step]) for step in range(6)] == [5] * 6
    assert one.fingerprint == many.fingerprint
    # Adam moves a weight by some 1e-3 a step whatever its gradient; where that is all rounding it may go
    # either way. The mean over all weights tells equal training from another weighting of the samples.
    assert difference(ours, theirs) < 1e-4
    metrics, reference = read_state(theirs).metrics, read_state(ours).metrics
    assert metrics == pytest.approx(reference, abs=1e-4)


@pytest.mark.slow
def test_two_workers_replace_what_is_damaged_and_count_it_together(
    ray_cluster: None, shard_folder: Path, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    root = shutil.copytree(shard_folder, tmp_path / "shards")
    shards = ShardSet.open(root)
    damaged = {row.id for row in shards.rows[:2]}  # they share a page
    flip_tile(root, shards.rows[0], "albedo")
    given = {"shards": shards, "donors": trained_runs, "runs": tmp_path / "runs", "workers": 2}
    whole = job_for(albedo_curriculum, "A1", **given)
    job = replace(whole, runtime=whole.runtime.model_copy(update={"on_bad_sample": "skip"}))
    launch_on_ray(job)
    plan = phase_plan(job.curriculum, "A1", shards.rows)
    drawn = [shards.rows[sample].id for sample in plan.table["sample"].to_pylist()]
    trained = [name for batch in global_batches(job.directory, workers=2).values() for name, _ in batch]
    assert len(trained) == len(drawn)
    assert not damaged & set(trained)
    bad = [line for line in storage.read_records(job.directory / METRICS) if line["kind"] == "bad_samples"]
    assert bad[-1]["bad_samples"] == sum(name in damaged for name in drawn)
    assert {name for line in bad for name in line["materials"]} == damaged


def test_ray_data_delivers_to_each_rank_exactly_its_rows_in_order(
    ray_cluster: None, shard_set: ShardSet
) -> None:
    rows = shard_set.rows
    maps: Sequence[str] = ("normal", "albedo", "height")
    plan = make_plan(
        rows,
        PlanRequest(
            mix={"generated": 1.0},
            crop=64,
            batch=7,
            epochs=6,
            maps=("normal",),
            seed=1,
            phase="X",
            balance=BalanceSpec(),
        ),
    )
    for rank in range(2):
        draws = plan.rows_of(rank=rank, world=2, first_step=1)
        local = 3 + rank
        batches = list(stream(draws, shard_set, maps=maps, batch=local, cpus=1.0, prefetch=2))
        assert [len(batch) for batch in batches] == [local] * (plan.total_steps - 1)
        delivered = [seed for batch in batches for seed in batch.seeds.tolist()]
        assert delivered == draws["seed"].to_pylist()
        first = draws.slice(0, 1).to_pylist()[0]
        row = rows[first["sample"]]
        whole = shard_set.read_whole(row, ["height"])["height"][..., 0]
        wanted = torch.from_numpy(whole).roll((-first["y"], -first["x"]), (0, 1))[:64, :64]
        assert torch.equal(batches[0].maps["height"][0, 0], wanted)


def test_a_loss_that_is_not_finite_stops_at_once_and_names_samples_and_terms(
    ray_cluster: None, shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    phase = albedo_curriculum.phases["A1"]
    wild = phase.model_copy(update={"optimizer": phase.optimizer.model_copy(update={"lr": 1e30})})
    curriculum = albedo_curriculum.model_copy(update={"phases": {"A1": wild}})
    job = job_for(curriculum, "A1", shards=shard_set, donors=trained_runs, runs=tmp_path, workers=2)
    with pytest.raises(NumericsError, match=r"phase A1, step \d.*not finite\. Terms: .*Samples: ") as caught:
        launch_on_ray(job)
    step = int(str(caught.value).split("step ")[1].split(":")[0])
    named = set(str(caught.value).split("Samples: ")[1].split(". ")[0].split(", "))
    batches = global_batches(job.directory, workers=2)
    assert named == {sample for sample, _ in batches[step]}, "the samples of both ranks are named"


@pytest.mark.slow
def test_a_damaged_shard_stops_at_once_and_is_named(
    ray_cluster: None, shard_folder: Path, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(shard_folder, tmp_path / "shards"))
    shards = ShardSet.open(folder)
    (path,) = (folder / "shards").glob("*.parquet")
    layout = pq.ParquetFile(path).metadata
    content = bytearray(path.read_bytes())
    # Only what the data tasks read: the albedo of materials that are trained on.
    for row in (row for row in shards.rows if row.split == "train"):
        group = layout.row_group(row.first_row * layout.num_row_groups // layout.num_rows)
        (column,) = [c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "albedo"]
        content[column.data_page_offset + column.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(content)
    job = job_for(
        albedo_curriculum, "A1", shards=shards, donors=trained_runs, runs=tmp_path / "runs", workers=1
    )
    with pytest.raises(DataError, match=path.name):
        launch_on_ray(job)


@pytest.mark.slow
def test_a_plateau_ends_a_phase_on_all_workers_and_is_recorded(
    ray_cluster: None, shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    phase = still(albedo_curriculum.phases["A1"], epochs=50, steps_per_epoch=1, plateau=2)
    curriculum = albedo_curriculum.model_copy(update={"phases": {"A1": phase}})
    job = job_for(curriculum, "A1", shards=shard_set, donors=trained_runs, runs=tmp_path, workers=2)
    done = carry_out(job, launch_on_ray)
    assert done.stopped == "plateau"
    assert [validated.step for validated in done.history] == [1, 2, 3]
    assert (tmp_path / "albedo" / done.checkpoint).is_dir()
