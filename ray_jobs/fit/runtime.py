"""The loop's surroundings on a Ray Train worker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import ray.train
import ray.train.torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.plan import DrawPlan, share
from pbrlib.data.shards.dataset import DataSet
from pbrlib.train.checkpoint.keeping import remove_others
from pbrlib.train.checkpoint.state import checkpoints, name_of_checkpoint, read_state
from pbrlib.train.collectives import ProcessGroup
from pbrlib.train.record.incidents import note_incident
from pbrlib.train.runtime import translate_move_errors
from pbrlib.train.runtimespec import RuntimeSpec, Selection
from pbrlib.train.stall import PatientStream
from ray_jobs.fit.datasets import stream, waiting_for
from ray_jobs.fit.gauges import PhaseGauges
from ray_jobs.fit.placement import figures_of, placement
from ray_jobs.fit.raystorage import checkpoint_at, path_of, sending_to


class RayRuntime(ProcessGroup):
    """One rank of a TorchTrainer: DDP, one Ray Data execution, checkpoints through ``ray.train.report``."""

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

    def wrap(self, module: nn.Module) -> nn.Module:
        """DDP; batch norms are synchronised on GPUs, the only place where torch can."""
        if self.device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
            return DistributedDataParallel(module, device_ids=[self.device])
        return DistributedDataParallel(module)

    def batches(self, plan: DrawPlan, *, maps: Sequence[str], first_step: int) -> Iterator[RawBatch]:
        """This rank's part of every batch, from one Ray Data execution."""
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
            tell=self._stalled,
        )
        return self._batches

    @property
    def step(self) -> int | None:
        """The step that this rank is at; None before its first one."""
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

    def report(self, metrics: Mapping[str, float], *, checkpoint: Path | None, step: int) -> None:
        """A barrier over the ranks; the checkpoint moves to its place and into Ray's record.

        Rank 0 then removes those that are not kept. Ray would keep the best ones beside the newest, so a
        damaged newest one could cost many segments.
        """
        with translate_move_errors(step):
            ray.train.report(
                self._told(metrics, step=step),
                checkpoint=None if checkpoint is None else checkpoint_at(checkpoint),
                checkpoint_dir_name=name_of_checkpoint(step),
                checkpoint_upload_fn=sending_to(self._directory),
            )
        if checkpoint is not None:
            remove_others(self._directory, self._selection)

    def _told(self, metrics: Mapping[str, float], *, step: int) -> dict[str, object]:
        """What Ray hears of a checkpoint."""
        return {**figures_of(metrics, self._selection), "step": step, **placement()}

    def is_preempted(self) -> bool:
        """True once for each notice that Ray was given of its workers' nodes, such as a spot instance's."""
        info = ray.train.get_preemption_info()
        if info is None or info == self._preempted:
            return False
        self._preempted = info
        if self.rank == 0:
            left = None if info.deadline_ms is None else round(info.deadline_ms / 1000 - time.time(), 1)
            note_incident(self._directory, "preempted", step=self.step, seconds=left)
        return True

    def publish(self, values: Mapping[str, object], *, step: int) -> None:
        """Sets the gauges that Ray's metrics agent of this node serves."""
        self._gauges.set(values, step=step)

    def latest_checkpoint(self) -> Path | None:
        """The newest that was complete when the attempt began, on every rank."""
        return self._begins_at

    @cached_property
    def _begins_at(self) -> Path | None:
        """Asked for once: all ranks have to find out together, and only rank 0's Ray knows what is entered.

        Ray's controller records a checkpoint up to two seconds after it was written. Those that a fault kept
        out of the record are entered now: they are not trained again, and can be the best.
        """
        known = ray.train.get_checkpoint()
        newest = None if known is None else path_of(known)
        found = [folder.name for folder in checkpoints(self._directory)] if self.rank == 0 else []
        (names, *_) = self.gather(found)
        for name in names:
            if newest is None or name > newest.name:
                newest = self._directory / name
                self._enter(newest)
        return newest

    def _enter(self, folder: Path) -> None:
        """Reports a checkpoint that lies in its place already; a barrier over the ranks."""
        state = read_state(folder)
        ray.train.report(
            self._told(state.metrics, step=state.step),
            checkpoint=checkpoint_at(folder) if self.rank == 0 else None,
            checkpoint_dir_name=folder.name,
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,
        )
