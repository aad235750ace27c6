"""Tests of unsafe ids in files of materials."""

from __future__ import annotations

import ast
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pbrlib.convert.oldtree import bake_tree
from pbrlib.convert.truepbr import write_files_together
from pbrlib.data.materials.audit import AuditReport, Finding
from pbrlib.data.materials.ids import id_problem, invalid_ids, valid_entries
from pbrlib.data.materials.material import Entry
from pbrlib.data.shards.prepare import list_left_out, list_sources
from pbrlib.data.sources.folder import FolderSource
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.data.sources.matsynth import MatSynthSource
from pbrlib.errors import DataError, printable
from pbrlib.evaluate.converted import read_index
from ray_jobs.cli import main

HOSTILE = (
    *("", " ", ".", "..", "/", "../x", "a/../../x", "/etc/x", "a//b", "a/", "./a", "..\\x", "C:x", "C:\\x"),
    *("a\0b", "a\nb", "a\x1b[2Jb", "a\x7fb", "a\x85b", "a\u202egnp.exe", "a\u200bb", "a\u2028b", "\udcff"),
    *(
        "\uff0e\uff0e\uff0fx",
        "\uff0fetc",
        "\u2025/x",
        "a\uff1ab",
        "CON",
        "con.png",
        "a/NUL",
        "com1",
        "lpt9.x",
    ),
    *(
        "a.",
        "a ",
        " a",
        "a./b",
        "a?",
        "a*",
        'a"b',
        "a|b",
        "<b>",
        "x" * 300,
        "é" * 101,
        "/".join(["ab"] * 300),
    ),
)
ORDINARY = (
    *("rock_058", "acg_ground_054", "dungeons/stone01", "Ünï cødé 01", "石", "a.b", ".hidden", "ms_a__b"),
    *("console", "com10", "a-b_c (2)", "x" * 200, "a'b", "a..b", "nul_a", "ﬁ"),
)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_an_unsafe_id_is_refused(name: str) -> None:
    problem = id_problem(name)
    assert problem is not None and "expected" in problem


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_ids_are_valid(name: str) -> None:
    assert id_problem(name) is None


@dataclass(frozen=True)
class Hostile:
    """A source with one good material among hostile ids."""

    name: str = "hostile"
    inner: GeneratedSource = field(default_factory=lambda: GeneratedSource(count=1, size=32, seed=1))

    def entries(self) -> list[Entry]:
        return [*(Entry(name, "ceramic/square") for name in HOSTILE), *self.inner.entries()]

    def load(self, entry: Entry) -> object:
        return self.inner.load(entry)

    def stamp(self, entry: Entry) -> str:
        return self.inner.stamp(entry)


def test_a_refused_id_is_reported_without_control_characters() -> None:
    findings = invalid_ids(Hostile())  # type: ignore[arg-type]
    assert len(findings) == len(HOSTILE) and {one.severity for one in findings} == {"error"}
    for one in findings:
        assert one.material.isprintable() and one.message.isprintable() and len(one.message) < 400
    assert [one.id for one in valid_entries(Hostile())] == ["ceramic-square-0000"]  # type: ignore[arg-type]


def test_baking_skips_unsafe_ids_and_bakes_the_rest(tmp_path: Path) -> None:
    out = tmp_path / "here" / "out"
    found = bake_tree(Hostile(), output=out)  # type: ignore[arg-type]
    assert found.baked == ("ceramic-square-0000",)
    assert len(found.left_out) == len(HOSTILE)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["out"]
    assert len(list(out.glob("**/*.dds"))) == 2


def materials(folder: Path, tree: Path, names: list[str]) -> Path:
    """Create a folder with one set of pictures for which a manifest has several names."""
    (picture,) = (tree / "materials").glob("ceramic*")
    shutil.copytree(picture, folder / "m")
    maps = {path.stem: {"file": f"m/{path.name}"} for path in (folder / "m").glob("*.png")}
    (folder / "manifest.json").write_text(json.dumps([{"id": name, "maps": maps} for name in names]))
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    bake_tree(GeneratedSource(count=1, size=32, seed=1), output=folder)
    return folder


