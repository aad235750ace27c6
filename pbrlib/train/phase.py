"""The settings of one phase and of its players, resolved for the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.draws.plan import DrawPlan
from pbrlib.optim.optimizerspec import OptimizerSpec
from pbrlib.optim.schedules import ScheduleSpec
from pbrlib.train.checkpoint.warmstart import WarmStart
from pbrlib.train.runtimespec import RuntimeSpec, Selection


@dataclass(frozen=True)
class PlayerRun:
    """The settings of one player of a phase.

    The player trains from ``start_step`` on, and its schedule counts steps from there; ``grad_clip`` is the
    largest norm of its gradient.
    """

    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    grad_clip: float
    start_step: int = 0


@dataclass(frozen=True)
class PhaseRun:
    """The resolved settings of one phase, independent of the model.

    ``players`` are the settings of the task's players by name.
    ``segment_steps`` is the number of steps between two validations, each with a checkpoint; the last segment
    may be shorter. ``maps`` are read for every draw; ``start`` describes a warm start from another role;
    ``frozen`` are the fingerprints of the frozen networks. The phase ends after ``plateau_steps`` without a
    better selection metric. ``tags`` are its hyperparameters for display.
    """

    name: str
    fingerprint: str
    seed: int
    directory: Path
    plan: DrawPlan
    maps: Sequence[str]
    segment_steps: int
    micro_batches: int
    augment: AugmentSpec
    players: Mapping[str, PlayerRun]
    selection: Selection
    frozen: Mapping[str, str]
    runtime: RuntimeSpec
    start: WarmStart | None = None
    plateau_steps: int | None = None
    tags: Mapping[str, str | int | float] = field(default_factory=dict)
