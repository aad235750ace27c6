from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.augment.pipeline import augment
from pbrlib.data.draws.batch import Batch
from pbrlib.data.draws.collate import stack
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.window import Window
from pbrlib.errors import CheckpointError
from pbrlib.losses.lossspec import LossSpec
from pbrlib.maps import CLASSES, TARGETS
from pbrlib.models.modelspec import SegformerSpec, UNetSpec
from pbrlib.tasks.build import build_task
from pbrlib.tasks.segmentation import SegmentationTask
from pbrlib.tasks.taskspec import (
    AlbedoSpec,
    AoSpec,
    HeightSpec,
    MapSpec,
    MetallicSpec,
    RoughnessSpec,
    SegmentationSpec,
    TaskSpec,
    maps_read,
    maps_required,
    target_map,
)
from pbrlib.train.record.rundirectory import RunDirectory

SEGFORMER = SegformerSpec(
    backbone="custom",
    hidden_sizes=(8, 8, 16, 16),
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 2, 2),
    decoder_width=16,
    drop_path=0.0,
    head_dropout=0.0,
)
UNET = UNetSpec(width=8, depth=2)

TASKS: dict[str, tuple[TaskSpec, dict[str, object]]] = {
    "segmentation": (
        SegmentationSpec(model=SEGFORMER),
        {"cross_entropy": 0.6, "focal": {"weight": 0.3, "gamma": {"stone": 2.0}}, "dice": 0.1},
    ),
    "albedo": (AlbedoSpec(model=UNET), {"l1": 1.0, "ms_ssim": 0.15}),
    "roughness": (RoughnessSpec(model=UNET), {"focal_relative_l1": 1.0, "ms_ssim": 0.1, "sobel": 0.02}),
    "metallic": (
        MetallicSpec(model=UNET),
        {"focal_bce": 1.0, "focal_tversky": 0.7, "sobel": 0.05, "l1": 0.05},
    ),
    "height": (
        HeightSpec(model=UNET),
        {
            "l1": 1.0,
            "grad_diff": 0.25,
            "tv": 0.06,
            "normal_reproj": 0.15,
            "ms_ssim": 0.06,
            "laplacian_pyramid": 0.1,
        },
    ),
    "ao": (AoSpec(model=UNET), {"l1": 1.0, "sobel": 0.15, "ms_ssim": 0.1}),
}


def batch_of(shards: ShardSet, spec: TaskSpec) -> Batch:
    """Four different materials, metal among them, one of them mixed."""
    maps = maps_read(spec)
    rows = [row for row in shards.rows if row.label == "metal"][:2]
    rows += [row for row in shards.rows if row.label is None][:1] + [
        row for row in shards.rows if row.label == "wood"
    ][:1]
    assert len(rows) == 4
    crops = [shards.read_crop(row, Window(0, 0, 64, 64), [m for m in maps if m in row.maps]) for row in rows]
    raw = stack(crops, rows=rows, seeds=[1, 2, 3, 4], maps=maps)
    return augment(raw, AugmentSpec(), device="cpu")


def frozen(runs: Path) -> dict[str, Path]:
    return {name: RunDirectory(runs, name=name).best()[0] for name in ("segformer", "albedo")}


@pytest.mark.parametrize("kind", TASKS)
def test_every_task_overfits_a_single_batch(kind: str, shard_set: ShardSet, trained_runs: Path) -> None:
    spec, loss = TASKS[kind]
    torch.manual_seed(0)
    task = build_task(
        spec,
        losses={spec.kind: LossSpec.model_validate(loss)},
        class_weights=torch.ones(len(CLASSES)),
        frozen=frozen(trained_runs),
        device=torch.device("cpu"),
    )
    batch = batch_of(shard_set, spec)
    (player,) = task.players
    optimizer = torch.optim.Adam(player.network.parameters(), lr=5e-3)
    losses = []
    for _ in range(60 if kind == "segmentation" else 25):
        report = player.module(task.prepare(batch, training=False), None)
        optimizer.zero_grad()
        report.total.backward()
        assert all(parameter.grad is not None for parameter in player.network.parameters())
        optimizer.step()
        losses.append(float(report.total.detach()))
    assert losses[-1] < 0.75 * losses[0], losses


