import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pbrlib.convert.runner import Progress, convert_tree
from pbrlib.errors import CheckpointError, ConfigError
from pbrlib.textures.pairs import Fate
from tests.convert.readers import crashing_reader
from tests.convert.textures import FakeNetworks, normal, picture, save_pair, save_png


def test_a_tree_of_dds_and_png_is_converted(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "stone/wall")
    save_png(tmp_path / "in/wood/plank.png", picture())
    save_png(tmp_path / "in/wood/plank_n.png", normal())
    steps: list[Progress] = []
    report = convert_tree(
        FakeNetworks(), source=tmp_path / "in", output=tmp_path / "out", num_workers=1, watch=steps.append
    )
    assert [item.name for item in report.converted] == ["stone/wall", "wood/plank"]
    assert report.exit_code == 0
    assert steps[-1] == Progress(done=2, total=2, name="wood/plank")
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert written == {
        *(
            f"textures/PBR/{name}{s}.dds"
            for name in ("stone/wall", "wood/plank")
            for s in ("", "_n", "_rmaos", "_p")
        ),
        *(f"PBRNifPatcher/{name}.json" for name in ("stone/wall", "wood/plank")),
        "report.json",
        "contact.png",
    }
    with Image.open(tmp_path / "out/contact.png") as sheet:
        assert sheet.size == (7 * 160, 14 + 2 * 174)


def test_a_crash_and_a_damaged_file_cost_one_texture_each(tmp_path: Path) -> None:
    for name in ("a", "crash", "damaged", "z"):
        save_pair(tmp_path / "in", name)
    damaged = tmp_path / "in/damaged_n.dds"
    damaged.write_bytes(damaged.read_bytes()[:200])
    save_pair(tmp_path / "in", "sky/clouds")
    (tmp_path / "in/z_n.dds").rename(tmp_path / "in/y_n.dds")
    report = convert_tree(
        FakeNetworks(), source=tmp_path / "in", output=tmp_path / "out", read=crashing_reader
    )
    assert [item.name for item in report.converted] == ["a"]
    assert report.exit_code == 1
    saved = json.loads((tmp_path / "out/report.json").read_text())
    assert saved["counts"] == {"converted": 1, "failed": 2, "skipped": 2, "unpaired": 2}
    reasons = {item["path"]: item["reason"] for item in saved["left_out"]}
    assert "ended its process by SIGABRT" in reasons["crash.dds"]
    assert "damaged_n.dds: got 200 bytes" in reasons["damaged.dds"]
    assert set(saved["converted"][0]["seams"]) == {
        "diffuse",
        "normal",
        "albedo",
        "roughness",
        "metallic",
        "ao",
        "height",
    }


def test_the_tables_name_every_file(tmp_path: Path) -> None:
    from rich.console import Console

    save_pair(tmp_path / "in", "[odd] name")
    save_pair(tmp_path / "in", "interface/map")
    report = convert_tree(FakeNetworks(), source=tmp_path / "in", output=tmp_path / "out", num_workers=1)
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    with console.file:
        for table in report.tables():
            console.print(table)
    text = console.export_text()
    assert "[odd] name" in text
    assert "interface/map_n.dds" in text


def test_textures_that_could_not_be_written_are_failures(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "stone/wall")
    (tmp_path / "out/textures").mkdir(parents=True)
    (tmp_path / "out/textures/PBR").write_text("in the way")
    report = convert_tree(FakeNetworks(), source=tmp_path / "in", output=tmp_path / "out", num_workers=1)
    assert [aside.fate for aside in report.asides] == [Fate.FAILED]
    assert "cannot be written" in report.asides[0].reason
    assert not (tmp_path / "out/contact.png").exists()


def test_the_output_may_not_lie_in_the_input(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "wall")
    for output in (tmp_path / "in", tmp_path / "in/out"):
        with pytest.raises(ConfigError, match="lies inside the input"):
            convert_tree(FakeNetworks(), source=tmp_path / "in", output=output)


def test_converting_again_gives_the_same_files(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "wall", alpha=90)
    for _ in range(2):
        convert_tree(FakeNetworks(), source=tmp_path / "in", output=tmp_path / "out", num_workers=1)
        if not (tmp_path / "first").exists():
            shutil.copytree(tmp_path / "out", tmp_path / "first")
    for path in (tmp_path / "first/textures").rglob("*.dds"):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "first")).read_bytes()


def test_a_missing_network_ends_the_run(tmp_path: Path) -> None:
    class WithoutHeight(FakeNetworks):
        def predict(self, texture):  # type: ignore[no-untyped-def]
            return {name: x for name, x in super().predict(texture).items() if name != "height"}

    save_pair(tmp_path / "in", "wall")
    with pytest.raises(CheckpointError, match="no trained network for height"):
        convert_tree(WithoutHeight(), source=tmp_path / "in", output=tmp_path / "out", num_workers=1)
