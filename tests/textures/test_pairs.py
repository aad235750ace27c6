from pathlib import Path

import pytest

from pbrlib.errors import DataError
from pbrlib.textures.leftout import Outcome
from pbrlib.textures.pairs import Listing, find_pairs
from tests.convert.textures import dds, picture, save_pair, save_png


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dds(picture()))


def names(listing: Listing) -> list[str]:
    return [pair.name.as_posix() for pair in listing.pairs]


def outcomes(listing: Listing) -> dict[str, Outcome]:
    return {file.path.as_posix(): file.outcome for file in listing.left_out}


@pytest.mark.parametrize(
    ("diffuse", "normal"),
    [
        ("wall.dds", "wall_n.dds"),
        ("wall_d.dds", "wall_n.dds"),
        ("Wall_Diff.DDS", "wall_NORM.dds"),
        ("WALL_diffuse.dds", "wall_normal.Dds"),
        ("wall_d.dds", "wall_d_n.dds"),
    ],
)
def test_diffuse_and_normal_are_matched_by_suffix_ignoring_case(
    tmp_path: Path, diffuse: str, normal: str
) -> None:
    touch(tmp_path, f"stone/{diffuse}", f"stone/{normal}")
    listing = find_pairs(tmp_path)
    assert [(pair.diffuse.name, pair.normal.name) for pair in listing.pairs] == [(diffuse, normal)]
    assert not listing.left_out


def test_the_written_name_drops_the_diffuse_suffix_and_the_matched_stem_keeps_it(tmp_path: Path) -> None:
    touch(tmp_path, "stone/wall_d.dds", "stone/wall_n.dds")
    (pair,) = find_pairs(tmp_path).pairs
    assert (pair.name.as_posix(), pair.stem.as_posix()) == ("stone/wall", "stone/wall_d")


def test_equal_names_in_two_folders_are_two_textures(tmp_path: Path) -> None:
    save_pair(tmp_path, "a/wall")
    save_pair(tmp_path, "b/wall")
    assert names(find_pairs(tmp_path)) == ["a/wall", "b/wall"]


def test_a_data_folder_is_read_at_its_textures(tmp_path: Path) -> None:
    save_pair(tmp_path, "Textures/stone/wall")
    save_pair(tmp_path, "meshes/wall")
    listing = find_pairs(tmp_path)
    assert listing.root == tmp_path / "Textures"
    assert names(listing) == ["stone/wall"]


def test_png_pairs_with_dds_and_dds_is_preferred(tmp_path: Path) -> None:
    save_png(tmp_path / "wall.png", picture())
    touch(tmp_path, "wall_n.dds", "floor.dds", "floor_n.dds")
    save_png(tmp_path / "floor.png", picture())
    listing = find_pairs(tmp_path)
    assert names(listing) == ["floor", "wall"]
    assert outcomes(listing) == {"floor.png": Outcome.SKIPPED}


def test_two_diffuses_of_a_normal_are_two_textures(tmp_path: Path) -> None:
    touch(tmp_path, "wall.dds", "wall_d.dds", "wall_n.dds")
    listing = find_pairs(tmp_path)
    assert [(pair.name.name, pair.stem.name, pair.normal.name) for pair in listing.pairs] == [
        ("wall", "wall", "wall_n.dds"),
        ("wall_d", "wall_d", "wall_n.dds"),
    ]
    assert not listing.left_out


def test_unpaired_files_are_listed_with_the_missing_file(tmp_path: Path) -> None:
    touch(tmp_path, "lonely.dds", "other_n.dds")
    left_out = find_pairs(tmp_path).left_out
    assert {file.outcome for file in left_out} == {Outcome.UNPAIRED}
    reasons = {file.path.name: file.reason for file in left_out}
    assert reasons["lonely.dds"].startswith("no normal beside it; expected lonely_n. Add it")
    assert reasons["other_n.dds"].startswith("no diffuse beside it. If it is in an archive, unpack it")


@pytest.mark.parametrize(
    "name",
    [
        "a_msn.dds",
        "a_SK.dds",
        "a_em.dds",
        "a_envmask.dds",
        "a_flow.dds",
        "a_rmaos.dds",
        "a_p.dds",
        "a_lod.dds",
    ],
)
def test_other_maps_are_skipped_with_a_reason(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"stone/{name}")
    (file,) = find_pairs(tmp_path).left_out
    assert file.outcome is Outcome.SKIPPED
    assert file.reason.startswith(name[1:-4].lower() + ": ")


@pytest.mark.parametrize(
    "folder", ["interface", "Sky", "effects", "terrain/lod", "actors/facegendata", "UI/menus"]
)
def test_folders_without_materials_are_skipped(tmp_path: Path, folder: str) -> None:
    save_pair(tmp_path, f"{folder}/thing")
    assert set(outcomes(find_pairs(tmp_path)).values()) == {Outcome.SKIPPED}


def test_a_folder_of_armour_named_like_the_ui_is_read(tmp_path: Path) -> None:
    save_pair(tmp_path, "armor/UI/plate")
    assert names(find_pairs(tmp_path)) == ["armor/UI/plate"]


def test_true_pbr_files_are_kept_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "PBR/stone/wall.dds", "PBR/stone/wall_rmaos.dds")
    assert outcomes(find_pairs(tmp_path)) == {
        "PBR/stone/wall.dds": Outcome.KEPT,
        "PBR/stone/wall_rmaos.dds": Outcome.KEPT,
    }


def test_a_folder_without_textures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got no \.dds, \.png, \.tga"):
        find_pairs(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_pairs(tmp_path / "missing")
