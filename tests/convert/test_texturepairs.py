from pathlib import Path

from pbrlib.convert.texturepairs import MAX_SIDE, find_textures
from pbrlib.textures.pairs import Fate, Listing
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
