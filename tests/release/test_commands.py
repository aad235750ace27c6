"""The commands take a model folder where they take a runs directory, and leave it as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pbrlib.errors import CheckpointError
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.cli import main
from ray_jobs.release import release, write_as_task
from tests.release.conftest import Ladder, add_fresh
from tests.release.test_write import everything


def pbr(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(map(str, words)))
    return result.exit_code, result.output


def test_evaluate_gives_the_figures_of_the_runs_and_writes_beside_the_model(
    ladder: Ladder, tmp_path: Path
) -> None:
    model = ladder.runs / "model"
    before = everything(model)
    data = ("--data", ladder.shards.location, "--device", "cpu")
    assert pbr("evaluate", ladder.runs, *data, "--out", tmp_path / "of-runs")[0] == 0
    code, output = pbr("evaluate", model, *data)
    assert code == 0, output
    assert everything(model) == before
    figures = [
        json.loads((folder / "evaluation.json").read_text())
        for folder in (tmp_path / "of-runs", ladder.runs / "model-evaluation", model / "evaluation")
    ]
    for one in figures[1:]:
        assert one["per_texture"] == figures[0]["per_texture"]
        assert one["confusions"] == figures[0]["confusions"]


def test_evaluate_does_not_write_into_a_model(ladder: Ladder) -> None:
    model = ladder.runs / "model"
    code, output = pbr("evaluate", model, "--data", ladder.shards.location, "--out", model / "mine")
    assert code == 2
    assert "a folder in the model" in output
    assert not (model / "mine").exists()


def save_texture(folder: Path) -> None:
    folder.mkdir()
    generator = np.random.default_rng(2)
    for name in ("wall.png", "wall_n.png"):
        pixels = generator.integers(60, 200, (32, 32, 4), dtype=np.uint8)
        if name == "wall_n.png":
            pixels[..., 2] = 230  # normals point out of the surface
        Image.fromarray(pixels).save(folder / name)


def test_convert_with_a_model_writes_what_it_writes_with_the_runs(ladder: Ladder, tmp_path: Path) -> None:
    save_texture(tmp_path / "in")
    whole = add_fresh(ladder, *ladder.lacking)
    whole.write()
    for name, networks in (("of-runs", whole.runs), ("of-model", whole.runs / "model")):
        places = (networks, tmp_path / "in", tmp_path / name)
        code, output = pbr("convert", *places, "--device", "cpu", "--workers", "1")
        assert code == 0, output
    ours, theirs = (everything(tmp_path / name / "textures") for name in ("of-runs", "of-model"))
    assert "PBR/wall_rmaos.dds" in ours
    assert theirs == ours


def test_convert_reports_a_map_that_the_model_lacks(released: Ladder, tmp_path: Path) -> None:
    model = released.runs / "model"
    save_texture(tmp_path / "in")
    code, output = pbr("convert", model, tmp_path / "in", tmp_path / "out", "--device", "cpu")
    assert code == 2
    assert (f"pbr: {model}: no trained network for {', '.join(released.lacking)}, which") in output


def test_release_shows_the_figures_once_and_then_says_that_the_model_is_there(
    ladder: Ladder, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(ladder.runs / "model")
    for _ in range(2):
        folder = release(
            ladder.runs,
            curricula=ladder.curricula,
            data=ladder.shards.data,
            runtime=RuntimeSpec(workers=1),
            local=False,
        )
    first, second = capsys.readouterr().out.split("writing the model")[1:]
    assert "strongest baseline" in first
    assert f"{folder}/evaluation/evaluation.json" in first
    assert "strongest baseline" not in second
    assert f"Model: {folder}, of these very networks and data already" in second


@pytest.mark.ray
def test_a_task_of_the_cluster_writes_the_model_and_its_error_is_the_user_s(
    ray_cluster: None, ladder: Ladder
) -> None:
    shutil.rmtree(ladder.runs / "model")
    shards = ladder.shards
    done = write_as_task(ladder.runs, curricula=ladder.curricula, shards=shards, device="cpu", num_gpus=0)
    assert done.evaluation is not None
    assert done.evaluation.table().row_count
    with pytest.raises(CheckpointError, match="expected one for albedo too"):
        write_as_task(ladder.runs, curricula=ladder.curricula[:1], shards=shards, device="cpu", num_gpus=0)
