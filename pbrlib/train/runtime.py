"""Where a phase runs: what the loop needs from its surroundings, and the plain one-process answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from pbrlib import storage
from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.collate import collate
from pbrlib.data.draws.fetch import fetch
from pbrlib.data.draws.plan import DrawPlan, share
from pbrlib.data.shards.dataset import DataSet
from pbrlib.errors import CheckpointError, outage_or
from pbrlib.train.checkpoint.keeping import remove_others
from pbrlib.train.checkpoint.state import STATE, checkpoints, name_of_checkpoint
from pbrlib.train.runtimespec import Selection


class Runtime(Protocol):
    """The surroundings of the loop on one rank."""

    rank: int
    world_size: int
    device: torch.device
    shards: DataSet

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over the ranks after each backward pass."""
        ...

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over the ranks, on every rank."""
        ...

    def gather(self, value: list[str]) -> list[list[str]]:
        """The values of all ranks, on every rank."""
        ...

    def share_buffers(self, module: nn.Module) -> None:
        """Gives every rank the buffers of rank 0, which are those that a checkpoint holds."""
        ...

    def batches(self, plan: DrawPlan, *, maps: Sequence[str], first_step: int) -> Iterator[RawBatch]:
        """This rank's part of every global batch from ``first_step`` on; one stream for the phase."""
        ...

    def report(self, metrics: Mapping[str, float], *, checkpoint: Path | None, step: int) -> None:
        """Hands over metrics and (rank 0 only) a complete checkpoint folder, which it takes over."""
        ...

    def is_preempted(self) -> bool:
        """Whether a node will soon be taken away: true once for each notice, on all ranks alike."""
        ...

    def publish(self, values: Mapping[str, object], *, step: int) -> None:
        """Shows who watches what the journal of rank 0 was just told, by the same names; never waits."""
        ...

    def latest_checkpoint(self) -> Path | None:
        """The newest complete checkpoint of this phase, readable on this rank."""
        ...


@contextmanager
def moving(step: int) -> Iterator[None]:
    """Inside the block a checkpoint moves to its place; raises CheckpointError or OutageError."""
    try:
        yield
    except OSError as error:
        raise outage_or(CheckpointError, error)(
            f"step {step}: the checkpoint could not be moved to the runs directory ({error}). "
            "Free space there; the same command resumes."
        ) from error


@dataclass
class LocalRuntime:
    """One process, no Ray: tests, debugging, profiling."""

    shards: DataSet
    directory: Path
    selection: Selection
    device: torch.device
    rank: int = 0
    world_size: int = 1

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module itself: there is nobody to average with."""
        return module

    def all_reduce(self, values: Tensor) -> Tensor:
        """The values themselves."""
        return values

    def gather(self, value: list[str]) -> list[list[str]]:
        """The one value."""
        return [value]

    def share_buffers(self, module: nn.Module) -> None:
        """There is nobody to share with."""

    def batches(self, plan: DrawPlan, *, maps: Sequence[str], first_step: int) -> Iterator[RawBatch]:
        """Fetches, decodes and collates in this thread."""
        table = plan.rows_of(rank=self.rank, world=self.world_size, first_step=first_step)
        start, stop = share(plan.batch, rank=self.rank, world=self.world_size)
        for first in range(0, table.num_rows, stop - start):
            draws = table.slice(first, stop - start)
            yield collate(fetch(draws, self.shards, maps), self.shards, maps=maps)

    def report(self, metrics: Mapping[str, float], *, checkpoint: Path | None, step: int) -> None:
        """Moves the checkpoint into the phase's directory."""
        if checkpoint is None:
            return
        with moving(step):
            storage.move_folder(checkpoint, self.directory / name_of_checkpoint(step), last=STATE)
        remove_others(self.directory, self.selection)

    def is_preempted(self) -> bool:
        """Nobody would say so."""
        return False

    def publish(self, values: Mapping[str, object], *, step: int) -> None:
        """Nobody watches one process: the journal is all there is."""

    def latest_checkpoint(self) -> Path | None:
        """The newest complete checkpoint in the phase's directory."""
        return max(checkpoints(self.directory), default=None)
