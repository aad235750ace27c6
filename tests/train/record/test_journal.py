"""Who follows a journal sees whole lines, those of this attempt, each once."""

from __future__ import annotations

from pathlib import Path

from pbrlib import storage
from pbrlib.train.record.journal import METRICS, Journal


def steps(tail: storage.LineTail) -> list[int]:
    return [line["step"] for line in tail.lines()]


def test_a_tail_begins_where_it_was_opened_and_leaves_an_unfinished_line(tmp_path: Path) -> None:
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


def test_a_line_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    tail = storage.follow_lines(tmp_path / METRICS)
    (tmp_path / METRICS).write_text('{"step": 1}\n{"st\n{"step": 2}\n')
    assert steps(tail) == [1, 2]
    assert steps(storage.follow_lines(tmp_path / METRICS)) == [], "it opens behind such a line, too"


def test_a_journal_that_a_resumed_attempt_begins_anew_is_read_from_its_start(tmp_path: Path) -> None:
    with Journal(tmp_path, first_step=0) as journal:
        tail = storage.follow_lines(tmp_path / METRICS)
        for step in (1, 2, 3):
            journal.scalars("step", step=step, values={})
    assert steps(tail) == [1, 2, 3]
    with Journal(tmp_path, first_step=2) as journal:
        journal.scalars("step", step=3, values={})
    assert steps(tail) == [1, 2, 3], "the step that was lost, and those that stood before it"
