"""Combines the measurements of a rehearsed phase over all ranks and both starts."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from pbrlib.curriculum.run import PhaseJob, RankWork, carry_out
from pbrlib.data.draws.plan import share
from pbrlib.rehearsal.figures import RankFigures, read_figures
from pbrlib.rehearsal.phase import rehearse_phase
from pbrlib.train.checkpoint.state import WEIGHTS, State, checkpoints, read_state
from pbrlib.train.clock import STEADY_S, STEADY_STEPS
from pbrlib.train.record.journal import METRICS
from pbrlib.train.record.timesheet import TIME_SHEET


@dataclass(frozen=True)
class Spread:
    """The median, minimum and maximum of several measurements."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class PhaseFigures:
    """The measurements of a rehearsed phase over all ranks: the slowest rank and the fullest device.

    Attributes:
        ranks: The measurements of each rank in the first start.
        step: Seconds of the steps after the first step.
        first_step_s: Seconds of the first step, with compilation and other one-time costs.
        input_s: Seconds in which the streams deliver a global batch without training; None if unknown.
        peak_bytes: Peak memory in use; see :class:`RankFigures`.
        reserved_bytes: Peak memory reserved by torch; None on CPUs.
        device_bytes: Memory of the smallest device; None on CPUs.
        host_bytes: Memory of the largest process, with all its validation textures.
        validation_s: Seconds of a validation of all textures, extrapolated by pixels.
        validated: Number of measured validation textures, and of all.
        load_s: Seconds to read all validation textures, extrapolated by pixels; once per start.
        checkpoint_s: Seconds to write and report a checkpoint.
        checkpoint_bytes: Size of a checkpoint.
        weights_bytes: Size of the weights in a checkpoint.
        log_bytes: Size of one validation in the journal and in TensorBoard's events.
        start_s: Seconds from the launch to the first batch.
        end_s: Seconds from the last report to the end of the fit.
        restored_at: The step from which the second start continued.
        restored: Whether the second start continued after the steps of the first, with the weights of its
            checkpoint on all ranks.
        donor: The donor of the phase; None for fresh weights.
        donor_tensors: Number of tensors copied from the donor, and of all tensors.
    """

    ranks: tuple[RankFigures, ...]
    step: Spread
    first_step_s: float
    input_s: float | None
    peak_bytes: int
    reserved_bytes: int | None
    device_bytes: int | None
    host_bytes: int
    validation_s: float
    validated: tuple[int, int]
    load_s: float
    checkpoint_s: float
    checkpoint_bytes: int
    weights_bytes: int
    log_bytes: int
    start_s: float
    end_s: float
    restored_at: int
    restored: bool
    donor: str | None
    donor_tensors: tuple[int, int]

    @property
    def is_steady(self) -> bool:
        """Whether the steps after the first are enough for an estimate, by the rule of the training clock."""
        later = max(len(self.ranks[0].step_s) - 1, 1)
        return later >= STEADY_STEPS or later * self.step.median >= STEADY_S

    def as_data(self) -> dict[str, Any]:
        """Convert to JSON values, including the measurements of the ranks."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "ranks": [asdict(rank) for rank in self.ranks],
            "step": asdict(self.step),
        }


def step_spread(ranks: Sequence[RankFigures]) -> tuple[Spread, float]:
    """Return the spread of the steps after the first, and the first step, in seconds of the slowest rank.

    Waiting for batches is included. For a phase with one step, the spread is of that step.
    """
    waits = [(0.0, *rank.wait_s[1:]) for rank in ranks]
    steps = [
        max(rank.step_s[number] + waited[number] for rank, waited in zip(ranks, waits, strict=True))
        for number in range(len(ranks[0].step_s))
    ]
    later = steps[1:] or steps
    return Spread(statistics.median(later), min(later), max(later)), steps[0]


def input_seconds(ranks: Sequence[RankFigures], *, batch: int) -> float | None:
    """Return the seconds in which the slowest stream delivers its part of a global batch; None if unknown."""
    supplies = [rank.supply for rank in ranks]
    if None in supplies or not all(supplies):
        return None
    bounds = [share(batch, rank=number, world=len(ranks)) for number in range(len(ranks))]
    return max(
        (stop - start) / supply for (start, stop), supply in zip(bounds, supplies, strict=True) if supply
    )


def extrapolated_validation(ranks: Sequence[RankFigures]) -> tuple[float, float, tuple[int, int]]:
    """Extrapolate the validation to all textures: seconds, reading seconds, and counts of textures.

    Ranks validate in parallel, so the largest share of a rank is used. The counts are of measured and of all
    textures.
    """
    parts = [rank.validation for rank in ranks if rank.validation is not None]
    measured, total = max(part.pixels for part in parts), max(part.all_pixels for part in parts)
    scale = total / measured if measured else 0.0
    counts = sum(part.textures for part in parts), sum(part.all_textures for part in parts)
    seconds = scale * max(part.seconds for part in parts) + parts[0].picture_s
    return seconds, scale * max(part.load_s for part in parts), counts


def max_host_bytes(ranks: Sequence[RankFigures]) -> int:
    """Return the memory of the largest process, with all its validation textures, which stay in memory."""
    found = []
    for rank in ranks:
        own, more = rank.validation, 0.0
        if own is not None and own.pixels:
            more = own.stored_bytes * (own.all_pixels / own.pixels - 1)
        found.append(rank.host_bytes + round(more))
    return max(found)


REASON = "a rehearsal: three steps are too few for a gate"
"""The reason with which a rehearsal forces the gates of a curriculum."""


class RankLauncher(Protocol):
    """Runs some work on every rank of a phase and returns the best checkpoint of the phase."""

    def __call__(self, job: PhaseJob, *, work: RankWork) -> Path:
        """Run the work and return the best checkpoint."""
        ...


def rehearse(job: PhaseJob, launch: RankLauncher) -> PhaseFigures:
    """Rehearse a phase in two starts, and record it as finished, so that other phases can start from it."""
    ended: list[float] = []

    def twice(job: PhaseJob) -> Path:
        for _ in (1, 2):
            best = launch(job, work=rehearse_phase)
            ended.append(time.time())
        return best

    carry_out(job, twice, force=REASON)
    return measured(job, ended=ended[0])


def measured(job: PhaseJob, *, ended: float) -> PhaseFigures:
    """Combine the measurements of both starts; ``ended`` is the Unix time of the end of the first."""
    first, second = (read_figures(job.directory, start=start) for start in (1, 2))
    sheet = (job.directory / TIME_SHEET).read_text().splitlines()
    start_s, checkpoint_s, reported = first_start(list(map(json.loads, sheet)))
    step, first_step_s = step_spread(first)
    validation_s, load_s, validated = extrapolated_validation(first)
    held = [rank.reserved_bytes for rank in (*first, *second) if rank.reserved_bytes is not None]
    devices = [rank.device_bytes for rank in first if rank.device_bytes is not None]
    written = checkpoints(job.directory)[-1]
    return PhaseFigures(
        ranks=first,
        step=step,
        first_step_s=first_step_s,
        input_s=input_seconds(first, batch=job.curriculum.phases[job.phase].batch),
        peak_bytes=max(rank.peak_bytes for rank in (*first, *second)),
        reserved_bytes=max(held, default=None),
        device_bytes=min(devices, default=None),
        host_bytes=max_host_bytes(first),
        validation_s=validation_s,
        validated=validated,
        load_s=load_s,
        checkpoint_s=checkpoint_s,
        checkpoint_bytes=_size(written),
        weights_bytes=weights_bytes(read_state(written)),
        log_bytes=_log_bytes(job.directory),
        start_s=start_s,
        end_s=max(ended - reported - max(map(_measuring_s, first)), 0.0),
        restored_at=second[0].first_step,
        restored=all(
            rank.first_step == len(first[0].step_s) and rank.agreeing == rank.tensors for rank in second
        ),
        donor=job.curriculum.phases[job.phase].starts_from,
        donor_tensors=(min(rank.agreeing for rank in first), first[0].tensors),
    )


def _measuring_s(rank: RankFigures) -> float:
    """Return the seconds that a rank spent on measurements after its report."""
    own = rank.validation
    return rank.supply_s + (0.0 if own is None else own.seconds + own.picture_s)


def weights_bytes(state: State) -> int:
    """Return the size of the weights of all networks of a checkpoint."""
    return sum(state.files[state.file_of(player, WEIGHTS)].bytes for player in state.players)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _log_bytes(directory: Path) -> int:
    """Return the size of the journal and TensorBoard's events, which have one validation."""
    return (directory / METRICS).stat().st_size + _size(directory / "tensorboard")


def first_start(lines: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    """Return the seconds to the first batch, those of the checkpoint, and the time of the report."""
    launched = next(line["at"] for line in lines if line["kind"] == "launched")
    first_batch_at = next(line["at"] for line in lines if line["kind"] == "begun")
    spent = next(line for line in lines if line["kind"] == "spent" and "checkpoint" in line)
    return first_batch_at - launched, spent["checkpoint"], spent["at"]
