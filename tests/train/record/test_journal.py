"""Tests that a follower of a journal gets each complete line of the current attempt once."""

from __future__ import annotations

from pathlib import Path

from pbrlib import storage
from pbrlib.train.record.journal import METRICS, Journal


def steps(tail: storage.LineTail) -> list[int]:
    return [line["step"] for line in tail.lines()]


def test_a_tail_starts_at_its_opening_and_ignores_an_unfinished_line(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    assert steps(storage.follow_lines(tmp_path / "not yet" / METRICS)) == []
    path.write_text('{"step": 1}\n')
    tail = storage.follow_lines(tmp_path / METRICS)
    assert steps(tail) == []
    with path.open("a") as file:
        file.write('{"step": 2}\n{"step": 3}\n{"st')
        file.flush()
        assert steps(tail) == [2, 3]
        file.write('ep": 4}\n')
    assert steps(tail) == [4]
    assert steps(tail) == []


def test_an_incomplete_line_is_skipped(tmp_path: Path) -> None:
    tail = storage.follow_lines(tmp_path / METRICS)
    (tmp_path / METRICS).write_text('{"step": 1}\n{"st\n{"step": 2}\n')
    assert steps(tail) == [1, 2]
    assert steps(storage.follow_lines(tmp_path / METRICS)) == [], "it opens behind such a line, too"


def test_a_journal_replaced_by_a_resumed_attempt_is_read_from_its_start(tmp_path: Path) -> None:
    with Journal(tmp_path, first_step=0) as journal:
        tail = storage.follow_lines(tmp_path / METRICS)
        for step in (1, 2, 3):
            journal.scalars("step", step=step, values={})
    assert steps(tail) == [1, 2, 3]
    with Journal(tmp_path, first_step=2) as journal:
        journal.scalars("step", step=3, values={})
    assert steps(tail) == [1, 2, 3], "the step that was lost, and those that stood before it"
