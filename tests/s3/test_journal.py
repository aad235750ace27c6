"""The journal of a phase in a bucket: what was sent is whole, and who follows it sees each line once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pbrlib import storage
from pbrlib.errors import DataError
from pbrlib.runs.walltime import read_account
from pbrlib.storage import growing, lines, s3writing
from pbrlib.train.clock import Clock
from pbrlib.train.record.journal import METRICS, Journal
from pbrlib.train.record.timesheet import TIME_SHEET, enter_time
from tests.s3_server import BROKEN, FaultyServer


@pytest.fixture
def directory(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(lines, "POLL_S", 0.0)
    return storage.to_path(f"{bucket}/runs/albedo/A1-0")


def steps(directory: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (directory / METRICS).read_text().splitlines()]


def test_what_is_sent_can_be_followed_and_is_dropped_beyond_the_step_that_a_resumed_run_begins_at(
    directory: Path,
) -> None:
    tail = storage.follow_lines(directory / METRICS)
    with pytest.raises(KeyError), Journal(directory, first_step=0) as first:
        first.scalars("step", step=1, values={"loss": 1.0})
        assert tail.lines() == []
        first.send()
        assert [line["step"] for line in tail.lines()] == [1]
        first.scalars("step", step=2, values={"loss": 1.0})
        raise KeyError
    assert steps(directory) == [1, 2]
    assert [line["step"] for line in tail.lines()] == [2]
    with Journal(directory, first_step=1) as second:
        assert steps(directory) == [1]
        assert [line["step"] for line in tail.lines()] == [1], "begun anew, read anew"
        second.scalars("step", step=2, values={"loss": 2.0})
    assert steps(directory) == [1, 2]
    assert len(list((directory / "tensorboard").iterdir())) == 2, "the events of both attempts"


def test_who_follows_a_journal_that_began_anew_and_grew_past_it_loses_nothing_for_good(
    directory: Path,
) -> None:
    (directory / METRICS).write_text('{"step": 1}\n{"step": 2}\n')
    tail = storage.follow_lines(directory / METRICS)
    (directory / METRICS).write_text('{"step": 1, "loss": 0.123456}\n{"step": 2}\n')
    assert tail.lines() == []
    assert [line["step"] for line in tail.lines()] == [1, 2]


def test_a_bucket_that_is_away_between_two_checkpoints_costs_nothing(
    directory: Path, s3: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "SEND_EVERY_S", 0.0)
    monkeypatch.setattr(growing, "SHARE_OF_TIME", float("inf"))
    enter_time(directory, "launched")
    with Journal(directory, first_step=0) as written:
        tail = storage.follow_lines(directory / METRICS)
        with s3.failing("PUT", METRICS, BROKEN) as fault, s3.failing("GET", METRICS, BROKEN):
            written.scalars("step", step=1, values={})
            written.account(Clock(), step=1, at_once=True)
            assert fault.met == 1
            assert tail.lines() == []
            with pytest.raises(DataError, match=r"metrics\.jsonl"):
                written.send()
        written.account(Clock(), step=1, at_once=True)
        assert [line["step"] for line in tail.lines()] == [1]
    enter_time(directory, "ended")
    lines = [json.loads(line)["kind"] for line in (directory / TIME_SHEET).read_text().splitlines()]
    assert lines == ["launched", "begun", "spent", "ended"]
    assert read_account(directory) is not None


def test_a_large_journal_is_sent_less_often(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("pbrlib.storage.growing.time.monotonic", lambda: clock[0])
    sender = storage.growing_folder(directory)
    (sender.path / METRICS).write_text("{}\n")

    def slow(*given: object) -> None:
        clock[0] += 3.0

    monkeypatch.setattr(s3writing, "upload", slow)
    sender.send()
    clock[0] = 3.0 + 59.0
    assert not sender.is_due
    clock[0] = 3.0 + 60.0
    assert sender.is_due, "three seconds of a minute are a twentieth"
    sender.close()
