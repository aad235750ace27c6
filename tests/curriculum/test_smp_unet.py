"""A network of another kind goes the whole way: YAML, training, checkpoint, warm start, model, figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pbrlib.curriculum.check.curriculum import check, networks_of
from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.describe.tags import tags_of
from pbrlib.curriculum.run import carry_out, launch_local, resolve
from pbrlib.curriculum.spec import Curriculum, plain
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import ConfigError
from pbrlib.evaluate.scores import NET
from pbrlib.inference.chain import Chain
from pbrlib.inference.opened import open_network
from pbrlib.models.modelspec import SmpUNetSpec
from pbrlib.models.smp_unet import SmpUNet
from pbrlib.release.write import write_model
from pbrlib.train.checkpoint.players import read_weights
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec
from tests.conftest import SEGFORMER

CPU = torch.device("cpu")

ALBEDO = """
name: albedo
task: {kind: albedo, model: {kind: smp_unet, encoder: resnet18}}
phases:
  A1:
    epochs: 1
    steps_per_epoch: 2
    crop: 64
    batch: 2
    data: {generated: 1.0}
    optimizer: {lr: 1.0e-3, layer_decay: 0.9}
    schedule: {kind: constant}
    loss: {l1: 1.0}
"""

ROUGHNESS = ALBEDO.replace("albedo", "roughness").replace("A1:", "M0:\n    starts_from: albedo")


def train(text: str, *, runs: Path, shards: ShardSet) -> Curriculum:
    curriculum = parse_curriculum(text)
    for phase in curriculum.phases:
        runtime = RuntimeSpec(workers=1)
        carry_out(resolve(curriculum, phase, shards=shards, runs=runs, runtime=runtime), launch_local)
    return curriculum


@pytest.mark.timeout(600)
def test_an_smp_unet_trains_begins_from_another_and_is_released(
    shard_set: ShardSet, trained_runs: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(trained_runs / "segformer", runs / "segformer")
    curricula = [parse_curriculum(SEGFORMER)]
    curricula += [train(text, runs=runs, shards=shard_set) for text in (ALBEDO, ROUGHNESS)]
    best = {name: RunDirectory(runs, name=name).best()[0] for name in ("albedo", "roughness")}

    declared, network = open_network(best["roughness"], device=CPU)
    assert isinstance(network, SmpUNet)
    assert declared.model == SmpUNetSpec(encoder="resnet18")
    journal = (best["roughness"].parent / "metrics.jsonl").read_text().splitlines()
    (start,) = (line for line in map(json.loads, journal) if line["kind"] == "warm_start")
    assert start["new_channels"] == [f"classes.{number}" for number in range(7)]
    assert start["fresh"] == list(network.head_names)
    donor, ours = read_weights(best["albedo"]), network.state_dict()
    # Two steps at 1e-3 move a weight of AdamW by 2e-3 at most.
    torch.testing.assert_close(
        ours["decoder.blocks.0.conv1.0.weight"], donor["decoder.blocks.0.conv1.0.weight"], atol=3e-3, rtol=0
    )

    released = write_model(runs, curricula=curricula, shards=shard_set, device=CPU)
    chain = Chain.open(released.folder, device=CPU)
    assert isinstance(chain.albedo, SmpUNet)
    assert list(chain.maps) == ["roughness"]
    weights = load_file(released.folder / "roughness.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in ours.items())
    assert released.evaluation is not None
    for role in ("albedo", "roughness"):
        assert released.evaluation.scores.values[role]["mae"][NET]


def test_the_tags_of_its_phase_name_the_resnet() -> None:
    curriculum = parse_curriculum(ALBEDO)
    tags = tags_of(curriculum, "A1", networks=networks_of(curriculum.task))
    assert tags["model"] == "smp_unet resnet18"
    assert plain(curriculum.task.model) == {"kind": "smp_unet", "encoder": "resnet18", "film_dropout": 0.1}


def test_errors_name_the_kind_of_a_model_or_the_default_one() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_curriculum(ALBEDO.replace("resnet18", "resnet19"))
    assert (
        "task.model.encoder: got 'resnet19'; expected one of the known values. Did you mean `resnet18`?"
        in str(caught.value)
    )
    with pytest.raises(
        ConfigError,
        match=r"task\.model: got kind: smp_nuet; expected a known kind\. Did you mean `smp_unet`\?",
    ):
        parse_curriculum(ALBEDO.replace("smp_unet", "smp_nuet"))
    with pytest.raises(ConfigError, match=r"task\.model\.widht: unknown key\. Did you mean `width`\?"):
        parse_curriculum(ALBEDO.replace("kind: smp_unet, encoder: resnet18", "widht: 8"))


def test_a_unet_is_no_donor_for_an_smp_unet() -> None:
    donor = parse_curriculum(ALBEDO.replace("kind: smp_unet, encoder: resnet18", "width: 8, depth: 2"))
    with pytest.raises(ConfigError, match="got albedo, whose network has"):
        check(parse_curriculum(ROUGHNESS), place="roughness.yaml", curricula=(donor,))
