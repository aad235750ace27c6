from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from pbrlib.curriculum.run import carry_out, launch_local, resolve
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.train.checkpoint.state import read_state
from pbrlib.train.runtimespec import RuntimeSpec
from tests.train.phases import difference, job_of, still


def trained(
    curriculum: Curriculum, phase: str, *, shards: ShardSet, donors: Path, runs: Path, **runtime: object
) -> Path:
    return launch_local(job_of(curriculum, phase, shards=shards, donors=donors, runs=runs, **runtime))


def test_accumulated_micro_batches_train_like_the_full_batch(
    shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    given = {"shards": shard_set, "donors": trained_runs}
    whole = trained(albedo_curriculum, "A1", runs=tmp_path / "whole", **given)
    parts = trained(albedo_curriculum, "A1", runs=tmp_path / "parts", batch_per_device=4, **given)
    # 6 samples in micro-batches of 3 and 3; the other learning rate shows what a real difference is.
    other = albedo_curriculum.phases["A1"]
    slower = other.model_copy(update={"optimizer": other.optimizer.model_copy(update={"lr": 0.9e-3})})
    changed = albedo_curriculum.model_copy(update={"phases": {"A1": slower}})
    control = trained(changed, "A1", runs=tmp_path / "control", **given)
    assert difference(whole, parts) < 0.2 * difference(whole, control)
    assert read_state(parts).metrics == pytest.approx(read_state(whole).metrics, abs=2e-4)
    assert read_state(parts).fingerprint != read_state(whole).fingerprint


def test_bf16_and_channels_last_give_about_the_same_weights(
    shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    given = {"shards": shard_set, "donors": trained_runs}
    plain = trained(albedo_curriculum, "A1", runs=tmp_path / "plain", **given)
    fast = trained(
        albedo_curriculum, "A1", runs=tmp_path / "fast", precision="bf16", channels_last=True, **given
    )
    name = "val/all/albedo/l1"
    assert read_state(fast).metrics[name] == pytest.approx(read_state(plain).metrics[name], rel=0.05)
    assert difference(plain, fast) > 0


def test_convolutions_in_fp32_are_not_rounded_to_tf32(
    shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    torch.backends.cudnn.allow_tf32 = True
    trained(albedo_curriculum, "A1", runs=tmp_path, shards=shard_set, donors=trained_runs)
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.slow
def test_a_compiled_network_gives_about_the_same_weights(
    shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    given = {"shards": shard_set, "donors": trained_runs}
    plain = trained(albedo_curriculum, "A1", runs=tmp_path / "plain", **given)
    fast = trained(albedo_curriculum, "A1", runs=tmp_path / "fast", compile=True, **given)
    name = "val/all/albedo/l1"
    assert read_state(fast).metrics[name] == pytest.approx(read_state(plain).metrics[name], rel=0.02)


def test_the_journal_names_loss_terms_rates_and_throughput(
    shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    best = trained(albedo_curriculum, "A1", shards=shard_set, donors=trained_runs, runs=tmp_path)
    lines = [json.loads(line) for line in (best.parent / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["kind"] == "step"][-1]
    assert last["step"] == last["total_steps"] == 8
    assert last["seconds_left"] == 0
    assert {"train/loss", "train/l1", "train/ms_ssim", "samples_per_s", "input_stall"} <= last.keys()
    assert last["rate/base"] == pytest.approx(1e-4)
    validated = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in validated] == [4, 8]
    assert validated[0]["val/all/albedo/l1"] == validated[0]["val/generated/albedo/l1"]
    assert last["gradient_norm"] > 0
    assert validated[0]["val/all/albedo/loss"] > 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(best.parent / "tensorboard")).Reload().Tags()["scalars"]
    assert {"gradient_norm", "val/all/albedo/loss", "train/loss"} <= set(shown)


def test_a_later_phase_starts_from_the_best_weights_of_the_earlier_one(
    shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    first = albedo_curriculum.phases["A1"]
    both = albedo_curriculum.model_copy(
        update={"phases": {"A1": first, "A2": still(first, starts_from="A1", epochs=1)}}
    )
    runtime = RuntimeSpec(workers=1)
    for phase in ("A1", "A2"):
        job = resolve(
            both, phase, shards=shard_set, runs=trained_copy(trained_runs, tmp_path), runtime=runtime
        )
        done = carry_out(job, launch_local)
        if phase == "A1":
            expected = job.run_directory.path / done.checkpoint
    reached = job.run_directory.path / done.checkpoint
    assert job.starts_from == expected
    assert difference(expected, reached) < 1e-9


def trained_copy(runs: Path, folder: Path) -> Path:
    """The session's runs without their albedo, so that this test trains its own."""
    own = folder / "runs"
    if not own.exists():
        shutil.copytree(runs / "segformer", own / "segformer")
    return own
