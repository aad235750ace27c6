"""Tests a step with two ranks and two micro-batches each against the recipe's formulas."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.losses.base import mean
from pbrlib.losses.gradients import sobel
from pbrlib.losses.lossspec import LossSpec
from pbrlib.losses.masks import windows
from pbrlib.losses.recipe import Recipe
from pbrlib.losses.target import LossContext, LossTarget
from pbrlib.maps import CLASSES, IGNORE
from pbrlib.models.network import NetworkOutput
from pbrlib.optim.optimizerspec import AdamWSpec
from pbrlib.optim.schedules import ConstantSpec
from pbrlib.tasks.supervised import Example, LossOfNetwork
from pbrlib.train.phase import PhaseRun, PlayerRun
from pbrlib.train.runtimespec import RuntimeSpec, Selection
from pbrlib.train.step import Learners
from pbrlib.train.task import Turn, Turns
from tests.gloo import gloo_rank, run_ranks
from tests.losses.conftest import image_batch, label_batch, part
from tests.train.test_ranks import WORLD, GlooRuntime

CUTS = (((0, 1), (1, 3)), ((3, 5), (5, 8)))
"""The samples of each micro-batch, by rank: both differ in length, over ranks and over micro-batches."""

STEPS = ((0, 3, 4), (1, 2, 5, 6, 7))
"""The samples of each micro-batch over both ranks."""

GAMMAS = {"ceramic": 0.5, "wood": 1.2}
SEGMENTATION = {"cross_entropy": 0.6, "focal": {"weight": 0.3, "gamma": GAMMAS}, "dice": 0.1}
METALLIC = {"focal_bce": 1.0, "focal_tversky": 0.7, "sobel": 0.05, "l1": 0.05}
WEIGHTS = torch.linspace(0.5, 2.0, len(CLASSES))


def segmentation() -> tuple[Tensor, LossTarget]:
    """Return batches with one class on one rank only, and one sample without a label."""
    x, target = label_batch(8)
    assert target.labels is not None
    labels = torch.where(target.labels == 3, 2, target.labels)
    labels[6, :4] = 3
    labels[2] = IGNORE
    return x.double(), replace(target, labels=labels)


def unlabelled() -> tuple[Tensor, LossTarget]:
    """Return batches without a label in the first micro-batch of either rank."""
    x, target = segmentation()
    assert target.labels is not None
    target.labels[list(STEPS[0])] = IGNORE
    return x, target


def metallic() -> tuple[Tensor, LossTarget]:
    x, target = image_batch(8)
    return x.double(), replace(target, map=target.image.double())


def dark(*samples: int) -> tuple[Tensor, LossTarget]:
    """Some samples without a positive pixel."""
    x, target = metallic()
    target.image[list(samples)] *= 0.49
    return x, target


CASES = {
    "segmentation": (SEGMENTATION, segmentation()),
    "a micro-batch without a label": (SEGMENTATION, unlabelled()),
    "metallic": (METALLIC, metallic()),
    "a positive pixel on one rank only": (METALLIC, dark(0)),
    "a micro-batch without a positive pixel": (METALLIC, dark(*STEPS[0])),
    "no positive pixel at all": (METALLIC, dark(*range(8))),
}


class Network(nn.Module):
    """A network of one layer that ignores its conditioning."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 3, padding=1, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)

    def forward(self, x: Tensor, condition: None) -> NetworkOutput:
        return NetworkOutput(self.layer(x), features=x)


@dataclass
class OneLayer:
    """The player of a network of one layer, and the task whose batches are examples already."""

    declared: dict[str, Any]
    channels: int
    name: str = "one layer"
    declaration: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network = Network(self.channels)
        recipe = Recipe(LossSpec.model_validate(self.declared), LossContext(class_weights=WEIGHTS))
        self.module = LossOfNetwork(self.network, recipe)  # type: ignore[arg-type]
        self.counts = lambda example: recipe.counts(example.target)

        self.players = (self,)

    def turns(self, batch: Example, *, awake: Collection[str]) -> Turns:
        assert awake == [self.name]
        yield Turn(self.name, batch)


PLAYER = PlayerRun(AdamWSpec(lr=1e-3), ConstantSpec(), grad_clip=1e9)


def run_of(folder: Path) -> PhaseRun:
    plan: Any = SimpleNamespace(total_steps=1, steps_per_epoch=1)
    return PhaseRun(
        name="S1", fingerprint="", seed=0, directory=folder, plan=plan, maps=(), segment_steps=1,
        micro_batches=2, augment=AugmentSpec(), players={OneLayer.name: PLAYER},
        selection=Selection(metric="", mode="min"), frozen={}, runtime=RuntimeSpec(),
    )  # fmt: skip


