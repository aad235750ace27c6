"""The searcher and scheduler between Tune and the study, without a cluster."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pbrlib import storage
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.errors import NumericsError
from pbrlib.sweep.study import Configuration, Outcome, SweepStudy
from pbrlib.train.record.codestate import COMMAND
from ray_jobs.fit.fit import LostControllerError
from ray_jobs.sweep import trial
from ray_jobs.sweep.sweepjobs import Sweep
from ray_jobs.sweep.sweeprun import begin_sweep, open_sweep
from ray_jobs.sweep.trials import StudyScheduler, StudySearcher
from tests.sweep.sweeps import MIOU, write_search

LR = "phases.S0.optimizer.lr"


def opened(
    folder: Path, shards: Path, **changes: Any
) -> tuple[SweepStudy, Sweep, StudySearcher, list[Configuration]]:
    file = write_search(folder, **changes)
    work = open_sweep(
        file,
        data=DataSpec.from_location(shards),
        runs=folder / "runs",
        out=folder / "sweep",
        runtime_file=None,
        overrides=[],
    )
    study, told = begin_sweep(work), list[Configuration]()
    return study, work, StudySearcher(study, work, announce=told.append), told


def leave(work: Sweep, number: int, outcome: Outcome, *, repeat: int = 0) -> None:
    storage.write_atomic(work.folder(number, repeat) / trial.OUTCOME, json.dumps(asdict(outcome)))


def test_every_repeat_is_a_trial_in_a_folder_of_its_own_with_another_seed(
    shard_folder: Path, tmp_path: Path
) -> None:
    _, _, searcher, _ = opened(tmp_path, shard_folder, num_trials=1, repeats=2)
    first, second = searcher.suggest("a"), searcher.suggest("b")
    assert searcher.suggest("c") == StudySearcher.FINISHED
    assert first["job"].curriculum.seed + 1 == second["job"].curriculum.seed
    assert first["job"].runs != second["job"].runs
    assert first["number"] == second["number"] == 0


def test_a_trial_records_the_command_line_of_its_sweep(
    shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, searcher, _ = opened(tmp_path, shard_folder, num_trials=1)
    monkeypatch.setattr(sys, "argv", ["/bin/pbr", "tune", "search.yaml", "--out", "sweep"])
    job = searcher.suggest("a")["job"]
    recorded = json.loads((job.directory / COMMAND).read_text())
    assert recorded == {"command": ["pbr", "tune", "search.yaml", "--out", "sweep"]}


def test_an_ended_trial_is_reported_and_one_that_the_time_cut_off_continues_later(
    shard_folder: Path, tmp_path: Path
) -> None:
    study, work, searcher, told = opened(tmp_path, shard_folder, num_trials=2)
    searcher.suggest("a"), searcher.suggest("b")
    leave(work, 0, Outcome("finished", values=(0.5,)))
    searcher.on_trial_complete("a", {})
    searcher.on_trial_complete("b", {})
    assert [one.state for one in told] == ["finished"]
    again = StudySearcher(study, work, announce=told.append)
    assert again.suggest("c")["number"] == 1
    assert again.suggest("d") == StudySearcher.FINISHED


def test_a_trial_that_ended_while_nobody_looked_is_not_trained_again(
    shard_folder: Path, tmp_path: Path
) -> None:
    study, work, searcher, told = opened(tmp_path, shard_folder, num_trials=1)
    searcher.suggest("a")
    leave(work, 0, Outcome("finished", values=(0.5,)))
    again = StudySearcher(study, work, announce=told.append)
    assert again.suggest("b") == StudySearcher.FINISHED
    assert [one.state for one in told] == ["finished"]


def test_a_trial_whose_process_died_is_failed_with_a_reason(shard_folder: Path, tmp_path: Path) -> None:
    study, _, searcher, _ = opened(tmp_path, shard_folder, num_trials=1)
    searcher.suggest("a")
    searcher.on_trial_complete("a", None, error=True)
    (only,) = study.configurations()
    assert only.state == "failed" and "process died" in only.reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NumericsError("step 3: the loss is not finite."), "step 3: the loss is not finite."),
        (RuntimeError("no room"), "RuntimeError: no room"),
        (LostControllerError("albedo/A1: lost."), None),
    ],
)
def test_a_trial_leaves_why_it_failed_but_nothing_where_it_was_ended_from_outside(
    shard_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str | None,
) -> None:
    def fail(*_: object) -> None:
        raise error

    _, work, searcher, _ = opened(tmp_path, shard_folder, num_trials=1)
    monkeypatch.setattr(trial, "carry_out", fail)
    monkeypatch.setattr(trial, "SweepReportCallback", object)
    with pytest.raises(type(error)):
        trial.train_trial(searcher.suggest("a"))
    left = trial.read_outcome(work.folder(0, 0))
    assert (None if left is None else left.reason) == reason


@pytest.mark.parametrize(("step", "decision"), [(2, "STOP"), (4, "CONTINUE")])
def test_asha_stops_a_trial_but_not_at_its_last_validation(
    shard_folder: Path, tmp_path: Path, step: int, decision: str
) -> None:
    asha = {"grace": step // 2, "reduction": 2}
    study, _, searcher, _ = opened(tmp_path, shard_folder, num_trials=2, asha=asha)
    scheduler = StudyScheduler(study, searcher)
    said = []
    for trial_id, miou in (("a", 0.9), ("b", 0.1)):
        config = searcher.suggest(trial_id)
        assert config["length"] == {"total_steps": 2, "segment_steps": 2}
        config["length"]["total_steps"] = 4
        trial = SimpleNamespace(trial_id=trial_id, config=config)
        said.append(scheduler.on_trial_result(None, trial, {MIOU: miou, "step": step}))
    assert said == ["CONTINUE", decision]
    assert set(searcher.stopped) == ({"b"} if decision == "STOP" else set())
