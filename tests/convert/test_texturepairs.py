from pathlib import Path

import pytest

from pbrlib.convert.texturepairs import MAX_SIDE, find_textures
from pbrlib.textures.leftout import Outcome
from pbrlib.textures.pairs import Listing
from tests.convert.textures import dds, picture, save_pair
from tests.textures.test_dds import HEIGHT, WIDTH, patched


def outcomes(listing: Listing) -> dict[str, Outcome]:
    return {file.path.as_posix(): file.outcome for file in listing.left_out}


def test_large_textures_are_listed_as_oversize(tmp_path: Path) -> None:
    save_pair(tmp_path, "wall")
    big = patched(patched(dds(picture()), WIDTH, MAX_SIDE + 4), HEIGHT, 4)
    (tmp_path / "wall.dds").write_bytes(big + bytes(2 * MAX_SIDE * 16))
    listing = find_textures(tmp_path)
    assert outcomes(listing) == {"wall.dds": Outcome.OVERSIZE}
    assert f"{MAX_SIDE + 4} x 4 px" in listing.left_out[0].reason


def test_a_damaged_header_fails_only_its_own_texture(tmp_path: Path) -> None:
    save_pair(tmp_path, "good")
    save_pair(tmp_path, "bad")
    (tmp_path / "bad_n.dds").write_bytes(b"DDS ")
    listing = find_textures(tmp_path)
    assert [pair.name.as_posix() for pair in listing.pairs] == ["good"]
    assert outcomes(listing) == {"bad.dds": Outcome.FAILED}
    assert "bad_n.dds" in listing.left_out[0].reason


def names(listing: Listing) -> list[str]:
    return [pair.name.as_posix() for pair in listing.pairs]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("stone/кирпич", "non-ASCII characters"),
        ("straße/wall", "non-ASCII characters"),
        ("stone/rock.v2", "a dot"),
        (".hidden/wall", "begins with a dot"),
        ("stone/what?", "'?', which Windows forbids"),
        ("stone/a\\b", "Windows forbids"),
        ("stone /wall", "Windows forbids"),
        ("l" * 235, "expected at most 259"),
        ("/".join(["d" * 60] * 5) + "/deep", "expected at most 259"),
    ],
)
def test_a_name_that_the_patcher_rejects_is_left_out(tmp_path: Path, name: str, reason: str) -> None:
    save_pair(tmp_path, "stone/wall")
    save_pair(tmp_path, f"long/{name}" if len(name) > 200 else name)
    listing = find_textures(tmp_path)
    assert names(listing) == ["stone/wall"]
    (file,) = listing.left_out
    assert file.outcome is Outcome.REFUSED
    assert reason in file.reason
    assert "Rename" in file.reason


@pytest.mark.parametrize("folder", ["landscape/grass", "actors/Hair", "water", "Magic", "blood", "decals"])
def test_folders_that_the_patcher_does_not_patch_are_not_converted(tmp_path: Path, folder: str) -> None:
    save_pair(tmp_path, f"{folder}/thing")
    listing = find_textures(tmp_path)
    assert set(outcomes(listing).values()) == {Outcome.SKIPPED}
    assert folder.rpartition("/")[2] in listing.left_out[0].reason


def test_landscape_textures_are_converted_with_a_note(tmp_path: Path) -> None:
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
    (file,) = (file for file in listing.left_out if file.path.name == "wall.dds")
    assert file.outcome is Outcome.KEPT
    assert "PBR/stone/Wall_rmaos.dds" in file.reason


def test_a_set_of_other_origin_in_the_output_is_kept(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "stone/wall")
    there = tmp_path / "out/Textures/pbr/stone/wall_rmaos.dds"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"by hand")
    listing = find_textures(tmp_path / "in", output=tmp_path / "out")
    assert outcomes(listing) == {"stone/wall.dds": Outcome.KEPT}
    assert str(there.name) in listing.left_out[0].reason


def test_variants_share_only_a_normal_of_the_same_aspect_ratio(tmp_path: Path) -> None:
    save_pair(tmp_path, "robe")
    (tmp_path / "robe_red.dds").write_bytes(dds(picture(32, 32)))
    (tmp_path / "robe_sash.dds").write_bytes(dds(picture(32, 8)))
    listing = find_textures(tmp_path)
    assert names(listing) == ["robe", "robe_red"]
    assert outcomes(listing) == {"robe_sash.dds": Outcome.UNPAIRED}
    assert "another aspect ratio" in listing.left_out[0].reason


def test_a_file_deleted_during_listing_fails_only_its_own_texture(
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
    assert outcomes(listing) == {"gone.dds": Outcome.FAILED}
