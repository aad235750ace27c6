"""The runtime of the training loop on a Ray Train worker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import ray.train
import ray.train.torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pbrlib import storage
from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.plan import DrawPlan, share
from pbrlib.data.shards.dataset import DataSet
from pbrlib.train.checkpoint.keeping import remove_others
from pbrlib.train.checkpoint.state import STATE, checkpoints, name_of_checkpoint, read_state
from pbrlib.train.collectives import ProcessGroup
from pbrlib.train.record.incidents import note_incident
from pbrlib.train.runtime import translate_move_errors
from pbrlib.train.runtimespec import RuntimeSpec, Selection
from pbrlib.train.stall import PatientStream
from ray_jobs.fit.datasets import stream, waiting_for
from ray_jobs.fit.gauges import PhaseGauges
from ray_jobs.fit.placement import PHASE, figures_of, placement


class RayRuntime(ProcessGroup):
    """The runtime of one rank of a TorchTrainer: DDP, one Ray Data execution per phase, and reports."""

    def __init__(
        self,
        shards: DataSet,
        spec: RuntimeSpec,
        *,
        selection: Selection,
        directory: Path,
        gauges: PhaseGauges,
    ) -> None:
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        self.shards, self._spec, self._directory, self._gauges = shards, spec, directory, gauges
        self._selection = selection
        self._batches: PatientStream | None = None
        self._preempted: ray.train.PreemptionInfo | None = None
        self._begins_at: Path | None = None

    def wrap(self, module: nn.Module) -> nn.Module:
        """Wrap a module in DDP; batch norms are synchronised on GPUs, since torch cannot on CPUs."""
        if self.device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
            return DistributedDataParallel(module, device_ids=[self.device])
        return DistributedDataParallel(module)

    def batches(self, plan: DrawPlan, *, maps: Sequence[str], first_step: int) -> Iterator[RawBatch]:
        """Return this rank's part of every batch, from one Ray Data execution."""
        start, stop = share(plan.batch, rank=self.rank, world=self.world_size)
        draws = plan.rows_of(rank=self.rank, world=self.world_size, first_step=first_step)

        def opened() -> Iterator[RawBatch]:
            return stream(
                draws,
                self.shards,
                maps=maps,
                batch=stop - start,
                cpus=self._spec.data_cpus,
                prefetch=self._spec.prefetch,
            )

        def waits_for(step: int) -> str:
            own = draws.slice((step - first_step) * (stop - start), stop - start)
            return waiting_for(own, self.shards)

        self._batches = PatientStream(
            opened,
            first_step=first_step,
            limit_s=self._spec.input_timeout_s,
            waits_for=waits_for,
            report=self._stalled,
        )
        return self._batches

    @property
    def step(self) -> int | None:
        """The step of this rank; None before the first one."""
        return None if self._batches is None else self._batches.step

    def _stalled(self, step: int, seconds: float, waits_for: str) -> None:
        note_incident(
            self._directory,
            "stalled",
            step=step,
            rank=self.rank,
            seconds=round(seconds, 1),
            waits_for=waits_for,
        )

    def begin(self) -> None:
        """Find the checkpoint from which this attempt begins, and report it; a barrier over the ranks.

        All ranks have to find the same one, so rank 0 looks. The report names the phase to the callbacks of
        the fit before anything can fail, and repeats the figures that a fault kept from them.
        """
        found = [folder.name for folder in checkpoints(self._directory)[-1:]] if self.rank == 0 else []
        (names, *_) = self.gather(found)
        if not names:
            self._report({}, step=0)
            return
        self._begins_at = self._directory / names[0]
        state = read_state(self._begins_at)
        self._report(state.metrics, step=state.step)

    def latest_checkpoint(self) -> Path | None:
        """Return the newest that was complete when the attempt began, on every rank."""
        return self._begins_at

    def report(self, metrics: Mapping[str, float], *, checkpoint: Path | None, step: int) -> None:
        """Move the checkpoint into the folder of the phase and report it; a barrier over the ranks.

        Rank 0 then removes the checkpoints that are not kept. Ray is given no checkpoint: the folder is the
        only list of them (docs/adr/0034-checkpoints-without-ray.md).
        """
        with translate_move_errors(step):
            if checkpoint is not None:
                # ``state.json`` makes a folder a checkpoint, so it is moved last.
                storage.move_folder(checkpoint, self._directory / name_of_checkpoint(step), last=STATE)
            self._report(metrics, step=step)
        if checkpoint is not None:
            remove_others(self._directory, self._selection)

    def _report(self, metrics: Mapping[str, float], *, step: int) -> None:
        figures = figures_of(metrics, self._selection)
        ray.train.report({**figures, "step": step, PHASE: str(self._directory), **placement()})

    def close(self) -> None:
        """End the stream of batches, and clear the gauges of the phase."""
        if self._batches is not None:
            self._batches.close()
        self._gauges.clear()

    def is_preempted(self) -> bool:
        """Return True once for each notice that the node of a worker will be preempted."""
        info = ray.train.get_preemption_info()
        if info is None or info == self._preempted:
            return False
        self._preempted = info
        if self.rank == 0:
            left = None if info.deadline_ms is None else round(info.deadline_ms / 1000 - time.time(), 1)
            note_incident(self._directory, "preempted", step=self.step, seconds=left)
        return True

    def publish(self, values: Mapping[str, object], *, step: int) -> None:
        """Set the gauges that Ray's metrics agent of this node serves."""
        self._gauges.set(values, step=step)
