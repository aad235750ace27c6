from pathlib import Path

import pytest

from pbrlib.skyrim import NORMAL_SUFFIXES, OTHER_SUFFIXES
from pbrlib.textures.leftout import Outcome
from pbrlib.textures.pairs import Listing, find_pairs


def listing_of(root: Path, *names: str) -> Listing:
    """Only names are read, so that the files may be empty."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return find_pairs(root)


def paired(listing: Listing) -> dict[str, str]:
    return {pair.diffuse.name: pair.normal.name for pair in listing.pairs}


@pytest.mark.parametrize("ending", OTHER_SUFFIXES)
def test_a_texture_with_a_normal_of_its_own_is_a_diffuse_whatever_it_ends_in(
    tmp_path: Path, ending: str
) -> None:
    listing = listing_of(tmp_path, f"robe{ending}.dds", f"robe{ending}_n.dds")
    assert paired(listing) == {f"robe{ending}.dds": f"robe{ending}_n.dds"}
    assert listing.pairs[0].name.name == f"robe{ending}"
    assert not listing.left_out


@pytest.mark.parametrize("ending", NORMAL_SUFFIXES)
def test_a_name_that_ends_like_a_normal_is_a_diffuse_beside_its_own_normal(
    tmp_path: Path, ending: str
) -> None:
    listing = listing_of(tmp_path, f"flag{ending}.dds", f"flag{ending}_n.dds")
    assert paired(listing) == {f"flag{ending}.dds": f"flag{ending}_n.dds"}


def test_a_normal_stays_that_of_its_diffuse_though_it_has_a_normal_itself(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "flag.dds", "flag_n.dds", "flag_n_n.dds")
    assert paired(listing) == {"flag.dds": "flag_n.dds"}


def test_a_companion_without_a_normal_of_its_own_stays_one(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "wall.dds", "wall_n.dds", "wall_m.dds", "wall_p.dds")
    assert paired(listing) == {"wall.dds": "wall_n.dds"}
    assert {file.outcome for file in listing.left_out} == {Outcome.SKIPPED}


def test_a_companion_whose_diffuse_is_not_there_is_not_taken_for_it(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "wall_m.dds", "wall_n.dds")
    assert not listing.pairs
    reasons = {file.path.name: file.reason for file in listing.left_out}
    assert "If it is a diffuse, give it a normal wall_m_n" in reasons["wall_m.dds"]


def test_variants_share_the_normal_of_the_longest_name_they_continue(tmp_path: Path) -> None:
    listing = listing_of(
        tmp_path, "robe_red.dds", "robe_blue.dds", "robe_n.dds", "robe_long_red.dds", "robe_long_n.dds"
    )
    assert paired(listing) == {
        "robe_red.dds": "robe_n.dds",
        "robe_blue.dds": "robe_n.dds",
        "robe_long_red.dds": "robe_long_n.dds",
    }
    assert all(pair.shared for pair in listing.pairs)
    assert not listing.left_out


def test_a_normal_of_its_own_comes_before_one_that_is_shared(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "post.dds", "post_n.dds", "post_grey.dds", "post_grey_n.dds")
    assert paired(listing) == {"post.dds": "post_n.dds", "post_grey.dds": "post_grey_n.dds"}
    assert not any(pair.shared for pair in listing.pairs)


def test_a_number_at_the_end_names_another_texture_and_shares_nothing(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "stone.dds", "stone_n.dds", "stone2.dds")
    assert paired(listing) == {"stone.dds": "stone_n.dds"}


def test_a_glow_map_goes_with_its_diffuse(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "lamp_d.dds", "lamp_n.dds", "lamp_g.dds")
    (pair,) = listing.pairs
    assert pair.glow == tmp_path / "lamp_g.dds"
    assert not listing.left_out


def test_a_name_that_ends_like_a_glow_map_is_none_beside_its_own_normal(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "lamp.dds", "lamp_n.dds", "lamp_g.dds", "lamp_g_n.dds")
    assert paired(listing) == {"lamp.dds": "lamp_n.dds", "lamp_g.dds": "lamp_g_n.dds"}
    assert all(pair.glow is None for pair in listing.pairs)


def test_a_texture_with_model_space_normals_is_not_told_to_get_others(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "body.dds", "body_msn.dds")
    reasons = {file.path.name: (file.outcome, file.reason) for file in listing.left_out}
    assert reasons["body.dds"] == (
        Outcome.SKIPPED,
        "its normals are of model space (body_msn.dds), which are not converted",
    )


def test_the_half_of_a_pair_that_is_not_read_is_named(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "wood.exr", "wood_n.dds", "rock.dds", "rock_n.tif")
    reasons = {file.path.name: file.reason for file in listing.left_out}
    assert reasons["wood_n.dds"] == "its diffuse wood.exr is not read. Save it as DDS or PNG"
    assert reasons["rock.dds"] == "its normal rock_n.tif is not read. Save it as DDS or PNG"


@pytest.mark.parametrize("ending", [".png", ".tga", ".TGA", ".bmp", ".webp", ".jpg", ".jpeg"])
def test_pictures_that_are_decoded_make_pairs_behind_dds(tmp_path: Path, ending: str) -> None:
    listing = listing_of(
        tmp_path, f"brick{ending}", f"brick_n{ending}", "oak.dds", f"oak{ending}", "oak_n.dds"
    )
    assert paired(listing) == {f"brick{ending}": f"brick_n{ending}", "oak.dds": "oak_n.dds"}
    assert [file.reason for file in listing.left_out] == ["oak.dds is read instead, which has the same name"]


def test_names_that_the_game_takes_for_one_are_read_once(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "Stone.dds", "stone.dds", "stone_n.dds")
    assert paired(listing) == {"Stone.dds": "stone_n.dds"}
    assert listing.left_out[0].reason == "Stone.dds is read instead, which has the same name"


def test_level_of_detail_is_no_material_even_with_a_normal(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "farm_lod.dds", "farm_lod_n.dds")
    assert not listing.pairs
    assert {file.reason for file in listing.left_out} == {"_lod: LOD"}
