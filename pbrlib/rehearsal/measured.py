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
    """Several measurements of one thing: their median, least and most."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class PhaseFigures:
    """What rehearsing a phase measured, over all ranks; the slowest rank and the fullest device count.

    Attributes:
        ranks: Of its first start.
        step: Seconds of a step after the first one of its start.
        first_step_s: Seconds of the first one: compiling, and what a device does once.
        input_s: Seconds in which the streams deliver a global batch to who does nothing else; None: unknown.
        peak_bytes: See :class:`RankFigures`; ``reserved_bytes`` is None on CPUs.
        device_bytes: Of the smallest device; None on CPUs.
        host_bytes: Of the largest process, its whole share of validation textures added.
        validation_s: One validation of all textures, extrapolated by their pixels.
        validated: Textures that were measured, of all that will be.
        load_s: Reading all validation textures, extrapolated by their pixels; once a start.
        checkpoint_s: Writing one and handing it over.
        checkpoint_bytes: One checkpoint.
        weights_bytes: The weights in it.
        log_bytes: What one validation adds to the journal and to TensorBoard's events.
        start_s: From the launch to the first batch.
        end_s: From the last report to the end of the fit.
        restored_at: The cursor of the second start.
        restored: Whether that is behind the steps of the first, and all ranks began it with the checkpoint's
            weights.
        donor: What the phase began from; None: fresh weights.
        donor_tensors: Tensors taken over from it as they are, and all.
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
        """Whether the steps after the first are enough to judge a phase by, as those of training must be."""
        later = max(len(self.ranks[0].step_s) - 1, 1)
        return later >= STEADY_STEPS or later * self.step.median >= STEADY_S

    def as_data(self) -> dict[str, Any]:
        """Plain values, the ranks' own among them."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "ranks": [asdict(rank) for rank in self.ranks],
            "step": asdict(self.step),
        }


def step_spread(ranks: Sequence[RankFigures]) -> tuple[Spread, float]:
    """Of each step the slowest rank, waits included: the spread of all but the first, and the first one.

    Of a phase of one step that one is all there is to go by.
    """
    waits = [(0.0, *rank.wait_s[1:]) for rank in ranks]
    steps = [
        max(rank.step_s[number] + waited[number] for rank, waited in zip(ranks, waits, strict=True))
        for number in range(len(ranks[0].step_s))
    ]
    later = steps[1:] or steps
    return Spread(statistics.median(later), min(later), max(later)), steps[0]


def seconds_of_input(ranks: Sequence[RankFigures], *, batch: int) -> float | None:
    """Seconds in which all streams together deliver a global batch; the slowest decides."""
    supplies = [rank.supply for rank in ranks]
    if None in supplies or not all(supplies):
        return None
    bounds = [share(batch, rank=number, world=len(ranks)) for number in range(len(ranks))]
    return max(
        (stop - start) / supply for (start, stop), supply in zip(bounds, supplies, strict=True) if supply
    )


def whole_validation(ranks: Sequence[RankFigures]) -> tuple[float, float, tuple[int, int]]:
    """Seconds of one validation of all textures, of reading them, and textures measured and all.

    Ranks validate side by side, each its share, so the fullest share counts.
    """
    own = [rank.validation for rank in ranks if rank.validation is not None]
    measured, whole = max(one.pixels for one in own), max(one.all_pixels for one in own)
    scale = whole / measured if measured else 0.0
    counts = sum(one.textures for one in own), sum(one.all_textures for one in own)
    seconds = scale * max(one.seconds for one in own) + own[0].picture_s
    return seconds, scale * max(one.load_s for one in own), counts


def whole_host_bytes(ranks: Sequence[RankFigures]) -> int:
    """The largest process with its whole share of validation textures, which stays in memory."""
    found = []
    for rank in ranks:
        own, more = rank.validation, 0.0
        if own is not None and own.pixels:
            more = own.stored_bytes * (own.all_pixels / own.pixels - 1)
        found.append(rank.host_bytes + round(more))
    return max(found)


REASON = "a rehearsal: three steps teach nothing that a gate could judge"
"""The reason with which a rehearsal forces the gates of a curriculum."""


class RankLauncher(Protocol):
    """Runs some work on every rank of a phase and returns the best checkpoint of the phase."""

    def __call__(self, job: PhaseJob, *, work: RankWork) -> Path:
        """As `pbrlib.curriculum.run.Launcher` does."""
        ...


def rehearse(job: PhaseJob, launch: RankLauncher) -> PhaseFigures:
    """Carries out a phase in small, starts it a second time, and enters it into the record as a donor."""
    ended: list[float] = []

    def twice(job: PhaseJob) -> Path:
        for _ in (1, 2):
            best = launch(job, work=rehearse_phase)
            ended.append(time.time())
        return best

    carry_out(job, twice, force=REASON)
    return measured(job, ended=ended[0])


def measured(job: PhaseJob, *, ended: float) -> PhaseFigures:
    """What the two starts of a phase left in its folder; ``ended`` is when the first was over."""
    first, second = (read_figures(job.directory, start=start) for start in (1, 2))
    sheet = (job.directory / TIME_SHEET).read_text().splitlines()
    start_s, checkpoint_s, reported = first_start(list(map(json.loads, sheet)))
    step, first_step_s = step_spread(first)
    validation_s, load_s, validated = whole_validation(first)
    held = [rank.reserved_bytes for rank in (*first, *second) if rank.reserved_bytes is not None]
    devices = [rank.device_bytes for rank in first if rank.device_bytes is not None]
    written = checkpoints(job.directory)[-1]
    return PhaseFigures(
        ranks=first,
        step=step,
        first_step_s=first_step_s,
        input_s=seconds_of_input(first, batch=job.curriculum.phases[job.phase].batch),
        peak_bytes=max(rank.peak_bytes for rank in (*first, *second)),
        reserved_bytes=max(held, default=None),
        device_bytes=min(devices, default=None),
        host_bytes=whole_host_bytes(first),
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
    """What a rank spent behind its report on nothing but these figures."""
    own = rank.validation
    return rank.supply_s + (0.0 if own is None else own.seconds + own.picture_s)


def weights_bytes(state: State) -> int:
    """The weights of all networks of a checkpoint."""
    return sum(state.files[state.file_of(player, WEIGHTS)].bytes for player in state.players)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _log_bytes(directory: Path) -> int:
    """The journal and TensorBoard's events, which hold one validation."""
    return (directory / METRICS).stat().st_size + _size(directory / "tensorboard")


def first_start(lines: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    """Of a time sheet's first start: seconds to the first batch, of its checkpoint, and when it reported."""
    launched = next(line["at"] for line in lines if line["kind"] == "launched")
    begun = next(line["at"] for line in lines if line["kind"] == "begun")
    spent = next(line for line in lines if line["kind"] == "spent" and "checkpoint" in line)
    return begun - launched, spent["checkpoint"], spent["at"]