@pytest.mark.parametrize("kind", TASKS)
def test_evaluation_measures_only_the_target_map(kind: str, shard_set: ShardSet, trained_runs: Path) -> None:
    spec, loss = TASKS[kind]
    task = build_task(
        spec,
        losses={spec.kind: LossSpec.model_validate(loss)},
        class_weights=None,
        frozen=frozen(trained_runs),
        device=torch.device("cpu"),
    )
    batch = batch_of(shard_set, spec)
    task.players[0].module.eval()
    with torch.no_grad():
        results = task.evaluate(batch).results()
        picture = task.picture(batch)
    assert results
    assert all(name.startswith(f"{kind}/") for name in results)
    with torch.no_grad():
        report = task.players[0].module(task.prepare(batch, training=False), None)
    assert results[f"{kind}/loss"] == pytest.approx(report.total.item(), rel=1e-4)
    assert picture.shape == (3, 64, 3 * 64)
    assert 0 <= float(picture.min()) <= float(picture.max()) <= 1


def test_segmentation_sees_the_albedo_in_the_declared_share_of_draws(shard_set: ShardSet) -> None:
    spec = SegmentationSpec(model=SEGFORMER, albedo_share=0.25)
    task = SegmentationTask(spec, loss=LossSpec.model_validate({"dice": 1.0}), class_weights=None)
    base = batch_of(shard_set, spec)
    shown = 0
    for seed in range(100):
        batch = Batch(**{**base.__dict__, "seeds": torch.arange(4) + 4 * seed})
        colour = task.prepare(batch, training=True).x[:, :3]
        shown += sum(torch.equal(colour[i], batch.maps["albedo"][i]) for i in range(4))
        assert torch.equal(task.prepare(batch, training=False).x[:, :3], batch.maps["diffuse"])
    assert 70 <= shown <= 130


def test_the_frozen_networks_do_not_change(shard_set: ShardSet, trained_runs: Path) -> None:
    spec, loss = TASKS["metallic"]
    task = build_task(
        spec,
        losses={spec.kind: LossSpec.model_validate(loss)},
        class_weights=None,
        frozen=frozen(trained_runs),
        device=torch.device("cpu"),
    )
    chain = task.chain  # type: ignore[union-attr]
    nets = (chain.segmentation, chain.albedo)
    before = [{name: x.clone() for name, x in net.state_dict().items()} for net in nets]
    (player,) = task.players
    player.module.train()
    example = task.prepare(batch_of(shard_set, spec), training=True)
    assert not example.x.requires_grad
    player.module(example, None).total.backward()
    assert not chain.segmentation.training
    assert not chain.albedo.training
    learned = {id(parameter) for parameter in player.module.parameters()}
    for net, state in zip(nets, before, strict=True):
        assert not any(id(parameter) in learned for parameter in net.parameters())
        assert all(torch.equal(x, state[name]) for name, x in net.state_dict().items())


def test_a_donor_of_another_role_is_refused(trained_runs: Path) -> None:
    wrong = {**frozen(trained_runs), "segformer": frozen(trained_runs)["albedo"]}
    spec, loss = TASKS["ao"]
    with pytest.raises(CheckpointError, match="got a network for albedo; expected segmentation"):
        build_task(
            spec,
            losses={spec.kind: LossSpec.model_validate(loss)},
            class_weights=None,
            frozen=wrong,
            device=torch.device("cpu"),
        )


@pytest.mark.parametrize("kind", TASKS)
def test_the_maps_that_a_task_requires_are_among_those_it_reads(kind: str) -> None:
    spec = TASKS[kind][0]
    assert set(maps_required(spec)) <= set(maps_read(spec))
    assert target_map(spec) in maps_required(spec)


def test_every_map_that_is_learned_has_a_task() -> None:
    kinds = {spec.model_fields["kind"].default for spec in (AlbedoSpec, *get_args(MapSpec))}
    assert kinds == set(TARGETS) == set(TASKS) - {"segmentation"}


def test_segmentation_never_shows_an_albedo_that_a_sample_lacks(shard_set: ShardSet) -> None:
    spec = SegmentationSpec(model=SEGFORMER, albedo_share=1.0)
    task = SegmentationTask(spec, loss=LossSpec.model_validate({"dice": 1.0}), class_weights=None)
    base = batch_of(shard_set, spec)
    lacking = {**base.present, "albedo": torch.tensor([True, False, True, False])}
    colour = task.prepare(Batch(**{**base.__dict__, "present": lacking}), training=True).x[:, :3]
    for number, shown in enumerate(("albedo", "diffuse", "albedo", "diffuse")):
        assert torch.equal(colour[number], base.maps[shown][number])
