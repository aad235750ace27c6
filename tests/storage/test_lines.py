"""Files of lines: what is added stays, whoever adds at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pbrlib.errors import OutageError
from pbrlib.storage import s3
from pbrlib.storage.lines import append
from pbrlib.storage.paths import place


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append(path, "first\n")
    append(path, "seco")
    append(path, "third\n")
    assert path.read_text().split("\n") == ["first", "seco", "third", ""]


def test_lines_of_several_writers_all_stay(bucket: str) -> None:
    path = place(f"{bucket}/lines")

    def write(name: str) -> None:
        for number in range(3):
            append(path, f"{name}{number}\n")

    writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert sorted(path.read_text().split()) == [f"{name}{number}" for name in "abc" for number in range(3)]


def test_a_line_is_there_once_where_the_answer_to_its_put_was_lost(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, put = place(f"{bucket}/lines"), s3.write_if
    append(path, "first\n")

    def without_an_answer(address: str, data: bytes, *, etag: str | None) -> None:
        put(address, data, etag=etag)

    monkeypatch.setattr(s3, "write_if", without_an_answer)
    append(path, "second\n")
    assert path.read_text() == "first\nsecond\n"


def test_lines_that_others_never_let_through_are_an_error(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "write_if", lambda *arguments, etag: None)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(OutageError, match="has refused 8 puts, since others add lines to it"):
        append(place(f"{bucket}/lines"), "first\n")
