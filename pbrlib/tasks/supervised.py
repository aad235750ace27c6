"""Common parts of the supervised tasks: the example, the network with its loss, and the player."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from pbrlib.losses.recipe import LossReport, Recipe
from pbrlib.losses.target import LossTarget
from pbrlib.maps import CLASS_COLOURS
from pbrlib.metrics.sums import Sums
from pbrlib.models.build import AnyNetwork
from pbrlib.models.network import Network
from pbrlib.models.roles import NetworkDeclaration


@dataclass(frozen=True)
class Example:
    """A network's input, its conditioning, and the target of its loss."""

    x: Float[Tensor, "n c h w"]
    condition: Float[Tensor, "n f p q"] | None
    target: LossTarget


class LossOfNetwork(nn.Module):
    """A network and its loss in one module, which DDP wraps."""

    def __init__(self, network: AnyNetwork, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe

    def forward(
        self, example: Example, step_counts: Tensor | None = None, progress: float = 0.0
    ) -> LossReport:
        """Compute the loss of one micro-batch over all ranks; ``progress`` is the phase's finished share."""
        report: LossReport = self.recipe(
            logits_of(self.network, example), example.target, step_counts=step_counts, progress=progress
        )
        return report


def logits_of(network: Network, example: Example) -> Float[Tensor, "n k h w"]:
    """Return a network's logits for an example."""
    return network(example.x, example.condition).logits


class SupervisedPlayer:
    """The only player of a supervised task."""

    def __init__(self, declared: NetworkDeclaration, *, network: AnyNetwork, recipe: Recipe) -> None:
        self.name = declared.role
        self.network = network
        self.module = LossOfNetwork(network, recipe)
        self.declaration: Mapping[str, Any] = declared.model_dump(mode="json")
        self.recipe = recipe

    def counts(self, example: Example) -> Tensor:
        """Return the denominators of the loss terms. Shape (terms,)."""
        counts: Tensor = self.recipe.counts(example.target)
        return counts


def add_loss(
    sums: Sums, recipe: Recipe, logits: Float[Tensor, "1 k h w"], target: LossTarget, *, role: str
) -> None:
    """Add the loss of one validation texture to ``<role>/loss``, a mean over textures."""
    loss, counted = recipe.measure(logits, target)
    sums.add_mean(f"{role}/loss", loss * counted, counted)


def side_by_side(*pictures: Float[Tensor, "c h w"]) -> Float[Tensor, "3 h w"]:
    """Concatenate images of one or three channels horizontally, as RGB."""
    return torch.cat([picture.expand(3, *picture.shape[-2:]).float() for picture in pictures], dim=-1)


def class_colours(labels: Int64[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    """Convert class ids to colours in [0, 1]; a pixel without a class is black."""
    palette = torch.tensor([*CLASS_COLOURS, (0, 0, 0)], device=labels.device) / 255
    return palette[labels.clamp(max=len(CLASS_COLOURS))].permute(2, 0, 1)
