from pathlib import Path

import pytest

from pbrlib.skyrim import NORMAL_SUFFIXES, OTHER_SUFFIXES
from pbrlib.textures.leftout import Outcome
from pbrlib.textures.pairs import Listing, find_pairs


def listing_of(root: Path, *names: str) -> Listing:
    """Write empty files, since only names are read."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return find_pairs(root)


def paired(listing: Listing) -> dict[str, str]:
    return {pair.diffuse.name: pair.normal.name for pair in listing.pairs}


@pytest.mark.parametrize("ending", OTHER_SUFFIXES)
def test_a_texture_with_its_own_normal_is_a_diffuse_despite_its_suffix(tmp_path: Path, ending: str) -> None:
    listing = listing_of(tmp_path, f"robe{ending}.dds", f"robe{ending}_n.dds")
    assert paired(listing) == {f"robe{ending}.dds": f"robe{ending}_n.dds"}
    assert listing.pairs[0].name.name == f"robe{ending}"
    assert not listing.left_out


@pytest.mark.parametrize("ending", NORMAL_SUFFIXES)
def test_a_file_with_the_suffix_of_a_normal_is_a_diffuse_beside_its_own_normal(
    tmp_path: Path, ending: str
) -> None:
    listing = listing_of(tmp_path, f"flag{ending}.dds", f"flag{ending}_n.dds")
    assert paired(listing) == {f"flag{ending}.dds": f"flag{ending}_n.dds"}


def test_a_normal_of_a_diffuse_is_a_normal_even_if_it_has_a_normal(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "flag.dds", "flag_n.dds", "flag_n_n.dds")
    assert paired(listing) == {"flag.dds": "flag_n.dds"}


def test_another_map_without_its_own_normal_is_no_diffuse(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "wall.dds", "wall_n.dds", "wall_m.dds", "wall_p.dds")
    assert paired(listing) == {"wall.dds": "wall_n.dds"}
    assert {file.outcome for file in listing.left_out} == {Outcome.SKIPPED}


def test_another_map_without_its_diffuse_is_no_diffuse(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "wall_m.dds", "wall_n.dds")
    assert not listing.pairs
    reasons = {file.path.name: file.reason for file in listing.left_out}
    assert "If it is a diffuse, add its normal wall_m_n" in reasons["wall_m.dds"]


def test_variants_share_the_normal_of_the_longest_prefix(tmp_path: Path) -> None:
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


def test_an_own_normal_is_preferred_to_a_shared_one(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "post.dds", "post_n.dds", "post_grey.dds", "post_grey_n.dds")
    assert paired(listing) == {"post.dds": "post_n.dds", "post_grey.dds": "post_grey_n.dds"}
    assert not any(pair.shared for pair in listing.pairs)


def test_textures_that_differ_in_a_final_number_share_no_normal(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "stone.dds", "stone_n.dds", "stone2.dds")
    assert paired(listing) == {"stone.dds": "stone_n.dds"}


def test_a_glow_map_belongs_to_the_pair_of_its_diffuse(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "lamp_d.dds", "lamp_n.dds", "lamp_g.dds")
    (pair,) = listing.pairs
    assert pair.glow == tmp_path / "lamp_g.dds"
    assert not listing.left_out


def test_a_file_with_the_suffix_of_a_glow_map_is_a_diffuse_beside_its_own_normal(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "lamp.dds", "lamp_n.dds", "lamp_g.dds", "lamp_g_n.dds")
    assert paired(listing) == {"lamp.dds": "lamp_n.dds", "lamp_g.dds": "lamp_g_n.dds"}
    assert all(pair.glow is None for pair in listing.pairs)


def test_a_texture_with_model_space_normals_is_skipped_without_advice(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "body.dds", "body_msn.dds")
    reasons = {file.path.name: (file.outcome, file.reason) for file in listing.left_out}
    assert reasons["body.dds"] == (
        Outcome.SKIPPED,
        "model-space normals (body_msn.dds), which are not converted",
    )


def test_an_unsupported_half_of_a_pair_is_named(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "wood.exr", "wood_n.dds", "rock.dds", "rock_n.tif")
    reasons = {file.path.name: file.reason for file in listing.left_out}
    assert reasons["wood_n.dds"] == "its diffuse wood.exr has an unsupported format. Save it as DDS or PNG"
    assert reasons["rock.dds"] == "its normal rock_n.tif has an unsupported format. Save it as DDS or PNG"


@pytest.mark.parametrize("ending", [".png", ".tga", ".TGA", ".bmp", ".webp", ".jpg", ".jpeg"])
def test_other_supported_pictures_form_pairs_if_there_is_no_dds(tmp_path: Path, ending: str) -> None:
    listing = listing_of(
        tmp_path, f"brick{ending}", f"brick_n{ending}", "oak.dds", f"oak{ending}", "oak_n.dds"
    )
    assert paired(listing) == {f"brick{ending}": f"brick_n{ending}", "oak.dds": "oak_n.dds"}
    assert [file.reason for file in listing.left_out] == ["oak.dds has the same name and is read instead"]


def test_names_that_differ_in_case_only_are_read_once(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "Stone.dds", "stone.dds", "stone_n.dds")
    assert paired(listing) == {"Stone.dds": "stone_n.dds"}
    assert listing.left_out[0].reason == "Stone.dds has the same name and is read instead"


def test_lod_textures_are_no_materials_even_with_a_normal(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "farm_lod.dds", "farm_lod_n.dds")
    assert not listing.pairs
    assert {file.reason for file in listing.left_out} == {"_lod: LOD"}
