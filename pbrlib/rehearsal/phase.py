"""Rehearses a phase on every rank: real sizes and few steps, interrupted as by a lost node."""

from __future__ import annotations

import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pbrlib.curriculum.run import PhaseJob, build_phase
from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.plan import DrawPlan
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import ConfigError
from pbrlib.rehearsal.figures import RankFigures, ValidationFigures, rank_figures, write_figures
from pbrlib.tasks.taskspec import maps_required
from pbrlib.train.checkpoint.players import read_weights
from pbrlib.train.loop import train_phase
from pbrlib.train.phase import PhaseRun
from pbrlib.train.record.timesheet import enter_stage
from pbrlib.train.runtime import Runtime
from pbrlib.train.task import Player, Task
from pbrlib.train.validation import (
    MULTIPLE,
    SHOWN,
    ValidationTexture,
    contact_sheet,
    load_textures,
    size_of,
    validate,
    validated,
)

STEPS = 3
"""Number of steps of the first start; the second start resumes and takes one step."""

TEXTURES = SHOWN
"""Number of validation textures per rank: the largest, which need most memory; as many as a picture shows."""

SUPPLY_S = 3.0
"""Seconds in which the stream's throughput is measured; only the second half counts, since its first batches
are prefetched."""


class RehearsalEndError(Exception):
    """Raised after the rehearsed steps to end the training loop."""


def rehearse_phase(job: PhaseJob, runtime: Runtime) -> None:
    """Rehearse one start of a phase on this rank; rank 0 writes the measurements of all ranks.

    The first start begins like the real phase, takes ``STEPS`` steps of its plan, validates and writes a
    checkpoint. The second start resumes from that checkpoint and takes one step.

    Raises:
        ConfigError: The device has too little memory for a micro-batch.
    """
    if runtime.rank == 0:
        enter_stage(job.directory, "networks")
    checkpoint = runtime.latest_checkpoint()
    try:
        figures = _start(job, runtime, source=checkpoint or job.starts_from, again=checkpoint is not None)
    except torch.OutOfMemoryError as error:
        raise ConfigError(describe_out_of_memory(job, error)) from error
    texts = runtime.gather([figures.text()])
    if runtime.rank == 0:
        write_figures(
            job.directory, [rank_figures(text) for (text,) in texts], start=1 if checkpoint is None else 2
        )


