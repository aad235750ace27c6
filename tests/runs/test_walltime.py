"""Every second of a run has one cause, whatever stopped it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.run import PhaseJob, carry_out, launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.runs.walltime import TimeAccount, WallTime, account_for, add_accounts, read_account
from pbrlib.train.record import journal
from pbrlib.train.record.timesheet import TIME_SHEET
from tests.train.phases import Killed, job_of, kill_at

Line = dict[str, Any]


def line(kind: str, at: float, **values: float) -> Line:
    return {"kind": kind, "at": at, **values}


STRAIGHT = [
    line("launched", 100.0),
    line("begun", 107.0, step=0),
    line("spent", 117.0, step=40, input=2.0),
    line("spent", 130.0, step=50, input=1.0, validation=4.0, checkpoint=3.0),
    line("ended", 132.0),
]


def test_an_undisturbed_phase_is_divided_as_its_clock_says() -> None:
    sheet = account_for(STRAIGHT)
    assert sheet.time == WallTime(steps=13, input=3, validation=4, checkpoints=3, start_up=9)
    assert sheet.time.total == sheet.last - sheet.first == 32
    assert sheet.time.goodput == 13 / 32


def test_steps_after_the_last_checkpoint_are_lost_with_the_time_to_begin_again() -> None:
    lines = [
        *STRAIGHT[:4],
        line("spent", 140.0, step=70, input=1.0),
        line("begun", 166.0, step=50),
        line("spent", 176.0, step=70),
    ]
    sheet = account_for(lines)
    assert sheet.time.lost == 10 + 26
    assert sheet.time.steps == 13 + 10
    assert sheet.time.total == 76


def test_stages_of_a_start_are_start_up_at_first_and_lost_after_a_fault() -> None:
    stages = [line("starting", 101.0, stage="workers"), line("starting", 104.0, stage="networks")]
    again = [line("starting", 135.0, stage="workers"), line("starting", 140.0, stage="networks")]
    lines = [STRAIGHT[0], *stages, *STRAIGHT[1:4], *again, line("begun", 142.0, step=50)]
    time = account_for(lines).time
    assert time == WallTime(steps=13, input=3, validation=4, checkpoints=3, start_up=7, lost=12)


def test_a_killed_command_leaves_idle_time_and_one_that_failed_leaves_lost_time() -> None:
    again = [line("launched", 500.0), line("begun", 505.0, step=50), line("spent", 515.0, step=90)]
    killed = account_for([*STRAIGHT[:4], *again]).time
    assert (killed.idle, killed.lost, killed.start_up) == (370, 0, 12)
    failed = account_for([*STRAIGHT[:4], line("stopped", 160.0), *again]).time
    assert (failed.idle, failed.lost, failed.start_up) == (340, 30, 12)
    assert failed.total == killed.total == 415


def test_a_checkpoint_older_than_the_last_loses_what_earlier_attempts_did() -> None:
    lines = [*STRAIGHT[:4], line("begun", 131.0, step=50), line("begun", 132.0, step=40)]
    assert account_for(lines).time.lost == 13 + 2


def test_a_clock_that_was_set_back_takes_nothing_away() -> None:
    sheet = account_for(
        [line("launched", 100.0), line("begun", 90.0, step=0), line("spent", 91.0, step=1, input=5)]
    )
    assert sheet.time == WallTime(input=1)


def test_between_phases_a_run_is_idle() -> None:
    sheets = [TimeAccount(50.0, 60.0, WallTime(steps=10)), TimeAccount(10.0, 20.0, WallTime(steps=10))]
    assert add_accounts(sheets) == WallTime(steps=20, idle=30)


def test_a_folder_without_a_sheet_has_no_account_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    assert read_account(tmp_path) is None
    text = "".join(json.dumps(entry) + "\n" for entry in STRAIGHT)
    (tmp_path / TIME_SHEET).write_text(text + '{"kind": "spe')
    assert read_account(tmp_path) == account_for(STRAIGHT)


@pytest.fixture
def job(trained_runs: Path, shard_set: ShardSet, albedo_curriculum: Curriculum, tmp_path: Path) -> PhaseJob:
    return job_of(albedo_curriculum, "A1", shards=shard_set, donors=trained_runs, runs=tmp_path)


def test_a_real_run_that_was_killed_accounts_for_all_of_its_time(
    job: PhaseJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "ACCOUNT_EVERY_S", 0.0)
    with monkeypatch.context() as patch:
        kill_at(6, patch)
        with pytest.raises(Killed):
            carry_out(job, launch_local)
    carry_out(job, launch_local)
    lines = [json.loads(text) for text in (job.directory / TIME_SHEET).read_text().splitlines()]
    stages = [entry["stage"] for entry in lines if entry["kind"] == "starting"]
    assert stages == ["networks", "first batch"] * 2
    kinds = [entry["kind"] for entry in lines if entry["kind"] not in ("spent", "starting")]
    assert kinds == ["launched", "begun", "stopped", "launched", "begun", "ended"]
    assert [entry["step"] for entry in lines if entry["kind"] == "begun"] == [0, 4]
    sheet = read_account(job.directory)
    assert sheet is not None
    assert sheet.time.total == pytest.approx(lines[-1]["at"] - lines[0]["at"], abs=0.01)
    for name in ("steps", "input", "validation", "checkpoints", "start_up", "lost"):
        assert getattr(sheet.time, name) > 0, name
