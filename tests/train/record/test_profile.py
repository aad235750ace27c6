"""Tests that profiling writes traces and does not change the training."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.run import launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.train.checkpoint.players import weights_file
from pbrlib.train.record.profile import PROFILE
from tests.train.phases import job_of

Train = Callable[..., Path]


@pytest.fixture
def train(shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path) -> Train:
    """Eight steps, two segments of four; returns the folder of the phase."""

    def trained(name: str, **runtime: Any) -> Path:
        runs = tmp_path / name
        job = job_of(albedo_curriculum, "A1", shards=shard_set, donors=trained_runs, runs=runs, **runtime)
        return launch_local(job)

    return trained


def events(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt") as text:
        found: list[dict[str, Any]] = json.load(text)["traceEvents"]
    return found


def steps(found: list[dict[str, Any]]) -> int:
    return len({one["name"] for one in found if one.get("name", "").startswith("ProfilerStep#")})


def test_a_profiled_phase_has_the_same_weights_and_writes_a_trace(train: Train) -> None:
    plain, profiled = train("plain"), train("profiled", profile_steps=3)
    assert weights_file(plain).read_bytes() == weights_file(profiled).read_bytes()
    assert not (plain.parent / PROFILE).exists()
    (trace,) = (profiled.parent / PROFILE).iterdir()
    assert trace.name == "rank0-steps-4-6.trace.json.gz", "no snapshot of memory without a GPU"
    found = events(trace)
    assert steps(found) == 3
    names = {one.get("name") for one in found}
    assert {"aten::conv2d", "autograd::engine::evaluate_function: ConvolutionBackward0"} <= names
    assert "[memory]" in names, "what operators take and give back"


def test_a_trace_ends_with_the_phase(train: Train) -> None:
    best = train("long", profile_steps=100)
    (trace,) = (best.parent / PROFILE).iterdir()
    assert trace.name == "rank0-steps-4-8.trace.json.gz"
    assert steps(events(trace)) >= 5


@pytest.mark.gpu
def test_on_a_gpu_a_memory_snapshot_is_written_beside_the_trace(train: Train) -> None:
    best = train("gpu", profile_steps=2, device="cuda")
    trace, snapshot = sorted((best.parent / PROFILE).iterdir(), reverse=True)
    assert any(one.get("cat") == "kernel" for one in events(trace))
    content = pickle.loads(snapshot.read_bytes())
    assert content["segments"] and any(content["device_traces"])
