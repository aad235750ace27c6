"""The runtime protocol of the training loop, and its implementation for a single process."""

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
    """The services that the training loop needs on one rank: data, collectives and checkpoints."""

    rank: int
    world_size: int
    device: torch.device
    shards: DataSet

    def wrap(self, module: nn.Module) -> nn.Module:
        """Wrap a module so that its gradients are averaged over the ranks in each backward pass."""
        ...

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum over the ranks, on every rank."""
        ...

    def gather(self, value: list[str]) -> list[list[str]]:
        """Return the values of all ranks, on every rank."""
        ...

    def share_buffers(self, module: nn.Module) -> None:
        """Copy the buffers of rank 0, which checkpoints store, to every rank."""
        ...

    def batches(self, plan: DrawPlan, *, maps: Sequence[str], first_step: int) -> Iterator[RawBatch]:
        """Yield this rank's part of every global batch from ``first_step`` on; one stream per phase."""
        ...

    def report(self, metrics: Mapping[str, float], *, checkpoint: Path | None, step: int) -> None:
        """Report metrics and (rank 0 only) a complete checkpoint folder, which the runtime moves."""
        ...

    def is_preempted(self) -> bool:
        """Return whether a node will soon be preempted; true once per notice, equal on all ranks."""
        ...

    def publish(self, values: Mapping[str, object], *, step: int) -> None:
        """Pass the journal's latest values to observers, under the same names, without blocking."""
        ...

    def latest_checkpoint(self) -> Path | None:
        """Return the newest complete checkpoint of this phase, readable on this rank."""
        ...


@contextmanager
def translate_move_errors(step: int) -> Iterator[None]:
    """Turn an OSError while a checkpoint is moved into a CheckpointError or OutageError."""
    try:
        yield
    except OSError as error:
        raise outage_or(CheckpointError, error)(
            f"step {step}: the checkpoint could not be moved to the runs directory ({error}). "
            "Free space there; the same command resumes."
        ) from error


@dataclass
class LocalRuntime:
    """A runtime of one process without Ray, for tests, debugging and profiling."""

    shards: DataSet
    directory: Path
    selection: Selection
    device: torch.device
    rank: int = 0
    world_size: int = 1

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module itself, since there is one rank."""
        return module

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the values themselves, since there is one rank."""
        return values

    def gather(self, value: list[str]) -> list[list[str]]:
        """Return the value in a list, since there is one rank."""
        return [value]

    def share_buffers(self, module: nn.Module) -> None:
        """Do nothing, since there is one rank."""

    def batches(self, plan: DrawPlan, *, maps: Sequence[str], first_step: int) -> Iterator[RawBatch]:
        """Fetch, decode and collate batches in this thread."""
        table = plan.rows_of(rank=self.rank, world=self.world_size, first_step=first_step)
        start, stop = share(plan.batch, rank=self.rank, world=self.world_size)
        for first in range(0, table.num_rows, stop - start):
            draws = table.slice(first, stop - start)
            yield collate(fetch(draws, self.shards, maps), self.shards, maps=maps)

    def report(self, metrics: Mapping[str, float], *, checkpoint: Path | None, step: int) -> None:
        """Move the checkpoint into the phase's directory."""
        if checkpoint is None:
            return
        with translate_move_errors(step):
            storage.move_folder(checkpoint, self.directory / name_of_checkpoint(step), last=STATE)
        remove_others(self.directory, self.selection)

    def is_preempted(self) -> bool:
        """Return False: a local process gets no notices."""
        return False

    def publish(self, values: Mapping[str, object], *, step: int) -> None:
        """Do nothing: a local process has no observers."""

    def latest_checkpoint(self) -> Path | None:
        """Return the newest complete checkpoint in the phase's directory."""
        return max(checkpoints(self.directory), default=None)
