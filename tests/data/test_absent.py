"""Advice for a path without a shard set is never to prepare into a folder with other files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pbrlib.data.absent import explain_absence, foreign_files
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import DataError
from tests.data.shards.materials import make_set, material
from tests.data.sources.folders import write_manifest, write_material


def pictures(root: Path) -> None:
    write_material(root, "oak")


def listed_pictures(root: Path) -> None:
    write_material(root, "oak")
    write_manifest(root, {"id": "oak"})


def flat_pictures(root: Path) -> None:
    write_material(root.parent, root.name)


def parquet(root: Path) -> None:
    root.mkdir()
    (root / "train-00000.parquet").write_bytes(b"PAR1")


def notes(root: Path) -> None:
    root.mkdir()
    (root / "notes.txt").write_text("mine")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (pictures, "a folder of pictures. Prepare it into another folder"),
        (listed_pictures, "of a folder of materials; expected a shard set. Prepare it into another folder"),
        (flat_pictures, "a folder of pictures. Prepare it into another folder"),
        (parquet, "Parquet files. Prepare them into another folder: `pbr prepare matsynth:path="),
        (notes, "a folder with notes.txt. Prepare into a separate folder"),
    ],
)
def test_no_advice_writes_into_a_folder_that_holds_something(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    root = tmp_path / "stuff"
    make(root)
    with pytest.raises(DataError) as caught:
        ShardSet.open(root)
    assert said in str(caught.value)
    assert f"--out {root}" not in str(caught.value)


def test_a_typo_gets_the_folder_that_was_meant(tmp_path: Path) -> None:
    make_set(tmp_path / "shards", [material(1, size=(8, 8))])
    with pytest.raises(DataError, match=rf"shrads: no such folder.* Did you mean {tmp_path}/shards\?"):
        ShardSet.open(tmp_path / "shrads")


def test_the_folder_above_or_inside_of_a_set_names_the_set(tmp_path: Path) -> None:
    make_set(tmp_path / "demo" / "set", [material(1, size=(8, 8))])
    assert f"Did you mean {tmp_path}/demo/set?" in explain_absence(tmp_path / "demo")
    assert f"Give {tmp_path}/demo/set." in explain_absence(tmp_path / "demo" / "set" / "shards")


def test_a_file_a_run_and_a_preparation_that_was_killed_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "got a file; expected the folder" in explain_absence(tmp_path / "file")
    (tmp_path / "runs" / "albedo").mkdir(parents=True)
    (tmp_path / "runs" / "albedo" / "run.json").write_text("{}")
    assert "a folder of runs" in explain_absence(tmp_path / "runs")
    (tmp_path / "killed" / "shards").mkdir(parents=True)
    assert "its preparation did not end. Run the same" in explain_absence(tmp_path / "killed")


def test_what_a_set_consists_of_is_not_foreign_to_it(tmp_path: Path) -> None:
    make_set(tmp_path, [material(1, size=(8, 8))])
    (tmp_path / ".DS_Store").write_text("x")
    assert foreign_files(tmp_path) == []
    write_material(tmp_path, "oak")
    assert foreign_files(tmp_path) == ["oak"]