def test_unsafe_ids_of_a_manifest_are_not_baked(tree: Path, tmp_path: Path) -> None:
    source = materials(tmp_path / "source", tree, ["../../../escaped", "/abs", "m"])
    out = tmp_path / "a" / "b" / "out"
    done = CliRunner().invoke(main, ["bake", str(source), "--out", str(out)])
    assert done.exit_code == 1, done.output
    assert "left out: ../../../escaped" in done.stderr and "1 textures in" in done.output
    written = {path for path in tmp_path.rglob("*") if path.is_file() and source not in path.parents}
    assert written and all(path.is_relative_to(out) for path in written)


def test_parquet_rows_with_unsafe_ids_are_left_out(tmp_path: Path) -> None:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        name: pa.nulls(2, image) for name in ("basecolor", "normal", "roughness", "metallic", "height")
    }
    facts = [{"license": "CC0", "authors": ["a"], "link": ""}] * 2
    table = {"name": ["../../../hostile_out", "acg_rock_058"], "category": [10, 10], "metadata": facts}
    pq.write_table(pa.table({**table, **columns}), tmp_path / "rows.parquet")
    source = MatSynthSource(str(tmp_path / "rows.parquet"))
    entries, _ = list_sources([source])
    assert [one.entry.id for one in entries] == ["acg_rock_058"]
    assert [one.material for one in list_left_out([source]) if one.check == "id"] == ["../../../hostile_out"]


def test_every_command_checks_the_ids_of_sources() -> None:
    root = Path(__file__).parents[3]
    files = [*(root / "pbrlib").rglob("*.py"), *(root / "ray_jobs").rglob("*.py")]
    callers = {
        file.relative_to(root).as_posix()
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "entries"
    }
    assert callers == {"pbrlib/data/materials/ids.py"}


def test_no_output_is_written_outside_of_its_folder(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "textures").symlink_to(elsewhere)
    for relative in ("textures/a.dds", "../a.dds", "new/../../a.dds"):
        with pytest.raises(DataError, match="expected a folder inside"):
            write_files_together(out, {Path(relative): b"x"})  # type: ignore[dict-item]
    assert not list(elsewhere.iterdir()) and not (tmp_path / "a.dds").exists()


def test_a_link_at_an_output_path_is_replaced(tmp_path: Path) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious"
    out.mkdir()
    precious.write_text("mine")
    (out / "a.dds").symlink_to(precious)
    write_files_together(out, {Path("a.dds"): b"x"})  # type: ignore[dict-item]
    assert precious.read_text() == "mine" and (out / "a.dds").read_bytes() == b"x"
    assert not (out / "a.dds").is_symlink()


@pytest.mark.parametrize("place", ["../../dev/zero", "/dev/zero", "textures/\u202ea.dds"])
def test_an_index_that_names_files_outside_of_its_folder_is_an_error(place: str, tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    index.write_text(json.dumps([{"id": "a", "diffuse": place, "normal": "a_n.dds"}]))
    with pytest.raises(DataError, match=r"index\.json: 0\.diffuse: .*got a path"):
        read_index(index)


def test_texts_of_files_are_printed_without_control_characters() -> None:
    assert printable("a\x1b]0;b\x07\nc\udcff") == "a\\x1b]0;b\\x07\nc\\udcff"
    report = AuditReport(
        1, (Finding("a\x1bb", "", "x", "error", "c\x1bd"), Finding("e\x1b", "", "y", "note", "f"))
    )
    cells = [cell for column in report.table().columns for cell in column.cells]
    assert all("\x1b" not in str(cell) for cell in cells)


def test_an_unsafe_id_of_a_manifest_reads_no_folder(tree: Path, tmp_path: Path) -> None:
    source = FolderSource(str(materials(tmp_path / "source", tree, ["..", "m"])))
    assert [entry.id for entry in valid_entries(source)] == ["m"]