def rank_main(rank: int, folder: Path) -> None:
    with gloo_rank(rank, folder=folder, world=WORLD):
        run = run_of(folder)
        given: Any = {"shards": None, "directory": folder, "selection": run.selection}
        runtime = GlooRuntime(**given, device=torch.device("cpu"), rank=rank, world_size=WORLD)
        found = {}
        for name, (declared, (x, target)) in CASES.items():
            player: Any = OneLayer(declared, x.shape[1])
            learners, gradients = Learners(run, player, runtime), []
            learners.by_name[player.name].optimizer.register_step_pre_hook(
                lambda *_, network=player.network, kept=gradients: kept.extend(gradients_of(network))
            )
            micro: Any = [
                Example(x[first:last], None, part(target, first, last)) for first, last in CUTS[rank]
            ]
            report = learners.step(micro, step=0)[player.name]
            found[name] = {"terms": report.terms, "total": report.total, "gradients": gradients}
        torch.save(found, folder / f"{rank}.pt")


def gradients_of(network: nn.Module) -> list[Tensor]:
    gradients = [parameter.grad for parameter in network.parameters()]
    return [gradient.clone() for gradient in gradients if gradient is not None]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("accumulated")
    run_ranks(rank_main, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


def shared(values: Sequence[Tensor], counted: Tensor) -> Tensor:
    """Weight the values of micro-batches by their shares of counted samples."""
    shares = [counted[list(samples)].double().sum() / counted.sum() for samples in STEPS]
    return sum(share * value for share, value in zip(shares, values, strict=True))  # type: ignore[return-value]


def segmentation_terms(logits: Tensor, target: LossTarget) -> dict[str, Tensor]:
    assert target.labels is not None
    counted = target.valid[:, 0] & (target.labels != IGNORE)
    p = logits.softmax(dim=1)
    labels = torch.where(counted, target.labels, 0)
    own = p.gather(1, labels[:, None])[:, 0][counted]
    entropy = -WEIGHTS.double()[labels[counted]] * own.log()
    gammas = torch.tensor([GAMMAS.get(name, 2.0) for name in CLASSES], dtype=torch.float64)
    focus = (1.0 - own) ** gammas[labels[counted]]

    def dice(samples: Sequence[int]) -> Tensor:
        pixels = counted[list(samples)]
        chances = p[list(samples)].movedim(1, -1)[pixels]
        truth = labels[list(samples)][pixels]
        losses = [
            1 - (2 * chances[truth == c, c].sum() + 1) / (chances[:, c].sum() + (truth == c).sum() + 1)
            for c in truth.unique().tolist()
        ]
        return torch.stack(losses).mean() if losses else torch.tensor(0.0, dtype=torch.float64)

    return {
        "cross_entropy": entropy.sum() / counted.sum(),
        "focal": (focus * entropy).sum() / counted.sum(),
        "dice": shared([dice(samples) for samples in STEPS], counted.flatten(1).any(dim=1)),
    }


def metallic_terms(logits: Tensor, target: LossTarget) -> dict[str, Tensor]:
    p, truth, valid = logits.sigmoid(), target.image, target.valid

    def tversky(samples: Sequence[int]) -> Tensor:
        chances, true = (x[list(samples)][valid[list(samples)]] for x in (p, truth))
        hits, over, under = (chances * true).sum(), (chances * (1 - true)).sum(), (true * (1 - chances)).sum()
        positive = bool((true >= 0.5).any())
        return (1 - hits / (hits + 0.7 * over + 0.3 * under)) ** 1.5 * positive

    return {
        "focal_bce": sigmoid_focal_loss(logits, truth, alpha=0.25, gamma=2.0)[valid].mean(),
        "focal_tversky": shared([tversky(samples) for samples in STEPS], valid.flatten(1).any(dim=1)),
        "sobel": mean((sobel(p, truth),), (windows(valid),)),
        "l1": (p - truth).abs()[valid].mean(),
    }


def expected(case: str) -> tuple[dict[str, Tensor], Tensor, list[Tensor]]:
    """Return terms, loss and gradients of the step as one batch in one process."""
    declared, (x, target) = CASES[case]
    network = Network(x.shape[1])
    logits = network(x, None).logits
    terms = (segmentation_terms if declared is SEGMENTATION else metallic_terms)(logits, target)
    scales = {name: term["weight"] if isinstance(term, dict) else term for name, term in declared.items()}
    total = torch.stack([scale * terms[name] for name, scale in scales.items()]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    return {name: value.detach() for name, value in terms.items()}, total.detach(), gradients_of(network)


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_two_micro_batches_on_two_ranks_has_the_loss_and_gradient_of_the_recipe(
    ranks: list[Any], case: str
) -> None:
    terms, total, gradients = expected(case)
    for rank in ranks:
        torch.testing.assert_close(rank[case]["terms"], terms, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(rank[case]["total"], total, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(rank[case]["gradients"], gradients, rtol=1e-9, atol=1e-12)


def test_focal_tversky_ignores_micro_batches_without_a_positive_pixel(
    ranks: list[Any],
) -> None:
    whole, half, nothing = (
        ranks[0][case]["terms"]["focal_tversky"].item()
        for case in ("metallic", "a micro-batch without a positive pixel", "no positive pixel at all")
    )
    assert whole > half > nothing == 0.0
