"""Tests that a damaged newest checkpoint is reported and its steps are repeated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pbrlib.curriculum.run import PhaseJob, launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import CheckpointError, DamagedCheckpointError
from pbrlib.runs.phasefolder import PhaseFolder
from pbrlib.train.checkpoint.players import restore, save, weights_file
from pbrlib.train.checkpoint.state import (
    SET_ASIDE,
    STATE,
    State,
    checkpoints,
    read_state,
)
from pbrlib.train.fallback import retry_without_damaged
from pbrlib.train.record.journal import METRICS
from tests.checkpoints import DECLARED, files_of, learned
from tests.damage import flip
from tests.train.phases import Killed, job_of, kill_at


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.fixture(scope="module")
def job(trained_runs: Path, shard_set: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> PhaseJob:
    """An albedo phase of eight steps with a checkpoint after every second."""
    from pbrlib.curriculum.config.load import parse_curriculum
    from tests.conftest import ALBEDO

    whole: Curriculum = parse_curriculum(ALBEDO.replace("epochs: 2", "epochs: 2\n    segment_steps: 2"))
    given = {"shards": shard_set, "donors": trained_runs, "runs": tmp_path_factory.mktemp("straight")}
    return job_of(whole, "A1", **given)


@pytest.fixture(scope="module")
def straight(job: PhaseJob) -> Path:
    """Return the best checkpoint of an uninterrupted run."""
    return launch_local(job)


@pytest.fixture(scope="module")
def broken_off(job: PhaseJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the runs directory of a run that was killed in its seventh step."""
    runs = tmp_path_factory.mktemp("broken off")
    with pytest.MonkeyPatch.context() as patch:
        kill_at(7, patch)
        with pytest.raises(Killed):
            launch_local(replace(job, runs=runs))
    return runs


@pytest.mark.parametrize(
    ("name", "harm"),
    [(STATE, flip), (files_of("albedo")[0], flip), (files_of("albedo")[1], cut)],
    ids=["state", "weights", "optimizer"],
)
def test_a_damaged_newest_checkpoint_repeats_a_segment_with_the_same_result(
    job: PhaseJob,
    straight: Path,
    broken_off: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    harm: Callable[[Path], None],
) -> None:
    harmed = replace(job, runs=shutil.copytree(broken_off, tmp_path / "runs"))
    assert [one.name for one in checkpoints(harmed.directory)] == [
        "checkpoint_00000004",
        "checkpoint_00000006",
    ]
    harm(checkpoints(harmed.directory)[-1] / name)
    best = launch_local(harmed)
    assert weights_file(best).read_bytes() == weights_file(straight).read_bytes()
    assert read_state(best) == read_state(straight)
    (said,) = caplog.messages
    assert "checkpoint_00000006 damaged, continuing from checkpoint_00000004" in said
    assert f"checkpoint_00000006/{name}" in said
    lines = [json.loads(line) for line in (harmed.directory / METRICS).read_text().splitlines()]
    (line,) = [line for line in lines if line["kind"] == "fallback"]
    assert (line["step"], line["complaint"] in said) == (4, True)
    folder = PhaseFolder(harmed.directory, "A1", select=None, done=None)
    assert folder.complaints == [line["complaint"]], "pbr runs show prints these"
    assert [entry["step"] for entry in lines if entry["kind"] == "validation"] == [2, 4, 6, 8]
    assert not list(harmed.directory.glob(f"*/{SET_ASIDE}")), "the new checkpoint has taken its place"


def test_if_all_checkpoints_are_damaged_all_are_named_and_none_is_removed(
    job: PhaseJob, broken_off: Path, tmp_path: Path
) -> None:
    harmed = replace(job, runs=shutil.copytree(broken_off, tmp_path / "runs"))
    older, newer = checkpoints(harmed.directory)
    weights, optimizer = files_of("albedo")
    cut(newer / optimizer)
    (older / weights).unlink()
    before = {path: path.stat().st_size for path in harmed.directory.rglob("checkpoint_*/**/*")}
    with pytest.raises(CheckpointError, match="got only damaged checkpoints") as caught:
        launch_local(harmed)
    for damaged in (newer / optimizer, older / weights):
        assert str(damaged) in str(caught.value)
    assert {path: path.stat().st_size for path in harmed.directory.rglob("checkpoint_*/**/*")} == before


def test_a_damaged_donor_causes_no_fallback(job: PhaseJob, broken_off: Path, tmp_path: Path) -> None:
    other = replace(job, runs=shutil.copytree(broken_off, tmp_path / "runs"))
    attempts = []

    def attempt() -> None:
        attempts.append(1)
        raise DamagedCheckpointError("elsewhere/model.safetensors: cut.")

    before = checkpoints(other.directory)
    with pytest.raises(DamagedCheckpointError, match="elsewhere"):
        retry_without_damaged(other.directory, attempt)
    assert (len(attempts), checkpoints(other.directory)) == (1, before)


def test_several_damaged_checkpoints_are_skipped_together(tmp_path: Path) -> None:
    net = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(net.parameters())
    for step in (1, 2, 3):
        state = State("A1", "f", step, 9, {}, DECLARED)
        save(tmp_path / f"checkpoint_{step:08d}", state=state, learned=learned(net, optimizer))
    flip(weights_file(tmp_path / "checkpoint_00000002"))
    (tmp_path / "checkpoint_00000003" / STATE).write_text("")

    def attempt() -> int:
        newest = checkpoints(tmp_path)[-1]
        return restore(newest, fingerprint="f", learned=learned(net, optimizer)).step

    assert retry_without_damaged(tmp_path, attempt) == 1
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint_00000001"]
    for damaged in ("checkpoint_00000002", "checkpoint_00000003"):
        assert (tmp_path / damaged / SET_ASIDE).is_file(), "what is left of it can be looked at"


def test_a_damaged_older_checkpoint_repeats_no_step_and_cannot_be_the_best(
    job: PhaseJob, broken_off: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harmed = replace(job, runs=shutil.copytree(broken_off, tmp_path / "runs"))
    older, newer = checkpoints(harmed.directory)
    flip(older / STATE)
    best = launch_local(harmed)
    (said,) = caplog.messages
    assert f"{older.name} damaged, continuing from " in said
    assert "which can no longer be the best" in said
    assert f"{older.name}/{STATE}" in said
    assert (older / SET_ASIDE).is_file(), "what is left of it can be looked at"
    last = checkpoints(harmed.directory)[-1]
    assert last.name == "checkpoint_00000008"
    assert weights_file(last).read_bytes() == weights_file(straight.parent / last.name).read_bytes()
    assert best in checkpoints(harmed.directory)
    assert newer in checkpoints(harmed.directory)


def test_every_checkpoint_of_a_training_has_correct_checksums(straight: Path) -> None:
    state = read_state(straight)
    assert state.files.keys() == {*files_of("albedo")}
    assert state.files[files_of("albedo")[0]].bytes == weights_file(straight).stat().st_size
