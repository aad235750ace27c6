from pathlib import Path

import pytest

from pbrlib.convert.texturepairs import MAX_SIDE, find_textures
from pbrlib.textures.aside import Fate
from pbrlib.textures.pairs import Listing
from tests.convert.textures import dds, picture, save_pair
from tests.textures.test_dds import HEIGHT, WIDTH, patched


def fates(listing: Listing) -> dict[str, Fate]:
    return {aside.path.as_posix(): aside.fate for aside in listing.asides}


def test_large_textures_are_listed_as_oversize(tmp_path: Path) -> None:
    save_pair(tmp_path, "wall")
    big = patched(patched(dds(picture()), WIDTH, MAX_SIDE + 4), HEIGHT, 4)
    (tmp_path / "wall.dds").write_bytes(big + bytes(2 * MAX_SIDE * 16))
    listing = find_textures(tmp_path)
    assert fates(listing) == {"wall.dds": Fate.OVERSIZE}
    assert f"{MAX_SIDE + 4} x 4 px" in listing.asides[0].reason


def test_a_damaged_header_fails_its_texture_alone(tmp_path: Path) -> None:
    save_pair(tmp_path, "good")
    save_pair(tmp_path, "bad")
    (tmp_path / "bad_n.dds").write_bytes(b"DDS ")
    listing = find_textures(tmp_path)
    assert [pair.name.as_posix() for pair in listing.pairs] == ["good"]
    assert fates(listing) == {"bad.dds": Fate.FAILED}
    assert "bad_n.dds" in listing.asides[0].reason


def names(listing: Listing) -> list[str]:
    return [pair.name.as_posix() for pair in listing.pairs]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("stone/кирпич", "not all ASCII"),
        ("straße/wall", "not all ASCII"),
        ("stone/rock.v2", "a dot"),
        (".hidden/wall", "begins with a dot"),
        ("stone/what?", "'?', which Windows forbids"),
        ("stone/a\\b", "Windows forbids"),
        ("stone /wall", "Windows forbids"),
        ("l" * 235, "the game opens 259 at most"),
        ("/".join(["d" * 60] * 5) + "/deep", "the game opens 259 at most"),
    ],
)
def test_a_name_that_the_patcher_does_not_take_is_refused_beforehand(
    tmp_path: Path, name: str, reason: str
) -> None:
    save_pair(tmp_path, "stone/wall")
    save_pair(tmp_path, f"long/{name}" if len(name) > 200 else name)
    listing = find_textures(tmp_path)
    assert names(listing) == ["stone/wall"]
    (aside,) = listing.asides
    assert aside.fate is Fate.REFUSED
    assert reason in aside.reason
    assert "Rename" in aside.reason


@pytest.mark.parametrize("folder", ["landscape/grass", "actors/Hair", "water", "Magic", "blood", "decals"])
def test_what_the_patcher_leaves_alone_is_not_converted(tmp_path: Path, folder: str) -> None:
    save_pair(tmp_path, f"{folder}/thing")
    listing = find_textures(tmp_path)
    assert set(fates(listing).values()) == {Fate.SKIPPED}
    assert folder.rpartition("/")[2] in listing.asides[0].reason


def test_land_is_converted_with_a_note_on_the_ground_itself(tmp_path: Path) -> None:
    save_pair(tmp_path, "landscape/dirt")
    listing = find_textures(tmp_path)
    assert names(listing) == ["landscape/dirt"]
    assert "texture set" in listing.notes[-1]


def test_a_pair_with_a_true_pbr_set_in_the_input_is_kept(tmp_path: Path) -> None:
    save_pair(tmp_path / "textures", "stone/wall")
    save_pair(tmp_path / "textures", "stone/floor")
    done = tmp_path / "textures/PBR/stone/Wall_rmaos.dds"
    done.parent.mkdir(parents=True)
    done.write_bytes(dds(picture()))
    listing = find_textures(tmp_path)
    assert names(listing) == ["stone/floor"]
    (aside,) = (aside for aside in listing.asides if aside.path.name == "wall.dds")
    assert aside.fate is Fate.KEPT
    assert "PBR/stone/Wall_rmaos.dds" in aside.reason


def test_a_set_of_other_origin_in_the_output_is_kept(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "stone/wall")
    there = tmp_path / "out/Textures/pbr/stone/wall_rmaos.dds"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"by hand")
    listing = find_textures(tmp_path / "in", output=tmp_path / "out")
    assert fates(listing) == {"stone/wall.dds": Fate.KEPT}
    assert str(there.name) in listing.asides[0].reason


def test_variants_share_a_normal_of_the_same_shape_alone(tmp_path: Path) -> None:
    save_pair(tmp_path, "robe")
    (tmp_path / "robe_red.dds").write_bytes(dds(picture(32, 32)))
    (tmp_path / "robe_sash.dds").write_bytes(dds(picture(32, 8)))
    listing = find_textures(tmp_path)
    assert names(listing) == ["robe", "robe_red"]
    assert fates(listing) == {"robe_sash.dds": Fate.UNPAIRED}
    assert "another shape" in listing.asides[0].reason


def test_a_file_that_vanishes_while_it_is_listed_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pair(tmp_path, "good")
    save_pair(tmp_path, "gone")
    is_file = Path.is_file

    def vanishing(path: Path) -> bool:
        found = is_file(path)
        if path.name == "gone_n.dds":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", vanishing)
    listing = find_textures(tmp_path)
    assert names(listing) == ["good"]
    assert fates(listing) == {"gone.dds": Fate.FAILED}
