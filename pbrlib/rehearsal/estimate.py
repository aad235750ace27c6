"""Estimates the hours and storage of the whole training from a rehearsal's measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pbrlib.rehearsal.measured import PhaseFigures

KEPT = 2
"""Number of checkpoints of a phase that are kept: the best and the last one."""

IN_FLIGHT = 2
"""Number of additional checkpoints while one is written: the new one and its copy."""

LINE_BYTES = 1500
"""Bytes per second of training in the journal and TensorBoard: one line with some dozen values each."""


@dataclass(frozen=True)
class PhaseLength:
    """The length of a phase by its curriculum and data, without an early end by a plateau."""

    curriculum: str
    phase: str
    batch: int
    steps: int
    segment_steps: int

    @property
    def name(self) -> str:
        """The name with the curriculum, such as ``segformer/S1``."""
        return f"{self.curriculum}/{self.phase}"

    @property
    def validations(self) -> int:
        """The number of validations: one at the end of each segment, each with a checkpoint."""
        return -(-self.steps // self.segment_steps)


@dataclass(frozen=True)
class PhaseEstimate:
    """The estimated seconds and bytes of a phase that ends with its last step.

    ``input_bound`` is true if the data streams are slower than the steps.
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
        """The size of the phase's folder at its end."""
        return self.num_checkpoints * self.one_checkpoint_bytes + self.log_bytes

    def as_data(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return {**asdict(self), "seconds": self.seconds, "bytes": self.bytes}


def estimate(length: PhaseLength, figures: PhaseFigures) -> PhaseEstimate:
    """Estimate a phase from the slower of median step and input, and one run of each other activity."""
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
class TotalEstimate:
    """The estimate of all phases together.

    Attributes:
        hours: Wall time in hours, with as many parallel curricula as the cluster had resources for.
        worker_hours: Hours of all GPUs, or of all CPU workers, together.
        bytes: Size of the runs directory at the end.
        most_bytes: Maximum size of the runs directory, while checkpoints are written.
        missing: Failed phases, which are not included.
    """

    hours: float
    worker_hours: float
    bytes: int
    most_bytes: int
    missing: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return asdict(self)


def total_estimate(
    waves: Sequence[Sequence[str]],
    phases: Mapping[str, Mapping[str, PhaseEstimate | None]],
    *,
    workers: int,
    room: int,
    model_bytes: int = 0,
) -> TotalEstimate:
    """Add up the estimates of a ladder's phases.

    Args:
        waves: The names of the curricula of each wave.
        phases: The estimates of each curriculum's phases, in their order; None where there is none.
        workers: Number of workers per phase.
        room: Maximum number of curricula in parallel.
        model_bytes: Size of the model folder of the finished ladder.
    """
    known = [found for curriculum in phases.values() for found in curriculum.values() if found is not None]
    seconds = {
        name: sum(found.seconds for found in curriculum.values() if found is not None)
        for name, curriculum in phases.items()
    }
    wall_s = sum(_parallel_seconds([seconds[name] for name in wave], room=room) for wave in waves)
    kept = sum(found.bytes for found in known) + model_bytes
    heaviest = sorted((found.one_checkpoint_bytes for found in known), reverse=True)
    most_at_once = min(room, max(map(len, waves)))
    return TotalEstimate(
        hours=wall_s / 3600,
        worker_hours=workers * sum(seconds.values()) / 3600,
        bytes=kept,
        most_bytes=kept + IN_FLIGHT * sum(heaviest[:most_at_once]),
        missing=tuple(
            f"{name}/{phase}"
            for name, curriculum in phases.items()
            for phase, found in curriculum.items()
            if found is None
        ),
    )


def _parallel_seconds(seconds: Sequence[float], *, room: int) -> float:
    """Return the total time of curricula that each start as soon as one of ``room`` slots is free."""
    slots = [0.0] * max(room, 1)
    for duration in seconds:
        slots[slots.index(min(slots))] += duration
    return max(slots)
