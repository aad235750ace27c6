import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pbrlib.convert.conversion import Settings
from pbrlib.convert.conversionreport import left_out_table
from pbrlib.convert.inputs import Specular
from pbrlib.convert.runner import Progress, convert_tree
from pbrlib.errors import CheckpointError, ConfigError
from pbrlib.inference.chain import TextureInput
from pbrlib.textures.decode import read_picture
from pbrlib.textures.leftout import Outcome
from tests.convert.readers import crashing_reader
from tests.convert.textures import FakeNetworks, normal, picture, save_pair, save_png

ONE = Settings(num_workers=1)


def test_a_tree_of_dds_and_png_is_converted(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "stone/wall")
    save_png(tmp_path / "in/wood/plank.png", picture())
    save_png(tmp_path / "in/wood/plank_n.png", normal())
    steps: list[Progress] = []
    report = convert_tree(
        FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE, watch=steps.append
    )
    assert [item.name for item in report.converted] == ["stone/wall", "wood/plank"]
    assert report.exit_code == 0
    assert steps[0] == Progress(done=0, total=2, name="")
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


def test_a_crash_or_a_damaged_file_fails_only_its_own_texture(tmp_path: Path) -> None:
    for name in ("a", "crash", "damaged", "z"):
        save_pair(tmp_path / "in", name)
    damaged = tmp_path / "in/damaged_n.dds"
    damaged.write_bytes(damaged.read_bytes()[:200])
    save_pair(tmp_path / "in", "sky/clouds")
    (tmp_path / "in/z_n.dds").rename(tmp_path / "in/y_n.dds")
    report = convert_tree(
        FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=Settings(read=crashing_reader)
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
    report = convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(report.table())
        console.print(left_out_table(report.left_out))
    text = console.export_text()
    assert "[odd] name" in text
    assert "interface/map_n.dds" in text


def test_textures_that_could_not_be_written_are_failures(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "stone/wall")
    (tmp_path / "out/textures").mkdir(parents=True)
    (tmp_path / "out/textures/PBR").write_text("in the way")
    report = convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    assert [file.outcome for file in report.left_out] == [Outcome.FAILED]
    assert "cannot be written" in report.left_out[0].reason
    assert not (tmp_path / "out/contact.png").exists()


def test_an_output_inside_the_input_is_an_error(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "wall")
    for output in (tmp_path / "in", tmp_path / "in/out"):
        with pytest.raises(ConfigError, match="got an output inside the input"):
            convert_tree(FakeNetworks, source=tmp_path / "in", output=output)


def test_converting_again_gives_the_same_files(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "wall", alpha=90)
    for _ in range(2):
        convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
        if not (tmp_path / "first").exists():
            shutil.copytree(tmp_path / "out", tmp_path / "first")
    for path in (tmp_path / "first/textures").rglob("*.dds"):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "first")).read_bytes()


def test_a_missing_network_ends_the_conversion(tmp_path: Path) -> None:
    class WithoutHeight(FakeNetworks):
        def predict(self, texture):  # type: ignore[no-untyped-def]
            return {name: x for name, x in super().predict(texture).items() if name != "height"}

    save_pair(tmp_path / "in", "wall")
    with pytest.raises(CheckpointError, match="no trained network for height"):
        convert_tree(WithoutHeight, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)


def test_textures_of_any_small_size_are_converted(tmp_path: Path) -> None:
    sizes = [((16, 16), (1, 1)), ((1, 1), (1, 1)), ((1, 1), (16, 16)), ((1, 64), (2, 2)), ((2, 3), (3, 2))]
    for number, (diffuse, small) in enumerate(sizes):
        save_png(tmp_path / f"in/{number}.png", picture(*diffuse))
        save_png(tmp_path / f"in/{number}_n.png", np.full((*small, 4), (128, 128, 255, 60), np.uint8))
    report = convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    assert [(item.height, item.width) for item in report.converted] == [
        (16, 16), (4, 4), (4, 4), (4, 64), (4, 4),
    ]  # fmt: skip
    for number in range(len(sizes)):
        written = read_picture(tmp_path / f"out/textures/PBR/{number}_n.dds").astype(int)
        assert np.abs(written[..., :3] - (128, 128, 255)).max() <= 2


