"""Two runs beside each other."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pbrlib.runs.compare import Difference, differences
from pbrlib.runs.pictures import pictures
from pbrlib.train.record.journal import Journal
from ray_jobs.cli import main
from tests.runs.trees import albedo_of, declare, finish, phase

F1, F2 = "1" * 64, "2" * 64


def draw(folder: Path, *, value: float, texture: float = 0.5) -> None:
    """A journal's picture of 8 x 24 pixels: a texture, what is predicted, the truth."""
    picture = torch.full((3, 8, 24), value)
    picture[:, :, :8] = texture
    with Journal(folder, first_step=8) as journal:
        journal.picture("validation", step=8, image=picture)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """The same curriculum at two rates, in two runs directories."""
    found = []
    for number, (rate, error) in enumerate((("1.0e-3", 0.3), ("2.0e-3", 0.25))):
        run = declare(tmp_path / f"runs-{number}", albedo_of("A1", **{"{lr: 1.0e-3}": f"{{lr: {rate}}}"}))
        folder = phase(run, "A1", fingerprint=F1, errors={4: 0.5, 8: error}, age_s=60)
        finish(run, folder, fingerprint=F1, order=("A1",))
        draw(folder, value=error)
        found.append(run)
    return found


def test_differences_stand_at_their_addresses_and_what_one_lacks_at_its_outermost() -> None:
    ours = {"seed": 0, "phases": {"A1": {"crop": 64, "loss": {"l1": 1.0}}, "A2": {"crop": 96}}}
    theirs = {"seed": 0, "phases": {"A1": {"crop": 32, "loss": {"l1": 1.0, "lpips": 0.1}}}}
    assert differences(ours, theirs) == [
        Difference("phases.A1.crop", 64, 32),
        Difference("phases.A1.loss.lpips", None, 0.1),
        Difference("phases.A2", {"crop": 96}, None),
    ]
    assert differences(ours, ours) == []


def test_two_runs_are_compared_by_address_figure_and_picture(two: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "both.png"
    result = CliRunner().invoke(main, ["runs", "compare", *map(str, two), "--out", str(out)])
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "1 differences of the curricula address runs-0/albedo runs-1/albedo" in words
    assert "phases.A1.optimizer.lr 0.001 0.002" in words
    assert "val/all/albedo/l1 0.3000 0.2500 -0.0500" in words
    assert "validated on different data" not in words
    sheet = Image.open(out).convert("RGB")
    row = sheet.height - 12  # inside the pictures, above the gap below them
    left, right = (sheet.getpixel((x, row)) for x in (12, sheet.width - 12))
    assert left == (76, 76, 76)
    assert right == (63, 63, 63) or right == (64, 64, 64)


def test_pictures_of_other_textures_are_called_so(two: list[Path], tmp_path: Path) -> None:
    folder = next(two[1].glob("A1-*"))
    shutil.rmtree(folder / "tensorboard")
    draw(folder, value=0.25, texture=0.9)
    words = ["runs", "compare", *map(str, two), "--out", str(tmp_path / "both.png")]
    assert "validated on different data" in CliRunner().invoke(main, words).output


def test_a_saved_picture_equals_the_drawn_one(two: list[Path]) -> None:
    (shown,) = pictures(next(two[0].glob("A1-*")))
    assert shown.step == 8
    assert Image.open(io.BytesIO(shown.data)).size == (24, 8)


def test_a_run_without_a_phase_cannot_be_compared(two: list[Path], tmp_path: Path) -> None:
    empty = declare(tmp_path / "empty", albedo_of("A1"))
    result = CliRunner().invoke(main, ["runs", "compare", str(two[0]), str(empty)])
    assert result.exit_code == 2
    assert "got no started phase" in result.stderr
