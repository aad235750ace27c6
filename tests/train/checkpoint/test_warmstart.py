from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pbrlib.curriculum.run import launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import CheckpointError
from pbrlib.inference.opened import read_declaration
from pbrlib.models.build import AnyNetwork, build_network, init_head_bias
from pbrlib.models.modelspec import UNetSpec
from pbrlib.models.roles import MapDeclaration
from pbrlib.models.unet import UNet
from pbrlib.tasks.start import differences
from pbrlib.train.checkpoint.players import read_weights, save
from pbrlib.train.checkpoint.state import State
from pbrlib.train.checkpoint.warmstart import Ends, WarmStart, warm_start
from pbrlib.train.record.rundirectory import RunDirectory
from tests.checkpoints import NET, learned
from tests.train.phases import job_of, still

SIZES = UNetSpec(width=8, depth=1)
ALBEDO = MapDeclaration(role="albedo", model=SIZES, condition_channels=4)
STEM = FIRST, SHORTCUT = "encoder.stages.0.first.conv.weight", "encoder.stages.0.shortcut.weight"
HEAD = ("head.weight", "head.bias")


def declared(role: str, **changes: Any) -> MapDeclaration:
    return MapDeclaration.model_validate({**ALBEDO.model_dump(), "role": role, **changes})


def saved(folder: Path, spec: MapDeclaration) -> Path:
    """Return a checkpoint of a network whose weights differ clearly from initial ones."""
    network = build_network(spec)
    for number, parameter in enumerate(network.parameters()):
        torch.nn.init.normal_(parameter, mean=10.0, std=0.5, generator=torch.Generator().manual_seed(number))
    state = State("A4", "f" * 64, 1, 1, {}, {NET: spec.model_dump(mode="json")})
    save(folder, state=state, learned=learned(network, torch.optim.AdamW(network.parameters())))
    return folder


def begun(folder: Path, spec: MapDeclaration, *, seed: int = 5) -> tuple[AnyNetwork, WarmStart]:
    torch.manual_seed(0)
    network = build_network(spec)
    init_head_bias(network, 0.06)
    own = Ends(stem=STEM, channels=spec.channels, head=HEAD)
    return network, warm_start(folder, network, own=own, theirs=read_declaration(folder).channels, seed=seed)


@pytest.mark.parametrize("use_normal", [False, True])
def test_channels_keep_their_meaning_in_any_order(tmp_path: Path, use_normal: bool) -> None:
    folder = saved(tmp_path, ALBEDO)
    spec = declared("metallic", use_normal=use_normal)
    network, _ = begun(folder, spec)
    donor = read_weights(folder)
    for name in STEM:
        ours = network.get_parameter(name).detach()
        assert torch.equal(ours[:, :3], donor[name][:, :3])
        assert float(ours[:, 3:10].abs().max()) < 5.0, "class probabilities are drawn anew"
        if use_normal:
            assert torch.equal(ours[:, 10:13], donor[name][:, 3:6])


def test_channels_that_the_donor_lacks_are_kaiming_normal_over_all_channels(tmp_path: Path) -> None:
    folder = saved(tmp_path, ALBEDO.model_copy(update={"model": UNetSpec(width=64, depth=1)}))
    spec = declared("roughness", model=UNetSpec(width=64, depth=1), use_gloss=True)
    network, _ = begun(folder, spec)
    assert len(spec.channels) == 3 + 3 + 7 + 2
    fresh = network.get_parameter(FIRST)[:, 6:].detach()
    assert float(fresh.std()) == pytest.approx((2 / (15 * 9)) ** 0.5, rel=0.05)
    assert float(fresh.mean()) == pytest.approx(0.0, abs=0.01)


def test_other_weights_are_the_donor_s_and_the_head_keeps_its_initial_values(tmp_path: Path) -> None:
    folder = saved(tmp_path, ALBEDO)
    network, start = begun(folder, declared("metallic"))
    donor, untouched = read_weights(folder), build_head(declared("metallic"))
    for name, tensor in network.state_dict().items():
        if name not in (*STEM, *HEAD):
            assert torch.equal(tensor, donor[name]), name
    assert torch.equal(network.get_parameter("head.weight"), untouched)
    assert float(torch.sigmoid(network.get_parameter("head.bias").detach())) == pytest.approx(0.06)
    assert start.taken == len(donor) - 4
    assert start.stem == (FIRST, SHORTCUT)
    assert start.new_channels == tuple(f"classes.{number}" for number in range(7))
    assert start.unused_channels == ("normal.0", "normal.1", "normal.2")
    assert start.fresh == ("head.weight", "head.bias")