def describe_out_of_memory(job: PhaseJob, error: BaseException) -> str:
    """Return the error and the remedy for a device with too little memory for a phase."""
    spec, runtime = job.curriculum.phases[job.phase], job.runtime
    local = -(-spec.batch // runtime.workers)
    micro = -(-local // runtime.micro_batches(spec.batch))
    smaller = max(micro // 2, 1)
    advice = (
        f"Set batch_per_device: {smaller} in the runtime file"
        if micro > 1
        else "A micro-batch has one sample already: use larger devices, precision: bf16, or a smaller crop"
    )
    first = str(error).partition("\n")[0].partition(". GPU")[0]
    return (
        f"phases.{job.phase}: got a micro-batch of {micro} at {spec.crop} px; expected one that fits into "
        f"memory ({first}). {advice}."
    )


def _start(job: PhaseJob, runtime: Runtime, *, source: Path | None, again: bool) -> RankFigures:
    cuda = runtime.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(runtime.device)
    shards = runtime.shards
    run, task = build_phase(job, runtime)
    own, share = _validation_rows(job, runtime)
    began = time.monotonic()
    textures = () if again else load_textures(shards, own, maps=run.maps)
    load_s = time.monotonic() - began
    stage = _MeasuringRuntime(runtime, task.players, source=source, steps=1 if again else STEPS)
    with suppress(RehearsalEndError):
        state = train_phase(_shortened(run), task, stage, validation=textures)
        if stage.first_step is None:  # The first start finished a phase of so few steps.
            stage.begins(state.step)
    validation = None
    if not again:
        validation = ValidationFigures(
            textures=len(own),
            pixels=sum(map(_pixels, own)),
            stored_bytes=sum(map(_stored_bytes, textures)),
            load_s=load_s,
            seconds=_seconds_of(lambda: validate(task, textures, stage), stage),
            picture_s=_seconds_of(lambda: _picture(task, textures, stage), stage),
            all_textures=len(share),
            all_pixels=sum(map(_pixels, share)),
        )
    return stage.figures(validation)


def _shortened(run: PhaseRun) -> PhaseRun:
    """Return the phase with a validation after the rehearsed steps; plan and schedule are unchanged."""
    return replace(run, segment_steps=STEPS)


def _validation_rows(job: PhaseJob, runtime: Runtime) -> tuple[list[IndexRow], list[IndexRow]]:
    """Return the validation textures of this rank in the rehearsal, and in the real training."""
    rows = validated(runtime.shards.rows, required=maps_required(job.curriculum.task))
    some = largest(rows, most=TEXTURES * runtime.world_size)
    return some[runtime.rank :: runtime.world_size], rows[runtime.rank :: runtime.world_size]


def largest(rows: Sequence[IndexRow], *, most: int) -> list[IndexRow]:
    """Return up to ``most`` rows, the largest first, with at least one of every source.

    A checkpoint may be selected by the metric of any source, so every source needs a texture.
    """
    by_size = sorted(rows, key=_pixels, reverse=True)
    first = {row.source: row for row in reversed(by_size)}
    rest = [row for row in by_size if first[row.source] is not row]
    return sorted([*first.values(), *rest[: max(most - len(first), 0)]], key=_pixels, reverse=True)


def _pixels(row: IndexRow) -> int:
    height, width = (side // MULTIPLE * MULTIPLE for side in size_of(row))
    return height * width


def _stored_bytes(texture: ValidationTexture) -> int:
    return sum(tensor.nbytes for tensor in texture.raw.maps.values())


def _picture(task: Task, textures: Sequence[ValidationTexture], stage: _MeasuringRuntime) -> None:
    if textures:
        contact_sheet(task, textures, device=stage.device)


def _seconds_of(what: Callable[[], object], stage: _MeasuringRuntime) -> float:
    """Return the seconds of a call, including the work on the device."""
    stage.wait_for_device()
    began = time.monotonic()
    what()
    stage.wait_for_device()
    return time.monotonic() - began


class _MeasuringRuntime:
    """Wraps a runtime to measure its phase and to interrupt it after the rehearsed steps."""

    def __init__(
        self, inside: Runtime, players: Sequence[Player], *, source: Path | None, steps: int
    ) -> None:
        self.rank, self.world_size, self.device = inside.rank, inside.world_size, inside.device
        self.shards = inside.shards
        self._inside, self._players, self._source, self._steps = inside, players, source, steps
        self.first_step: int | None = None
        self._agreeing = 0
        self._step_s: list[float] = []
        self._wait_s: list[float] = []
        self._given: float | None = None
        self._supply: tuple[float | None, float] = (None, 0.0)

    def wrap(self, module: nn.Module) -> nn.Module:
        return self._inside.wrap(module)

    def all_reduce(self, values: Tensor) -> Tensor:
        return self._inside.all_reduce(values)

    def gather(self, value: list[str]) -> list[list[str]]:
        return self._inside.gather(value)

    def share_buffers(self, module: nn.Module) -> None:
        # The training loop calls this first after the last step.
        self._step_ends()
        self._inside.share_buffers(module)

    def report(self, metrics: Mapping[str, float], *, checkpoint: Path | None, step: int) -> None:
        self._inside.report(metrics, checkpoint=checkpoint, step=step)

    def is_preempted(self) -> bool:
        return False  # a rehearsal is short enough to repeat

    def publish(self, values: Mapping[str, object], *, step: int) -> None:
        # Gauges of a rehearsal would be mixed with those of the real phases.
        pass

    def latest_checkpoint(self) -> Path | None:
        return self._inside.latest_checkpoint()

    def batches(self, plan: DrawPlan, *, maps: Sequence[str], first_step: int) -> Iterator[RawBatch]:
        """Yield the batches of the rehearsed steps from the real stream, then measure its throughput."""
        self.begins(first_step)
        stream = self._inside.batches(plan, maps=maps, first_step=first_step)
        for _ in range(self._steps):
            self._step_ends()
            requested = time.monotonic()
            batch = next(stream, None)
            if batch is None:
                return
            self._given = time.monotonic()
            self._wait_s.append(self._given - requested)
            yield batch
        self._step_ends()
        if first_step == 0:
            self._supply = stream_throughput(stream, seconds=SUPPLY_S)
        raise RehearsalEndError

    def begins(self, first_step: int) -> None:
        """Record the first step and the number of tensors that equal those of the donor or checkpoint."""
        self.first_step = first_step
        if self._source is not None:
            self._agreeing = sum(agreeing(player, self._source) for player in self._players)

    def wait_for_device(self) -> None:
        """Wait until the device has finished all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _step_ends(self) -> None:
        if self._given is None:
            return
        self.wait_for_device()
        self._step_s.append(time.monotonic() - self._given)
        self._given = None

    def figures(self, validation: ValidationFigures | None) -> RankFigures:
        """Return all measurements of this start."""
        cuda = self.device.type == "cuda"
        host_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )
        return RankFigures(
            rank=self.rank,
            host=socket.gethostname(),
            device=torch.cuda.get_device_name(self.device) if cuda else self.device.type,
            first_step=self.first_step or 0,
            agreeing=self._agreeing,
            tensors=sum(len(player.network.state_dict()) for player in self._players),
            step_s=tuple(self._step_s),
            wait_s=tuple(self._wait_s),
            supply=self._supply[0],
            supply_s=self._supply[1],
            peak_bytes=torch.cuda.max_memory_allocated(self.device) if cuda else host_bytes,
            reserved_bytes=torch.cuda.max_memory_reserved(self.device) if cuda else None,
            device_bytes=torch.cuda.get_device_properties(self.device).total_memory if cuda else None,
            host_bytes=host_bytes,
            validation=validation,
        )


def agreeing(player: Player, folder: Path) -> int:
    """Return the number of tensors of a player's network that equal those of a checkpoint exactly."""
    saved, own = read_weights(folder, player=player.name), player.network.state_dict()
    return sum(
        name in saved and torch.equal(tensor.detach().cpu(), saved[name]) for name, tensor in own.items()
    )


def stream_throughput(stream: Iterator[RawBatch], *, seconds: float) -> tuple[float | None, float]:
    """Measure the throughput of a stream in samples per second, and return it with the measuring time.

    Only the second half of the time counts. The throughput is None if the stream ends before.
    """
    began, counted, since = time.monotonic(), 0, None
    for batch in stream:
        now = time.monotonic()
        if since is not None:
            counted += len(batch)
        if now - began >= seconds and since is not None and counted:
            return counted / (now - since), now - began
        if since is None and now - began >= seconds / 2:
            since = now
    return None, time.monotonic() - began
