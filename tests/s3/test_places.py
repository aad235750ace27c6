"""A path on S3 answers as a path of this machine does, and never becomes a file with an odd name."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from pbrlib import storage


@pytest.fixture(params=["local", "s3", "one listing"])
def root(request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> Path:
    folder = tmp_path / "root" if request.param == "local" else storage.to_path(f"{bucket}/root")
    for name in ("a.txt", "runs/b.json", "runs/one/c.json", "runs/two/c.json", "runs/.hidden/c.json"):
        storage.write_atomic(folder / name, name.encode())
    if request.param == "one listing":
        listing = storage.snapshot(folder)
        listing.__enter__()
        request.addfinalizer(lambda: listing.__exit__(None, None, None))
    return folder


def names(found: object, root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in found)  # type: ignore[attr-defined]


def test_looking_around_is_the_same_everywhere(root: Path) -> None:
    runs = root / "runs"
    assert names(runs.iterdir(), runs) == [".hidden", "b.json", "one", "two"]
    assert names(runs.glob("*.json"), runs) == ["b.json"]
    assert names(runs.glob("t*/c.json"), runs) == ["two/c.json"]
    assert names(runs.glob("*/d.json"), runs) == []
    assert names((path for path in runs.rglob("c*") if path.is_file()), runs) == [
        ".hidden/c.json",
        "one/c.json",
        "two/c.json",
    ]
    assert [path.is_dir() for path in (runs, runs / "one", runs / "b.json", runs / "on")] == [1, 1, 0, 0]
    assert [path.is_file() for path in (runs, runs / "b.json", root / "a.txt")] == [0, 1, 1]
    assert [path.exists() for path in (runs, runs / "b.json", runs / "none")] == [1, 1, 0]
    assert (root / "a.txt").read_text() == "a.txt"
    assert (root / "a.txt").stat().st_size == 5
    with pytest.raises(FileNotFoundError):
        (root / "none").read_bytes()


def test_writing_and_removing(bucket: str) -> None:
    file = storage.to_path(f"{bucket}/folder/file")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("ä")
    assert file.read_bytes() == "ä".encode()
    storage.append_lines(file, "b")
    storage.append_lines(file.with_name("new"), "c")
    assert storage.file_sizes(file.parent) == {"file": 3, "new": 1}
    file.unlink()
    file.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        file.unlink()


def test_an_address_stays_one_whatever_is_done_with_its_path() -> None:
    path = storage.to_path("s3://bucket/runs/")
    assert str(path) == "s3://bucket/runs"
    below = path / "albedo" / "A1"
    assert [str(one) for one in (below, below.parent.parent, below.with_name("A2"), below.resolve())] == [
        "s3://bucket/runs/albedo/A1",
        "s3://bucket/runs",
        "s3://bucket/runs/albedo/A2",
        "s3://bucket/runs/albedo/A1",
    ]
    assert str(below.relative_to(path)) == "albedo/A1"
    assert pickle.loads(pickle.dumps(below)) == below
    assert below.is_absolute()
    assert not isinstance(storage.to_path("runs"), storage.S3Path)


def test_what_knows_only_files_of_this_machine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = storage.to_path("s3://bucket/file")
    for use in (os.fspath, os.stat, open, lambda path: path.open("w"), lambda path: path.touch()):
        with pytest.raises(TypeError, match="s3://bucket/file"):
            use(path)
    assert not [*tmp_path.iterdir()]
