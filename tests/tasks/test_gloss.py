"""Tests of the gloss input, which is present if the texture has one and dropped in part of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from pbrlib.curriculum.spec import plain
from pbrlib.data.draws.batch import Batch
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import ConfigError
from pbrlib.inference.chain import Chain, TextureInput
from pbrlib.losses.lossspec import LossSpec
from pbrlib.maps import CLASSES
from pbrlib.models.build import build_network
from pbrlib.models.modelspec import UNetSpec
from pbrlib.models.network import NetworkOutput
from pbrlib.models.roles import INPUT_CHANNELS, MapDeclaration, SegmentationDeclaration
from pbrlib.tasks.build import build_task, measured
from pbrlib.tasks.maps import MapTask
from pbrlib.tasks.taskspec import MetallicSpec, RoughnessSpec, TaskSpec, maps_read
from tests.tasks.test_tasks import SEGFORMER, UNET, batch_of, frozen

TASK: TypeAdapter[Any] = TypeAdapter(TaskSpec)


def roughness(**changes: Any) -> RoughnessSpec:
    return RoughnessSpec.model_validate(
        {"model": UNET.model_dump(), "use_gloss": True, "gloss_dropout": 0.3, **changes}
    )


def task_of(spec: RoughnessSpec | MetallicSpec, runs: Path) -> MapTask:
    torch.manual_seed(0)
    task = build_task(
        spec,
        losses={spec.kind: LossSpec.model_validate({"l1": 1.0})},
        class_weights=None,
        frozen=frozen(runs),
        device=torch.device("cpu"),
    )
    assert isinstance(task, MapTask)
    return task


def shown_gloss(task: MapTask, batch: Batch, *, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
    x = task.prepare(batch, training=training).x
    return x[:, -2], x[:, -1]


@pytest.mark.parametrize(
    "spec", [roughness(), MetallicSpec.model_validate(roughness().model_dump(exclude={"kind"}))]
)
def test_gloss_and_its_flag_are_the_last_channels(
    spec: RoughnessSpec | MetallicSpec, shard_set: ShardSet, trained_runs: Path
) -> None:
    task, batch = task_of(spec, trained_runs), batch_of(shard_set, spec)
    assert task.declared.channels[-2:] == ("gloss.0", "gloss.1")
    assert bool(batch.present["gloss"].all()), "a baked gloss counts"
    gloss, flag = shown_gloss(task, batch, training=False)
    assert torch.equal(gloss, batch.maps["gloss"][:, 0])
    assert torch.equal(flag, torch.ones_like(flag))


def test_a_missing_gloss_shows_nothing(shard_set: ShardSet, trained_runs: Path) -> None:
    spec = roughness()
    task, batch = task_of(spec, trained_runs), batch_of(shard_set, spec)
    lacking = torch.tensor([True, False, True, False])
    batch = replace(batch, present={**batch.present, "gloss": lacking})
    gloss, flag = shown_gloss(task, batch, training=False)
    assert torch.equal(flag.flatten(1).amax(dim=1), lacking.float())
    assert not gloss[1].any()
    assert torch.equal(gloss[0], batch.maps["gloss"][0, 0])


def test_gloss_is_dropped_at_its_rate_independently_per_sample(
    shard_set: ShardSet, trained_runs: Path
) -> None:
    spec = roughness(gloss_dropout=0.3)
    task, base = task_of(spec, trained_runs), batch_of(shard_set, spec)
    small = {name: x[..., :32, :32] for name, x in base.maps.items()}
    flags = {}
    for first in range(0, 400, 4):
        batch = replace(base, maps=small, seeds=torch.arange(first, first + 4))
        _, flag = shown_gloss(task, batch, training=True)
        flags.update(dict(zip(range(first, first + 4), flag[:, 0, 0].tolist(), strict=True)))
    assert 0.62 < sum(flags.values()) / len(flags) < 0.78
    turned = replace(base, maps=small, seeds=torch.tensor([3, 2, 1, 0]))
    _, flag = shown_gloss(task, turned, training=True)
    assert flag[:, 0, 0].tolist() == [flags[3], flags[2], flags[1], flags[0]]


def test_without_the_option_nothing_changes() -> None:
    bare = TASK.validate_python({"kind": "roughness"})
    assert plain(bare) == plain(TASK.validate_python({"kind": "roughness", "use_gloss": False}))
    assert not {"use_gloss", "gloss_dropout"} & plain(bare).keys()
    assert "gloss" not in maps_read(bare)
    assert "gloss" in maps_read(roughness())
    before = MapDeclaration(role="roughness", model=UNetSpec(), condition_channels=4)
    assert before.inputs == ("colour", "normal", "classes")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"kind": "roughness", "use_gloss": True}, "got use_gloss without gloss_dropout"),
        ({"kind": "metallic", "gloss_dropout": 0.3}, "got gloss_dropout without use_gloss"),
        ({"kind": "albedo", "use_gloss": True}, "use_gloss"),
    ],
)
def test_use_gloss_and_gloss_dropout_are_required_together(written: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TASK.validate_python(written)


@pytest.fixture(scope="module")
def chain() -> Chain:
    """New networks with random FiLM and heads; roughness reads the gloss."""
    torch.manual_seed(0)
    model = UNetSpec(width=8, depth=2)
    segformer = build_network(SegmentationDeclaration(model=SEGFORMER)).eval()
    declared = {
        role: MapDeclaration.model_validate(
            {"role": role, "model": model, "condition_channels": 16, "use_gloss": role == "roughness"}
        )
        for role in ("albedo", "roughness", "metallic")
    }
    networks = {role: build_network(spec).eval() for role, spec in declared.items()}
    maps = {role: (declared[role], networks[role]) for role in ("roughness", "metallic")}
    return Chain(segformer, networks["albedo"], maps, torch.device("cpu"))


def texture(gloss: torch.Tensor | None) -> TextureInput:
    generator = torch.Generator().manual_seed(1)
    normal = torch.nn.functional.normalize(
        torch.randn(3, 48, 40, generator=generator) * 0.2 + torch.tensor([0, 0, 1.0])[:, None, None], dim=0
    )
    diffuse = torch.rand(3, 48, 40, generator=generator)
    return TextureInput(diffuse=diffuse, normal=normal, gloss=gloss, tileable=False)


def test_a_texture_is_predicted_with_and_without_gloss(chain: Chain) -> None:
    dark, none = chain.predict(texture(torch.zeros(1, 48, 40))), chain.predict(texture(None))
    bright = chain.predict(texture(torch.ones(1, 48, 40)))
    # A gloss of 0 is not the same as none: the flag tells them apart.
    assert not torch.allclose(dark["roughness"], none["roughness"])
    assert not torch.allclose(dark["roughness"], bright["roughness"])
    assert torch.equal(bright["metallic"], none["metallic"])


class ShowsGloss(torch.nn.Module):
    """A network that returns its gloss input."""

    stride = 4

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> NetworkOutput:
        return NetworkOutput(logits=x[:, -2:-1].logit(eps=1e-6) * x[:, -1:], features=condition)


@pytest.mark.parametrize("tileable", [False, True])
def test_the_gloss_is_aligned_with_the_texture(chain: Chain, tileable: bool) -> None:
    mirror = replace(chain, maps={"roughness": (chain.maps["roughness"][0], ShowsGloss())})  # type: ignore[dict-item]
    gloss = torch.rand(1, 48, 40, generator=torch.Generator().manual_seed(2))
    answer = mirror.predict(replace(texture(gloss), tileable=tileable))["roughness"]
    torch.testing.assert_close(answer, gloss, atol=1e-5, rtol=0)


def test_every_input_has_as_many_channels_as_declared(chain: Chain) -> None:
    assert len(CLASSES) == INPUT_CHANNELS["classes"]
    for spec, network in chain.maps.values():
        assert network.get_parameter("encoder.stages.0.shortcut.weight").shape[1] == len(spec.channels)
        assert len(set(spec.channels)) == len(spec.channels)


@pytest.mark.parametrize("kind", ["roughness", "segmentation"])
def test_choices_by_seed_follow_the_batch_to_its_device(
    kind: str, shard_set: ShardSet, trained_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta device simulates an accelerator: it rejects tensors on other devices."""
    from pbrlib.tasks.segmentation import SegmentationTask
    from pbrlib.tasks.taskspec import SegmentationSpec

    if kind == "roughness":
        from pbrlib.tasks.maps import shown_gloss as show

        moved = batch_of(shard_set, roughness()).to("meta")
        assert show(moved, dropout=0.5).is_meta
        return
    spec = SegmentationSpec(model=SEGFORMER)
    task = SegmentationTask(spec, loss=LossSpec.model_validate({"dice": 1.0}), class_weights=None)
    assert task.prepare(batch_of(shard_set, spec).to("meta"), training=True).x.is_meta


