"""What the loop asks of a task: its players, and whose turn it is. A new kind of training is a new task."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

from pbrlib.data.draws.batch import Batch
from pbrlib.losses.recipe import LossReport
from pbrlib.metrics.sums import Sums


class Player(Protocol):
    """A network that learns by a loss of its own; supervised tasks have one player."""

    @property
    def name(self) -> str:
        """The role of the network; names its files in a checkpoint and its figures."""
        ...

    @property
    def module(self) -> nn.Module:
        """What DDP wraps; forward(example, step_counts, progress) -> LossReport, ending in its loss."""
        ...

    @property
    def network(self) -> nn.Module:
        """The part of the module that is optimised and saved."""
        ...

    @property
    def declaration(self) -> Mapping[str, Any]:
        """What rebuilds the network; lies in every checkpoint as JSON."""
        ...

    def counts(self, example: Any) -> Float[Tensor, " counts"]:
        """What each loss term averages over, from the example alone."""
        ...


@dataclass(frozen=True)
class Turn:
    """Whose turn it is, and what the player's module is given, which is opaque to the loop."""

    player: str
    example: Any


Turns: TypeAlias = Generator[Turn, LossReport, None]
"""The turns of a step over one micro-batch; after each the loop sends the report of the player's module."""


class Task(Protocol):
    """What is learned; the loop decides when, the task decides whose turn it is and what is seen."""

    @property
    def players(self) -> Sequence[Player]:
        """The players, of whom supervised tasks have one."""
        ...

    def turns(self, batch: Batch, *, awake: Collection[str]) -> Turns:
        """The turns of a step over one micro-batch, in order.

        Every micro-batch of a step has turns of the same players. A player that is not ``awake`` has no
        turn, and others may leave out what they learn from it. What is drawn here derives from
        ``batch.seeds``; what a player's module draws comes from torch, which the loop seeds before it.
        """
        ...

    def evaluate(self, batch: Batch) -> Sums:
        """The validation metrics of one whole texture, as sums and counts; names say map and unit."""
        ...

    def picture(self, batch: Batch) -> Float[Tensor, "3 h w"]:
        """Input, prediction and truth of the first sample side by side, sRGB in [0, 1]."""
        ...