class Stumbling(FakeNetworks):
    """Networks that raise a given error for textures of 32 px."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def predict(self, texture: TextureInput) -> dict[str, Tensor]:
        if texture.diffuse.shape[-1] == 32:
            raise self.error
        return super().predict(texture)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (MemoryError(), "not enough memory"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "not enough GPU memory"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (OSError(5, "Input/output error"), "OSError: [Errno 5]"),
    ],
)
def test_any_error_of_a_pair_is_listed_in_the_report(tmp_path: Path, error: Exception, reason: str) -> None:
    for name, size in (("a", 16), ("b", 32), ("c", 16)):
        save_pair(tmp_path / "in", name, size=size)
    networks = Stumbling(error)
    report = convert_tree(lambda: networks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    assert [item.name for item in report.converted] == ["a", "c"]
    (file,) = report.left_out
    assert file.outcome is Outcome.FAILED
    assert file.reason.startswith(reason)
    assert (report.state, report.exit_code) == ("complete", 1)


def test_predictions_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    class Diverged(FakeNetworks):
        def predict(self, texture: TextureInput) -> dict[str, Tensor]:
            answer = super().predict(texture)
            return answer | {"roughness": answer["roughness"] * float("nan")}

    save_pair(tmp_path / "in", "wall")
    report = convert_tree(Diverged, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    assert "roughness: got predictions that are not finite" in report.left_out[0].reason
    assert not (tmp_path / "out/textures").exists()


def test_a_file_that_is_deleted_early_fails_only_its_own_texture(tmp_path: Path) -> None:
    for name in "abcdefgh":
        save_pair(tmp_path / "in", name)

    def remove_last(progress: Progress) -> None:
        (tmp_path / "in/h.dds").unlink(missing_ok=True)

    report = convert_tree(
        FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE, watch=remove_last
    )
    assert [item.name for item in report.converted] == list("abcdefg")
    assert "h.dds: cannot be read (No such file or directory)" in report.left_out[0].reason


def test_a_glow_map_is_converted_and_the_patch_is_emissive(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "lamp")
    glow = picture(18, 16)
    save_png(tmp_path / "in/lamp_g.png", glow)
    save_pair(tmp_path / "in", "wall")
    report = convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    assert "textures/PBR/lamp_g.dds" in report.converted[0].files
    written = tmp_path / "out/textures/PBR/lamp_g.dds"
    assert struct.unpack_from("<I", written.read_bytes(), 128)[0] == 99
    pixels = read_picture(written).astype(int)
    assert pixels.shape == (20, 16, 4)
    assert abs(pixels[..., :3].mean() - glow[..., :3].mean()) < 3
    emissive = {
        name: json.loads((tmp_path / f"out/PBRNifPatcher/{name}.json").read_text())[0]["emissive"]
        for name in ("lamp", "wall")
    }
    assert emissive == {"lamp": True, "wall": False}


def test_a_glow_map_that_does_not_decode_fails_its_texture(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "lamp")
    (tmp_path / "in/lamp_g.dds").write_bytes(b"DDS absurd")
    report = convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    assert "lamp_g.dds" in report.left_out[0].reason


@pytest.mark.parametrize(("specular", "alpha"), [(1.0, 255), (0.5, 128), (0.0, 0), ("gloss", 100)])
def test_the_alpha_of_rmaos_is_a_constant_or_the_old_gloss(
    tmp_path: Path, specular: Specular, alpha: int
) -> None:
    save_pair(tmp_path / "in", "wall")
    settings = Settings(num_workers=1, specular=specular)
    convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=settings)
    pixels = read_picture(tmp_path / "out/textures/PBR/wall_rmaos.dds").astype(int)
    assert np.abs(pixels[..., 3] - alpha).max() <= 3
    assert np.abs(pixels[..., 0] - 128).max() <= 3


def test_variants_that_share_a_normal_have_a_note(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "robe")
    (tmp_path / "in/robe.dds").rename(tmp_path / "in/robe_red.dds")
    report = convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    assert report.converted[0].name == "robe_red"
    assert "no normal of its own; uses robe_n.dds of another variant" in report.converted[0].notes


@pytest.mark.parametrize(
    ("left", "code"),
    [("interface/a.dds", 0), ("a_m.dds", 0), ("b.dds", 1), ("b_n.dds", 1), ("b.tga", 1), ("Mod.bsa", 1)],
)
def test_files_of_other_kinds_are_no_failure_and_other_left_out_files_are(
    tmp_path: Path, left: str, code: int
) -> None:
    save_pair(tmp_path / "in", "a")
    (tmp_path / "in" / left).parent.mkdir(exist_ok=True)
    (tmp_path / "in" / left).write_bytes(b"")
    report = convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    assert len(report.converted) == 1
    assert report.exit_code == code


def test_an_earlier_conversion_is_replaced_and_a_set_of_other_origin_is_kept(tmp_path: Path) -> None:
    save_pair(tmp_path / "in", "wall")
    for code in (0, 0):
        report = convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
        assert (len(report.converted), report.exit_code) == (1, code)
    (tmp_path / "out/PBRNifPatcher/wall.json").unlink()
    before = (tmp_path / "out/textures/PBR/wall.dds").read_bytes()
    report = convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    assert [file.outcome for file in report.left_out] == [Outcome.KEPT]
    assert (tmp_path / "out/textures/PBR/wall.dds").read_bytes() == before
