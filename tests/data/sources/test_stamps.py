"""A stamp changes with what a material is read from, and with nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pbrlib.data.materials.material import Source
from pbrlib.data.sources.folder import FolderSource
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.data.sources.matsynth import MatSynthSource
from pbrlib.data.sources.skyrim import SkyrimSource
from tests.data.sources.folders import write_manifest, write_material
from tests.data.sources.hub_files import row, write
from tests.data.sources.test_skyrim import save_new, save_old


def stamps(source: Source) -> dict[str, str]:
    return {entry.id: source.stamp(entry) for entry in source.entries()}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def touch(file: Path) -> None:
    """Change the modification time of a file and keep its size."""
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("oak", "ash"):
        write_material(tmp_path, name)
    write_manifest(tmp_path, {"id": "oak", "class": "wood"}, {"id": "ash", "class": "wood"})
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        lambda root: touch(root / "oak" / "normal.png"),
        lambda root: (root / "oak" / "roughness.png").unlink(),
        lambda root: (root / "oak" / "ao.png").write_bytes((root / "oak" / "roughness.png").read_bytes()),
        lambda root: write_manifest(root, {"id": "oak", "class": "stone"}, {"id": "ash", "class": "wood"}),
    ],
)
def test_of_a_folder_the_material_that_changed_has_another(
    folder: Path, change: Callable[[Path], object]
) -> None:
    before = stamps(FolderSource(str(folder)))
    assert stamps(FolderSource(str(folder))) == before
    change(folder)
    assert changed(before, stamps(FolderSource(str(folder)))) == {"oak"}


def test_of_a_folder_size_and_name_change_all(folder: Path) -> None:
    before = stamps(FolderSource(str(folder)))
    assert changed(before, stamps(FolderSource(str(folder), size=16))) == {"oak", "ash"}
    assert changed(before, stamps(FolderSource(str(folder), name="other"))) == {"oak", "ash"}


def test_of_matsynth_a_file_changes_its_rows(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.parquet", row(name, "wood"), row(f"{name}2", "wood")) for name in "ab"]
    before = stamps(MatSynthSource(str(tmp_path)))
    assert len(set(before.values())) == 4
    touch(paths[0])
    assert changed(before, stamps(MatSynthSource(str(tmp_path)))) == {"a", "a2"}
    assert len(changed(before, stamps(MatSynthSource(str(tmp_path), keep_marble=True)))) == 4


def test_of_skyrim_each_file_of_a_pair_counts(tmp_path: Path) -> None:
    for name in ("stone/wall01", "stone/floor01"):
        save_old(tmp_path / "old", name)
        save_new(tmp_path / "new/textures/PBR", name)

    def now() -> dict[str, str]:
        return stamps(SkyrimSource(str(tmp_path / "old"), new=str(tmp_path / "new")))

    before = now()
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name.startswith("wall01")]
    read = [file for file in files if not ("PBR" in file.parts and file.stem.endswith("_n"))]
    assert len(read) >= 4
    for file in read:
        touch(file)
        after = now()
        assert changed(before, after) == {"stone/wall01"}, file
        before = after


def test_of_generated_materials_the_seed_counts_and_not_how_many_there_are() -> None:
    source = GeneratedSource(count=3, size=32, seed=1)
    before = stamps(source)
    assert not changed(before, stamps(replace(source, count=5)))
    for other in (replace(source, seed=2), replace(source, size=64), replace(source, old=True)):
        assert len(changed(before, stamps(other))) == 3
