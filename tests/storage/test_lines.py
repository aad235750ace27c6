"""Tests of files to which several processes append lines."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pbrlib import storage
from pbrlib.errors import OutageError
from pbrlib.storage import s3writing


def test_a_truncated_line_does_not_damage_other_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    storage.append_lines(path, "first\n")
    storage.append_lines(path, "seco")
    storage.append_lines(path, "third\n")
    assert path.read_text().split("\n") == ["first", "seco", "third", ""]


def test_lines_of_several_writers_are_all_kept(bucket: str) -> None:
    path = storage.to_path(f"{bucket}/lines")

    def write(name: str) -> None:
        for number in range(3):
            storage.append_lines(path, f"{name}{number}\n")

    writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert sorted(path.read_text().split()) == [f"{name}{number}" for name in "abc" for number in range(3)]


def test_a_line_is_appended_once_although_the_response_was_lost(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, put = storage.to_path(f"{bucket}/lines"), s3writing.write_if
    storage.append_lines(path, "first\n")

    def without_an_answer(address: str, data: bytes, *, etag: str | None) -> None:
        put(address, data, etag=etag)

    monkeypatch.setattr(s3writing, "write_if", without_an_answer)
    storage.append_lines(path, "second\n")
    assert path.read_text() == "first\nsecond\n"


def test_lines_that_cannot_be_appended_are_an_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3writing, "write_if", lambda *arguments, etag: None)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(OutageError, match="has refused 8 puts, since other processes append lines"):
        storage.append_lines(storage.to_path(f"{bucket}/lines"), "first\n")


@pytest.mark.parametrize("where", ["local", "s3"])
def test_open_lines_appends_to_existing_lines(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    path = tmp_path / "lines"
    if where == "s3":
        path = storage.to_path(f"{request.getfixturevalue('bucket')}/lines")
    for number in range(2):
        with storage.open_lines(path) as file:
            file.write(f"{number}\n")
            assert path.is_file() == (where == "local" or number > 0)
    assert path.read_text() == "0\n1\n"
