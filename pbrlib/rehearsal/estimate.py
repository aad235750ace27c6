"""Estimates the hours and storage of the whole training from a rehearsal's measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pbrlib.rehearsal.measured import PhaseFigures

KEPT = 2
"""Number of checkpoints of a phase that are kept: the best and the last one."""

IN_FLIGHT = 2
"""And those that exist for a moment beside them: the one that is written, and its copy."""

LINE_BYTES = 1500
"""What a second of training adds to journal and TensorBoard: a line of a few dozen figures each."""


@dataclass(frozen=True)
class PhaseLength:
    """How long a phase is by its curriculum and its data: to its last step, no plateau before it."""

    curriculum: str
    phase: str
    batch: int
    steps: int
    segment_steps: int

    @property
    def name(self) -> str:
        """As in the overview of a ladder."""
        return f"{self.curriculum}/{self.phase}"

    @property
    def validations(self) -> int:
        """One at the end of each segment, each with a checkpoint."""
        return -(-self.steps // self.segment_steps)


@dataclass(frozen=True)
class PhaseEstimate:
    """Seconds and bytes of a phase, were it to go to its last step.

    ``input_bound``: the streams deliver a batch more slowly than a step takes it.
    """

    steps_s: float
    validation_s: float
    checkpoint_s: float
    start_s: float
    one_checkpoint_bytes: int
    num_checkpoints: int
    log_bytes: int
    input_bound: bool

    @property
    def seconds(self) -> float:
        """The total wall time in seconds."""
        return self.steps_s + self.validation_s + self.checkpoint_s + self.start_s

    @property
    def bytes(self) -> int:
        """What lies in the phase's folder at its end."""
        return self.num_checkpoints * self.one_checkpoint_bytes + self.log_bytes

    def as_data(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "seconds": self.seconds, "bytes": self.bytes}


def estimate(length: PhaseLength, figures: PhaseFigures) -> PhaseEstimate:
    """Steps by the median step, or by the input where that is slower; the rest by what one of each took."""
    input_s = figures.input_s or 0.0
    steps_s = length.steps * max(figures.step.median, input_s)
    validation_s = length.validations * figures.validation_s
    checkpoint_s = length.validations * figures.checkpoint_s
    warm_up_s = max(figures.first_step_s - figures.step.median, 0.0)
    start_s = figures.start_s + figures.load_s + warm_up_s + figures.end_s
    return PhaseEstimate(
        steps_s=steps_s,
        validation_s=validation_s,
        checkpoint_s=checkpoint_s,
        start_s=start_s,
        one_checkpoint_bytes=figures.checkpoint_bytes,
        num_checkpoints=min(length.validations, KEPT),
        log_bytes=length.validations * figures.log_bytes + round(steps_s * LINE_BYTES),
        input_bound=input_s > figures.step.median,
    )


@dataclass(frozen=True)
class Whole:
    """The estimate of all phases together.

    Attributes:
        hours: By the clock, with curricula in parallel where nodes were free at the time of the request.
        worker_hours: What is paid for: hours of a GPU, or of a CPU worker.
        bytes: In the runs directory at the end.
        most_bytes: There at most, while a checkpoint is written.
        missing: Phases that are not in it, having failed.
    """

    hours: float
    worker_hours: float
    bytes: int
    most_bytes: int
    missing: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def whole(
    waves: Sequence[Sequence[str]],
    phases: Mapping[str, Mapping[str, PhaseEstimate | None]],
    *,
    workers: int,
    room: int,
    model_bytes: int = 0,
) -> Whole:
    """Add up the estimates of a ladder's phases.

    Args:
        waves: The names of the curricula of each wave.
        phases: The estimates of each curriculum's phases, in their order; None where there is none.
        workers: Of each phase.
        room: How many curricula may train at once.
        model_bytes: What a finished ladder leaves beside its runs.
    """
    known = [one for curriculum in phases.values() for one in curriculum.values() if one is not None]
    seconds = {
        name: sum(one.seconds for one in curriculum.values() if one is not None)
        for name, curriculum in phases.items()
    }
    by_the_clock = sum(_parallel_seconds([seconds[name] for name in wave], room=room) for wave in waves)
    kept = sum(one.bytes for one in known) + model_bytes
    heaviest = sorted((one.one_checkpoint_bytes for one in known), reverse=True)
    most_at_once = min(room, max(map(len, waves)))
    return Whole(
        hours=by_the_clock / 3600,
        worker_hours=workers * sum(seconds.values()) / 3600,
        bytes=kept,
        most_bytes=kept + IN_FLIGHT * sum(heaviest[:most_at_once]),
        missing=tuple(
            f"{name}/{phase}"
            for name, curriculum in phases.items()
            for phase, one in curriculum.items()
            if one is None
        ),
    )


def _parallel_seconds(seconds: Sequence[float], *, room: int) -> float:
    """The end of the last curriculum if each starts at the first free place."""
    places = [0.0] * max(room, 1)
    for one in seconds:
        places[places.index(min(places))] += one
    return max(places)
