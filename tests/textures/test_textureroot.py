import os
from pathlib import Path

import pytest

from pbrlib.errors import DataError
from pbrlib.skyrim import ARCHIVES, OTHER_PICTURES
from pbrlib.textures.leftout import Outcome
from pbrlib.textures.pairs import Listing, find_pairs

IN = ("", "/stone", "/stone/deep")


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(listing: Listing) -> list[str]:
    return [pair.name.as_posix() for pair in listing.pairs]


def unread(listing: Listing) -> dict[str, str]:
    return {file.path.as_posix(): file.reason for file in listing.left_out if file.outcome is Outcome.UNREAD}


@pytest.mark.parametrize(
    "given",
    ["", "common", "common/Game", "common/Game/Data", *(f"common/Game/Data/Textures{x}" for x in IN)],
)
def test_texture_paths_are_relative_to_the_texture_folder_for_any_given_folder(
    tmp_path: Path, given: str
) -> None:
    root = tmp_path / "common/Game/Data/Textures"
    touch(root, "stone/deep/wall.dds", "stone/deep/wall_n.dds")
    listing = find_pairs(tmp_path / given)
    assert listing.root == root
    assert names(listing) == ["stone/deep/wall"]


def test_only_files_in_a_given_subfolder_are_listed(tmp_path: Path) -> None:
    touch(tmp_path / "textures", "a/wall.dds", "a/wall_n.dds", "b/wall.dds", "b/wall_n.dds")
    listing = find_pairs(tmp_path / "textures/b")
    assert names(listing) == ["b/wall"]
    assert "texture paths are relative to" in listing.notes[0]


def test_several_texture_folders_are_an_error_that_names_them(tmp_path: Path) -> None:
    touch(tmp_path, "A/textures/wall.dds", "B/Textures/wall.dds")
    with pytest.raises(DataError, match=r"got 2 folders .*A/textures, .*B/Textures.* Give one of them"):
        find_pairs(tmp_path)
    touch(tmp_path, "C/textures/wall.dds", "C/Textures/wall.dds")
    with pytest.raises(DataError, match=r"C/Textures, .*C/textures"):
        find_pairs(tmp_path / "C")


def test_the_root_of_nested_texture_folders_is_the_one_in_a_data_folder(tmp_path: Path) -> None:
    touch(tmp_path, "textures/mod/textures/stone/wall.dds", "textures/mod/textures/stone/wall_n.dds")
    assert names(find_pairs(tmp_path / "textures/mod/textures/stone")) == ["stone/wall"]
    touch(tmp_path, "Mod.esp")
    assert names(find_pairs(tmp_path / "textures/mod/textures/stone")) == ["mod/textures/stone/wall"]


def test_a_folder_without_a_texture_folder_is_the_root_with_a_note(tmp_path: Path) -> None:
    touch(tmp_path, "stone/wall.dds", "stone/wall_n.dds")
    listing = find_pairs(tmp_path)
    assert names(listing) == ["stone/wall"]
    assert "texture paths are relative to" in listing.notes[0]


def test_textures_beside_a_deeper_texture_folder_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "Mod/textures/wall.dds", "Mod/textures/wall_n.dds", "extra/floor.dds")
    assert unread(find_pairs(tmp_path))["../../extra/floor.dds"].startswith("outside of ")


@pytest.mark.parametrize("suffix", ARCHIVES)
def test_archives_are_listed_with_advice(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"Game/Mod{suffix}", "Game/textures/wall.dds", "Game/textures/wall_n.dds")
    for given in (tmp_path, tmp_path / "Game"):
        assert "Unpack it" in unread(find_pairs(given))[f"../Mod{suffix}"]


def test_a_folder_with_only_archives_is_an_error_that_names_them(tmp_path: Path) -> None:
    touch(tmp_path, "Textures0.bsa", "Textures1.bsa", "Skyrim.esm")
    with pytest.raises(DataError, match=r"but Textures0\.bsa and 1 more: an archive.*Unpack"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("suffix", OTHER_PICTURES)
def test_pictures_of_other_formats_are_listed(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"brick{suffix}", "wall.dds", "wall_n.dds")
    assert unread(find_pairs(tmp_path)) == {
        f"brick{suffix}": f"{suffix[1:].upper()} is not supported. Save it as DDS or PNG"
    }


def test_linked_folders_broken_links_and_pipes_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "in/wall.dds", "in/wall_n.dds", "elsewhere/floor.dds")
    (tmp_path / "in/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/broken.dds").symlink_to(tmp_path / "nowhere.dds")
    os.mkfifo(tmp_path / "in/pipe.dds")
    found = unread(find_pairs(tmp_path / "in"))
    assert set(found) == {"linked", "loop", "broken.dds", "pipe.dds"}
    assert "not followed" in found["linked"]
    assert found["broken.dds"] == "a link to a missing file"
    assert found["pipe.dds"] == "no regular file"


def test_a_folder_that_cannot_be_listed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "wall.dds", "wall_n.dds", "shut/floor.dds")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if os.fspath(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert unread(find_pairs(tmp_path)) == {
        "shut": "cannot be listed (Permission denied). Check its permissions"
    }
