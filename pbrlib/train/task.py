"""What the loop asks of a task; a new kind of training is a new task, never a change to the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor, nn

from pbrlib.data.draws.batch import Batch
from pbrlib.losses.target import LossTarget
from pbrlib.metrics.sums import Sums


@dataclass(frozen=True)
class Example:
    """What a network sees and should answer: its input, its conditioning, the target of its loss."""

    x: Float[Tensor, "n c h w"]
    condition: Float[Tensor, "n f p q"] | None
    target: LossTarget


class Player(Protocol):
    """Something that learns: supervised tasks have one."""

    @property
    def name(self) -> str:
        """The role of what it learns."""
        ...

    @property
    def module(self) -> nn.Module:
        """forward(example, step_counts, progress) -> LossReport, ending in its loss: what DDP wraps."""
        ...

    @property
    def network(self) -> nn.Module:
        """The part of the module that is optimised and saved."""
        ...

    @property
    def declaration(self) -> Mapping[str, Any]:
        """What rebuilds the network; lies in every checkpoint as JSON."""
        ...

    def counts(self, example: Example) -> Float[Tensor, " counts"]:
        """What each loss term will average over, from the labels alone."""
        ...


class Task(Protocol):
    """What is learned; the loop decides when, the task decides what."""

    @property
    def players(self) -> Sequence[Player]:
        """One for supervised tasks."""
        ...

    def prepare(self, batch: Batch, *, training: bool) -> Example:
        """A batch as the network sees it; frozen networks add their part here, without gradient."""
        ...

    def evaluate(self, batch: Batch) -> Sums:
        """The validation metrics of one whole texture, as sums and counts; names say map and unit."""
        ...

    def picture(self, batch: Batch) -> Float[Tensor, "3 h w"]:
        """Input, prediction and truth of the first sample side by side, sRGB in [0, 1]."""
        ...