def build_head(spec: MapDeclaration) -> torch.Tensor:
    torch.manual_seed(0)
    return build_network(spec).get_parameter("head.weight")


def test_a_head_of_equal_shape_for_another_map_is_not_copied(tmp_path: Path) -> None:
    folder = saved(tmp_path, declared("roughness"))
    network, _ = begun(folder, declared("metallic"))
    assert float(network.get_parameter("head.weight").detach().abs().max()) < 5.0


def test_only_the_seed_determines_new_weights(tmp_path: Path) -> None:
    folder = saved(tmp_path, ALBEDO)
    (first, _), (again, _), (other, _) = (
        begun(folder, declared("roughness"), seed=seed) for seed in (1, 1, 2)
    )
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(first.get_parameter(FIRST), other.get_parameter(FIRST))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": UNetSpec(width=16, depth=1)},
        {"model": UNetSpec(width=8, depth=2)},
        {"condition_channels": 6},
    ],
)
def test_other_sizes_are_an_error_and_the_network_is_unchanged(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = saved(tmp_path, ALBEDO)
    spec = declared("roughness", **changes)
    assert differences(ALBEDO, spec)
    network = build_network(spec)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    own = Ends(stem=STEM, channels=spec.channels, head=HEAD)
    with pytest.raises(CheckpointError, match=r"got a network of other sizes \(\d+ differences: "):
        warm_start(folder, network, own=own, theirs=ALBEDO.channels, seed=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_misfits_are_found_without_reading_weights() -> None:
    assert differences(ALBEDO, declared("metallic", use_normal=True, use_gloss=True)) == []
    assert differences(ALBEDO, declared("height")) == []
    assert differences(ALBEDO, ALBEDO) == []
    # A network of the same role is loaded whole, so its input may not differ either.
    assert differences(declared("metallic"), declared("metallic", use_normal=True))


def test_the_stem_is_all_that_reads_the_input() -> None:
    with torch.device("meta"):
        network = UNet(UNetSpec(width=32, depth=2), in_channels=11, out_channels=1, cond_channels=4)
    reading = [name for name, x in network.named_parameters() if x.ndim == 4 and x.shape[1] == 11]
    assert reading == [FIRST, SHORTCUT]
    assert [name for name, x in network.named_parameters() if x.shape[0] == 1] == list(HEAD)


def test_a_map_starts_from_the_albedo_network_and_reports_new_tensors(
    shard_set: ShardSet, trained_runs: Path, metallic_curriculum: Curriculum, tmp_path: Path
) -> None:
    phase = still(metallic_curriculum.phases["M0"], starts_from="albedo", steps_per_epoch=1)
    curriculum = metallic_curriculum.model_copy(update={"phases": {"M0": phase}})
    job = job_of(curriculum, "M0", shards=shard_set, donors=trained_runs, runs=tmp_path)
    ours = read_weights(launch_local(job))
    donor = read_weights(RunDirectory(trained_runs, name="albedo").best()[0])
    torch.testing.assert_close(
        ours["decoder.stages.0.merge.first.conv.weight"], donor["decoder.stages.0.merge.first.conv.weight"]
    )
    torch.testing.assert_close(ours[FIRST][:, :3], donor[FIRST][:, :3])
    assert float(torch.sigmoid(ours["head.bias"])) == pytest.approx(0.06)
    lines = [json.loads(line) for line in (job.directory / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["kind"] == "warm_start"
    assert lines[0]["new_channels"] == [f"classes.{number}" for number in range(7)]
    assert lines[0]["fresh"] == ["head.weight", "head.bias"]


def test_an_albedo_network_cannot_start_from_a_segmentation(
    shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    phase = albedo_curriculum.phases["A1"].model_copy(update={"starts_from": "segformer"})
    curriculum = albedo_curriculum.model_copy(update={"phases": {"A1": phase}})
    job = job_of(curriculum, "A1", shards=shard_set, donors=trained_runs, runs=tmp_path)
    with pytest.raises(CheckpointError, match="got a network for segmentation; expected one for albedo"):
        launch_local(job)