def test_the_initial_share_of_metal_is_measured_on_the_training_textures(shard_set: ShardSet) -> None:
    spec = MetallicSpec(initial_share="measured")
    found = measured(spec, shard_set.rows, mix={"generated": 1.0})
    assert isinstance(found, MetallicSpec)
    train = [row for row in shard_set.rows if row.split == "train"]
    whole = [shard_set.read_whole(row, ["metallic"])["metallic"].mean() / 255 for row in train]
    assert found.initial_share == pytest.approx(sum(whole) / len(whole), abs=1e-6)
    assert measured(MetallicSpec(), shard_set.rows, mix={"generated": 1.0}) == MetallicSpec()
    none = [replace(row, means={"metallic": (0.0,)}) for row in shard_set.rows]
    with pytest.raises(ConfigError, match=r"task.initial_share: got a measured share of 0 on .* generated"):
        measured(spec, none, mix={"generated": 1.0})


def test_sources_count_for_their_share_of_the_mix(shard_set: ShardSet) -> None:
    rows = [replace(row, split="train", means={"metallic": (0.1,)}) for row in shard_set.rows[:3]]
    rows += [replace(shard_set.rows[0], source="other", split="train", means={"metallic": (0.9,)})]
    found = measured(MetallicSpec(initial_share="measured"), rows, mix={"generated": 0.75, "other": 0.25})
    assert found.initial_share == pytest.approx(0.3)  # type: ignore[union-attr]
