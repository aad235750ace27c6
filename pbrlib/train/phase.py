"""One phase as the loop is told of it."""

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
    """How one player of a phase learns.

    It sleeps until ``start_step``, from which its schedule counts its own steps; ``grad_clip`` is the largest
    norm of its gradient.
    """

    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    grad_clip: float
    start_step: int = 0


@dataclass(frozen=True)
class PhaseRun:
    """All that one phase is, resolved: what the loop needs and nothing that knows a model.

    ``players`` are those of the task, by name.
    ``segment_steps`` steps lie between two validations, each with a checkpoint; the last segment may be
    shorter. ``maps`` are read for every draw; ``start`` says what was taken from the weights of another role;
    ``frozen`` are the fingerprints of the networks before this one. After ``plateau_steps`` without a better
    selection metric the phase ends. ``tags`` are its hyperparameters for people.
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
