"""A model folder comes from anywhere: what is wrong with it is said, and it leads nowhere else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pbrlib import storage
from pbrlib.errors import CheckpointError
from pbrlib.evaluate.measure import checkpoints_of
from pbrlib.inference.chain import Chain
from tests.release.conftest import Ladder


@pytest.fixture
def model(released: Ladder, tmp_path: Path) -> Path:
    return shutil.copytree(released.runs / "model", tmp_path / "model")


def refused(model: Path, match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        Chain.open(model, device=torch.device("cpu"))


def edit(model: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((model / "model.json").read_text())
    change(content)
    (model / "model.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name", ["albedo.safetensors", "segformer/model.safetensors", "segformer/config.json"]
)
def test_a_changed_file_is_refused_by_name(model: Path, name: str) -> None:
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[:-2] + b"?" + content[-1:])
    refused(model, rf"{name}: got another checksum than the one in SHA256SUMS")


@pytest.mark.parametrize("name", ["albedo.safetensors", "segformer/config.json", "SHA256SUMS"])
def test_a_missing_file_is_refused_by_name(model: Path, name: str) -> None:
    (model / name).unlink()
    refused(model, rf"{name}: cannot be read \(.*\). Copy the whole folder again")


def test_weights_without_a_sum_are_refused(model: Path) -> None:
    lines = (model / "SHA256SUMS").read_text().splitlines(keepends=True)
    (model / "SHA256SUMS").write_text("".join(line for line in lines if "albedo.safe" not in line))
    refused(model, r"SHA256SUMS: got no line for albedo.safetensors")


def test_an_edited_readme_is_accepted(model: Path) -> None:
    (model / "README.md").write_text("mine")
    Chain.open(model, device=torch.device("cpu"))


@pytest.mark.parametrize(
    "file",
    ["../albedo.safetensors", "/etc/passwd", "a/../../b", "..", ".", "", "sub/albedo.safetensors", "a\n"],
)
def test_no_path_leads_out_of_the_folder(model: Path, file: str) -> None:
    def change(content: dict[str, Any]) -> None:
        content["networks"]["albedo"]["file"] = file

    shutil.copy(model / "albedo.safetensors", model.parent)
    with (model / "SHA256SUMS").open("a") as sums:
        sums.write(f"{storage.sha256(model / 'albedo.safetensors')}  {file}\n")
    edit(model, change)
    refused(model, r"model.json: networks.albedo.*file: ")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_an_unknown_format_is_refused(model: Path, version: object) -> None:
    edit(model, lambda content: content.update(format_version=version))
    refused(
        model,
        rf"format version {version!r}, this version of pbr reads 1. Use the version of pbr that wrote it",
    )


def test_other_classes_are_refused(model: Path) -> None:
    edit(model, lambda content: content["conventions"]["classes"].reverse())
    refused(model, r"conventions.classes: got other classes; expected ceramic, ")


def test_weights_of_another_size_are_refused(model: Path) -> None:
    edit(model, lambda content: content["networks"]["albedo"]["network"]["model"].update(width=16))
    refused(model, r"albedo.safetensors: a checkpoint of another architecture")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format_version": 1}'])
def test_what_is_no_model_json_is_refused(model: Path, content: str) -> None:
    (model / "model.json").write_text(content)
    refused(model, r"model.json: ")


def test_a_network_behind_another_one_is_refused(model: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["networks"]["metallic"]["frozen"]["albedo"] = "0" * 64

    edit(model, change)
    refused(model, r"metallic.safetensors: got a network trained with another albedo")


def test_the_networks_of_runs_and_model_are_the_same_but_for_their_place(
    released: Ladder, model: Path
) -> None:
    theirs, ours = checkpoints_of(model), checkpoints_of(released.runs)
    assert theirs["segformer"]["checkpoint"] == str(model / "segformer")
    for facts in (*theirs.values(), *ours.values()):
        assert Path(facts.pop("checkpoint")).exists()
    assert theirs == ours
