import json
from pathlib import Path

import numpy as np
import pytest

from pbrlib.convert.oldtree import bake_tree, file_stem, file_stems
from pbrlib.convert.texturepairs import find_textures
from pbrlib.data.materials.material import Entry, Material
from pbrlib.data.sources.folder import FolderSource
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.errors import DataError
from pbrlib.textures.dds import read_header
from pbrlib.textures.decode import read_picture
from pbrlib.textures.layouts import Block
from tests.data.sources.folders import write_material

SOURCE = GeneratedSource(count=9, size=64, seed=2)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("old")
    bake_tree(SOURCE, output=root)
    return root


def test_a_conversion_finds_every_pair_and_nothing_else(tree: Path) -> None:
    listing = find_textures(tree)
    index = json.loads((tree / "index.json").read_text())
    assert not listing.left_out
    assert {str(pair.diffuse.relative_to(tree)) for pair in listing.pairs} == {i["diffuse"] for i in index}
    assert {str(pair.normal.relative_to(tree)) for pair in listing.pairs} == {i["normal"] for i in index}
    assert [item["id"] for item in index] == [entry.id for entry in SOURCE.entries()]


def test_files_have_the_game_s_formats_and_all_mips(tree: Path) -> None:
    for item in json.loads((tree / "index.json").read_text()):
        diffuse, normal = read_header(tree / item["diffuse"]), read_header(tree / item["normal"])
        assert (diffuse.pixels, normal.pixels) == (Block.BC1, Block.BC7)
        assert diffuse.num_mips == normal.num_mips == 7
        assert (diffuse.width, normal.height, item["size"]) == (64, 64, 64)


def test_the_ground_truth_has_exactly_the_maps_of_the_source(tree: Path) -> None:
    truth = FolderSource(str(tree / "materials"), size=1024)
    assert [entry.id for entry in truth.entries()] == sorted(entry.id for entry in SOURCE.entries())
    for entry in SOURCE.entries():
        made, read = SOURCE.load(entry), truth.load(entry)
        assert (read.label, read.family, read.tileable) == (made.label, made.family, made.tileable)
        for name, stored in made.maps.items():
            difference = np.abs(read.maps[name].astype(int) - stored.astype(int))
            assert difference.max() <= (1 if name == "normal" else 0), name


def test_normals_are_directx_with_gloss_in_alpha(tree: Path) -> None:
    item = next(i for i in json.loads((tree / "index.json").read_text()) if i["id"].startswith("stone"))
    entry = next(entry for entry in SOURCE.entries() if entry.id == item["id"])
    opengl = SOURCE.load(entry).maps["normal"].astype(int)
    stored = read_picture(tree / item["normal"]).astype(int)
    assert np.corrcoef(opengl[..., 0].ravel(), stored[..., 0].ravel())[0, 1] > 0.7
    assert np.corrcoef(opengl[..., 1].ravel(), stored[..., 1].ravel())[0, 1] < -0.7
    alphas = [read_picture(path)[..., 3] for path in sorted(tree.glob("textures/*/*_n.dds"))]
    assert any(alpha.std() > 1 for alpha in alphas)


def test_the_same_source_bakes_to_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    bake_tree(GeneratedSource(count=2, size=64, seed=2), output=tmp_path)
    written = sorted(tmp_path.glob("textures/**/*.dds"))
    assert written
    for path in written:
        assert path.read_bytes() == (tree / path.relative_to(tmp_path)).read_bytes()


def test_only_held_out_materials_are_baked(tmp_path: Path) -> None:
    found = bake_tree(SOURCE, output=tmp_path, hold_out=["stone/*", "mixed-*"])
    assert found.baked
    assert all(name.startswith(("stone", "mixed")) for name in found.baked)
    with pytest.raises(DataError, match="--hold-out stoen"):
        bake_tree(SOURCE, output=tmp_path, hold_out=["stoen/*"])


@pytest.mark.parametrize(
    ("name", "stem"),
    [("bark_014", "bark_014"), ("metal_049_b", "metal_049-b"), ("plate_N", "plate-N"), ("_d", "-d")],
)
def test_no_file_has_the_suffix_of_another_kind_of_map(name: str, stem: str) -> None:
    assert file_stem(name) == stem


