"""``pbr augment-preview``; needs no Ray."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ray_jobs.cli import main
from tests.conftest import METALLIC, SEGFORMER

CELL, CAPTION = 160, 14


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["augment-preview", *map(str, arguments)])


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the curricula of a recipe, and something that is none."""
    folder = tmp_path / "configs" / "rev7"
    folder.mkdir(parents=True)
    (folder / "segformer.yaml").write_text(SEGFORMER)
    (folder / "ladder.yaml").write_text("name: ladder\nfamilies: [segformer, metallic]\n")
    for name in ("metallic", "roughness"):
        (folder / f"{name}.yaml").write_text(METALLIC.replace("metallic", name))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.usefixtures("recipe")
def test_a_phase_of_the_recipe_is_found_and_drawn(shard_folder: Path, tmp_path: Path) -> None:
    result = run(shard_folder, "--phase", "S0")
    assert result.exit_code == 0, result.output
    assert "configs/rev7/segformer.yaml, phase S0: augment-S0.png" in result.output
    with Image.open(tmp_path / "augment-S0.png") as sheet:
        # All eight draws that the phase has; diffuse, albedo, normal and mask, before and after.
        assert sheet.size == (8 * CELL, CAPTION + 8 * (CELL + CAPTION))


def test_the_sheet_shows_the_target_of_a_map_task_and_obeys_count_and_overrides(
    recipe: Path, shard_folder: Path
) -> None:
    def drawn(*more: str) -> np.ndarray:
        file, out = recipe / "metallic.yaml", recipe / "sheet.png"
        result = run(shard_folder, "--phase", "M0", "--curriculum", file, "--count", "3", "--out", out, *more)
        assert result.exit_code == 0, result.output
        return np.asarray(Image.open(io.BytesIO(out.read_bytes())))

    still = drawn()
    assert still.shape[:2] == (CAPTION + 3 * (CELL + CAPTION), 10 * CELL)

    def column(sheet: np.ndarray, number: int) -> np.ndarray:
        return sheet[CAPTION:, number * CELL : (number + 1) * CELL]

    # The phase augments nothing, so both columns of a map are the same picture...
    assert all(np.array_equal(column(still, number), column(still, number + 1)) for number in range(2, 10, 2))
    # ...until an override turns it, and the picture before stays what it was.
    turned = drawn("--set", "phases.M0.augment.rotate90=true")
    assert np.array_equal(column(still, 2), column(turned, 2))
    assert not np.array_equal(column(still, 3), column(turned, 3))


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ("S9", "--phase S9: no curriculum in configs/rev7 has it. Name the file with --curriculum."),
        ("M0", "it is in configs/rev7/metallic.yaml, configs/rev7/roughness.yaml. Name the file"),
    ],
)
@pytest.mark.usefixtures("recipe")
def test_a_phase_that_no_file_or_several_have_is_refused(
    shard_folder: Path, phase: str, message: str
) -> None:
    result = run(shard_folder, "--phase", phase)
    assert result.exit_code == 2
    assert message in result.output


def test_a_phase_that_the_named_file_lacks_is_refused_with_those_that_it_has(
    recipe: Path, shard_folder: Path
) -> None:
    result = run(shard_folder, "--phase", "A1", "--curriculum", recipe / "segformer.yaml")
    assert result.exit_code == 2
    assert "has no phase 'A1'. Its phases are S0." in result.output


def test_a_picture_that_cannot_be_written_is_an_input_error(recipe: Path, shard_folder: Path) -> None:
    (recipe / "file").touch()
    result = run(shard_folder, "--phase", "S0", "--count", "1", "--out", recipe / "file" / "sheet.png")
    assert result.exit_code == 2
    assert "--out: got" in result.output and "leads to a file; expected a folder" in result.output
