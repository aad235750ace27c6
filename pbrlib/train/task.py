"""The protocols of tasks and players, which the training loop runs. A new kind of training is a new task."""

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
    """A network with its own loss; supervised tasks have one player, adversarial tasks several."""

    @property
    def name(self) -> str:
        """The role of the network, used in the names of its checkpoint files and metrics."""
        ...

    @property
    def module(self) -> nn.Module:
        """The module that DDP wraps: forward(example, step_counts, progress) -> LossReport."""
        ...

    @property
    def network(self) -> nn.Module:
        """The part of the module that is trained and saved."""
        ...

    @property
    def declaration(self) -> Mapping[str, Any]:
        """The declaration that rebuilds the network, stored as JSON in every checkpoint."""
        ...

    def counts(self, example: Any) -> Float[Tensor, " counts"]:
        """Return the denominators of the loss terms; they depend on the example only."""
        ...


@dataclass(frozen=True)
class Turn:
    """One turn: the player that trains, and the example for its module, which the loop does not inspect."""

    player: str
    example: Any


Turns: TypeAlias = Generator[Turn, LossReport, None]
"""The turns of a step over one micro-batch; after each the loop sends the report of the player's module."""


class Task(Protocol):
    """A training task: its players, the turns of a step with their inputs, and the validation metrics."""

    @property
    def players(self) -> Sequence[Player]:
        """The players; supervised tasks have one."""
        ...

    def turns(self, batch: Batch, *, awake: Collection[str]) -> Turns:
        """Yield the turns of a step over one micro-batch, in order.

        Every micro-batch of a step has turns of the same players. A player that is not in ``awake`` has no
        turn, and other players may omit losses that depend on it. Random numbers here derive from
        ``batch.seeds``; a player's module uses torch's generator, which the loop seeds before the turn.
        """
        ...

    def evaluate(self, batch: Batch) -> Sums:
        """Compute the validation metrics of one whole texture, as sums and counts named by map and unit."""
        ...

    def picture(self, batch: Batch) -> Float[Tensor, "3 h w"]:
        """Return input, prediction and truth of the first sample side by side, sRGB in [0, 1]."""
        ...