class Named:
    """Materials of one class whose ids differ only in characters that are replaced in file names."""

    name = "named"
    IDS = ("a_n", "a-n", "A-n", "rock.v2", "rock-v2", "Ziegel_ü", "hair/long", "sky/blue", "x/pbr/y", "_d")

    def entries(self) -> list[Entry]:
        return [Entry(name, name) for name in self.IDS]

    def load(self, entry: Entry) -> Material:
        maps = {"normal": np.full((8, 8, 3), (128, 128, 255), np.uint8)}
        maps["albedo"] = np.full((8, 8, 3), 20 * self.IDS.index(entry.id), np.uint8)
        return Material(entry.id, entry.id, "named", "wood", True, "CC0-1.0", "", maps)

    def stamp(self, entry: Entry) -> str:
        return entry.id


def test_every_id_has_its_own_files_and_they_are_converted(tmp_path: Path) -> None:
    bake_tree(Named(), output=tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    assert len({item["diffuse"].lower() for item in index}) == len(Named.IDS)
    listing = find_textures(tmp_path)
    assert not listing.left_out
    assert len(listing.pairs) == len(Named.IDS)
    for item in index:
        stored = read_picture(tmp_path / item["diffuse"]).mean()
        others = [read_picture(tmp_path / other["diffuse"]).mean() for other in index if other is not item]
        assert stored not in others


def test_a_name_does_not_depend_on_the_order_of_ids() -> None:
    assert file_stems(["a_n", "a-n", "b"]) == file_stems(["b", "a-n", "a_n"])
    assert file_stems(["a_n", "b"]) == {"a_n": "a-n", "b": "b"}


class Flawed:
    """Three materials: one of an odd size, one without albedo, one that cannot be read."""

    name = "flawed"

    def entries(self) -> list[Entry]:
        return [Entry(name, name) for name in ("odd", "old", "damaged")]

    def load(self, entry: Entry) -> Material:
        if entry.id == "damaged":
            raise DataError("damaged.png: cut short. Replace it.")
        maps = {"normal": np.full((18, 21, 3), (128, 128, 255), np.uint8)}
        maps["albedo" if entry.id == "odd" else "diffuse"] = np.full((18, 21, 3), 90, np.uint8)
        return Material(entry.id, entry.id, "flawed", "wood", True, "CC0-1.0", "", maps)

    def stamp(self, entry: Entry) -> str:
        return entry.id


def test_failures_are_named_and_other_materials_are_cropped_to_blocks(tmp_path: Path) -> None:
    found = bake_tree(Flawed(), output=tmp_path)
    assert found.baked == ("odd",)
    reasons = {failure.name: failure.reason for failure in found.left_out}
    assert "no albedo" in reasons["old"]
    assert "cut short" in reasons["damaged"]
    header = read_header(tmp_path / "textures/wood/odd.dds")
    assert (header.width, header.height) == (20, 16)
    assert not FolderSource(str(tmp_path / "materials")).load(Entry("odd", "odd")).tileable


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*") if path.is_file()}


def test_the_same_command_bakes_only_missing_materials(tmp_path: Path) -> None:
    for name in ("oak", "ash", "elm"):
        write_material(tmp_path / "in", name)
    source, out = FolderSource(str(tmp_path / "in")), tmp_path / "out"
    assert bake_tree(source, output=out).num_kept == 0
    before = files(out)
    assert bake_tree(source, output=out).num_kept == 3
    diffuse = next(out.glob("textures/*/oak.dds"))
    diffuse.write_bytes(diffuse.read_bytes()[:-1])
    assert bake_tree(source, output=out).num_kept == 2
    assert {n: b for n, b in files(out).items() if ".jobs" not in n} == {
        n: b for n, b in before.items() if ".jobs" not in n
    }
    write_material(tmp_path / "in", "elm", albedo=np.full((32, 32, 3), 9, np.uint8))
    assert bake_tree(FolderSource(str(tmp_path / "in")), output=out).num_kept == 2
    assert files(out)["materials/elm/albedo.png"] != before["materials/elm/albedo.png"]


def test_if_nothing_can_be_baked_every_reason_is_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)flawed: no material can be baked\..*old: .*no albedo"):
        bake_tree(Flawed(), output=tmp_path, hold_out=["old"])
