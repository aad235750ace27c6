"""The model folder of a finished ladder."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import SegformerForSemanticSegmentation

from pbrlib.curriculum.config.load import load_curriculum, parse_curriculum
from pbrlib.errors import CheckpointError, ConfigError
from pbrlib.evaluate.samples import validation_textures
from pbrlib.inference.chain import Chain
from pbrlib.maps import CLASSES, TARGETS
from pbrlib.models.blocks import resize
from pbrlib.models.inputs import colour_input
from pbrlib.release import write
from pbrlib.train.record.rundirectory import RunDirectory
from tests.conftest import SEGFORMER
from tests.release.conftest import Ladder, train_again

CPU = torch.device("cpu")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_all_that_it_promises_and_nothing_else(released: Ladder) -> None:
    files = set(everything(released.runs / "model"))
    assert {name for name in files if not name.startswith("evaluation/contact-")} == {
        "README.md",
        "model.json",
        "SHA256SUMS",
        "segformer/config.json",
        "segformer/model.safetensors",
        "albedo.safetensors",
        "metallic.safetensors",
        "curricula/segformer.yaml",
        "curricula/albedo.yaml",
        "curricula/metallic.yaml",
        "evaluation/evaluation.json",
        "attributions.csv",
    }
    assert [path.name for path in released.runs.glob(".model*")] == []


def test_every_file_can_be_read_by_those_who_can_read_the_runs(released: Ladder) -> None:
    files = [path for path in (released.runs / "model").rglob("*") if path.is_file()]
    assert {path.stat().st_mode for path in files} == {(released.runs / "model" / "README.md").stat().st_mode}


def test_the_model_predicts_what_the_runs_predict_bit_for_bit(released: Ladder) -> None:
    ours, theirs = (Chain.open(folder, device=CPU) for folder in (released.runs, released.runs / "model"))
    texture = next(iter(validation_textures(released.shards))).given
    wanted, found = ours.predict(texture), theirs.predict(texture)
    assert set(found) == {"segmentation", "relief", "albedo", "metallic"}
    for name, values in wanted.items():
        assert torch.equal(found[name], values), name


def test_transformers_opens_the_segmentation_and_gives_the_same_logits(released: Ladder) -> None:
    folder = released.runs / "model"
    theirs = SegformerForSemanticSegmentation.from_pretrained(folder / "segformer").eval()
    assert theirs.config.id2label == dict(enumerate(CLASSES))
    assert theirs.config.label2id == {name: number for number, name in enumerate(CLASSES)}
    texture = next(iter(validation_textures(released.shards))).given
    x = colour_input(texture.diffuse[None], texture.normal[None])
    said = json.loads((folder / "model.json").read_text())["conventions"]["segmentation"]
    mean, std = (torch.tensor(said[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    ours = Chain.open(released.runs, device=CPU).segmentation
    with torch.no_grad():
        logits, wanted = theirs((x - mean) / std).logits, ours(x).logits
    assert wanted.std() > 1e-3
    torch.testing.assert_close(resize(logits, (x.shape[2], x.shape[3])), wanted, atol=1e-5, rtol=1e-4)


def test_sha256sum_verifies_the_folder(released: Ladder) -> None:
    folder = released.runs / "model"
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = {line.partition(":")[0] for line in done.stdout.splitlines()}
    assert listed == set(everything(folder)) - {"SHA256SUMS"}


def test_model_json_says_what_was_trained_on_what(released: Ladder) -> None:
    content = json.loads((released.runs / "model" / "model.json").read_text())
    for role, name in {"segmentation": "segformer", "albedo": "albedo", "metallic": "metallic"}.items():
        _, done = RunDirectory(released.runs, name=name).best()
        network = content["networks"][role]
        assert network["network"]["role"] == role
        assert (network["fingerprint"], network["step"]) == (done.fingerprint, done.step)
        assert network["metrics"] == done.metrics
    assert content["data"] == {
        "fingerprint": released.shards.fingerprint,
        "textures": {"generated": {"train": 14, "val": 7}},
    }
    assert set(content["versions"]) == {"pbrlib", "torch", "transformers"}


def test_every_texture_is_attributed(released: Ladder) -> None:
    with (released.runs / "model" / "attributions.csv").open(newline="") as file:
        found = {row["id"]: row for row in csv.DictReader(file)}
    assert set(found) == {row.id for row in released.shards.rows}
    for row in released.shards.rows:
        assert (found[row.id]["licence"], found[row.id]["split"]) == (row.licence, row.split)


def test_the_curricula_load_as_those_that_trained(released: Ladder) -> None:
    for curriculum in released.curricula:
        file = released.runs / "model" / "curricula" / f"{curriculum.name}.yaml"
        assert load_curriculum(file) == curriculum


def test_nothing_in_the_folder_names_a_place_of_this_machine(released: Ladder) -> None:
    for name, content in everything(released.runs / "model").items():
        assert str(released.runs).encode() not in content, name
        assert released.shards.location.encode() not in content, name


def test_the_card_has_the_figures_the_phases_and_the_limits(released: Ladder) -> None:
    folder = released.runs / "model"
    text = (folder / "README.md").read_text()
    content = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    for name, metric in (("albedo", "rmse"), ("segmentation", "miou")):
        mean = content["maps"][name][metric]["methods"]["net"]["mean"]
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} | {metric} "))
        assert f"| {mean:.3f} [" in line
    assert "| metallic | M0 | 6 |" in text
    assert "| metallic | colour, classes | [0, 1], linear data |" in text
    trained = {curriculum.task.kind for curriculum in released.curricula}
    *others, last = (name for name in TARGETS if name not in trained)
    assert f"There is no network for {', '.join(others)} and {last}." in text
    assert "validation figures, not test figures" in text.lower()


def test_the_card_does_not_hide_a_gate_that_was_forced(ladder: Ladder) -> None:
    shutil.rmtree(ladder.runs / "model")
    verdict = {"passed": False, "forced": "one texture\nis broken", "figures": []}
    RunDirectory(ladder.runs, name="albedo").note_gate("A1", verdict)
    ladder.write()
    text = (ladder.runs / "model" / "README.md").read_text()
    assert "- albedo/A1 did not pass its gate; it was forced: one texture is broken." in text


def test_a_model_of_the_same_networks_and_data_is_left_alone(ladder: Ladder) -> None:
    (ladder.runs / "model" / "README.md").write_text("A card with my own words.")
    before = everything(ladder.runs / "model")
    done = ladder.write()
    assert done.evaluation is None
    assert done.folder == ladder.runs / "model"
    assert everything(ladder.runs / "model") == before


def test_a_damaged_model_is_written_again(ladder: Ladder) -> None:
    file = ladder.runs / "model" / "albedo.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert ladder.write().evaluation is not None
    assert file.read_bytes() == whole


@pytest.mark.parametrize("name", ["evaluation/evaluation.json", "README.md", "attributions.csv"])
def test_a_model_without_its_evaluation_or_another_file_is_written_again(ladder: Ladder, name: str) -> None:
    (ladder.runs / "model" / name).unlink()
    assert ladder.write().evaluation is not None
    assert (ladder.runs / "model" / name).is_file()


def edited(ladder: Ladder) -> Ladder:
    """The ladder with its last network trained otherwise."""
    metallic = ladder.curricula[-1]
    other = metallic.model_copy(update={"seed": 1})
    train_again(ladder, other)
    return Ladder(ladder.runs, [*ladder.curricula[:-1], other], ladder.shards)


def test_another_network_makes_another_model(ladder: Ladder) -> None:
    before = everything(ladder.runs / "model")
    assert edited(ladder).write().evaluation is not None
    after = everything(ladder.runs / "model")
    changed = {name for name in before if before[name] != after[name]}
    assert {"metallic.safetensors", "model.json", "SHA256SUMS", "curricula/metallic.yaml"} <= changed
    assert not {"albedo.safetensors", "segformer/model.safetensors", "attributions.csv"} & changed


def test_what_dies_while_it_evaluates_leaves_the_old_model_and_is_made_up_for(
    ladder: Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    before = everything(ladder.runs / "model")
    other = edited(ladder)
    with monkeypatch.context() as patch:
        patch.setattr(write, "evaluate", die)
        with pytest.raises(Killed):
            other.write()
    assert everything(ladder.runs / "model") == before
    (ladder.runs / ".model.new").mkdir()
    (ladder.runs / ".model.new" / "half").write_text("what a kill leaves")
    assert other.write().evaluation is not None
    assert "half" not in everything(ladder.runs / "model")
    assert [path.name for path in ladder.runs.glob(".model*")] == []


def test_a_full_disk_is_reported_and_leaves_the_old_model_alone(
    ladder: Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = everything(ladder.runs / "model")
    monkeypatch.setattr(write, "save_pretrained", full)
    with pytest.raises(CheckpointError, match=r"cannot be written .*No space left.*Free disk space"):
        edited(ladder).write()
    assert everything(ladder.runs / "model") == before
    assert [path.name for path in ladder.runs.glob(".model*")] == []


def test_what_is_no_model_is_not_written_over(ladder: Ladder) -> None:
    (ladder.runs / "model" / "model.json").unlink()
    with pytest.raises(CheckpointError, match=r"runs/model: got another file or folder; .* Move it away"):
        ladder.write()


def test_networks_of_other_curricula_in_the_directory_do_not_matter(ladder: Ladder) -> None:
    wide = ladder.curricula[1].model_copy(update={"name": "albedo-again"})
    train_again(ladder, wide)
    with pytest.raises(CheckpointError, match="got two networks for albedo, of albedo and albedo-again"):
        Chain.open(ladder.runs, device=CPU)
    assert ladder.write().evaluation is None


def test_an_unfinished_ladder_leaves_no_model(ladder: Ladder) -> None:
    albedo = ladder.curricula[1]
    longer = albedo.model_copy(update={"phases": {**albedo.phases, "A2": albedo.phases["A1"]}})
    shutil.rmtree(ladder.runs / "model")
    part = Ladder(ladder.runs, [ladder.curricula[0], longer], ladder.shards)
    with pytest.raises(CheckpointError, match=r"albedo: got unfinished phases \(A2\).*Train them first"):
        part.write()
    assert not (ladder.runs / "model").exists()


def test_a_ladder_without_albedo_leaves_no_model(ladder: Ladder) -> None:
    part = Ladder(ladder.runs, ladder.curricula[:1], ladder.shards)
    with pytest.raises(CheckpointError, match="expected one for albedo too"):
        part.write()


def test_no_curriculum_takes_the_folder_of_the_model() -> None:
    with pytest.raises(ConfigError, match=r"name: got model, the folder of the trained networks"):
        parse_curriculum(SEGFORMER.replace("name: segformer", "name: model"))
