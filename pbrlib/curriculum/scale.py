"""Applies the batch scale of a curriculum to its batches and learning rates."""

from __future__ import annotations

from pbrlib.curriculum.spec import Curriculum, PhaseSpec, PlayerSpec
from pbrlib.optim.optimizerspec import GroupSpec, OptimizerSpec
from pbrlib.optim.schedules import ScheduleSpec


def scaled(curriculum: Curriculum) -> Curriculum:
    """Return the curriculum with scaled batches and learning rates, and without ``batch_scale``."""
    scale = curriculum.batch_scale
    if scale is None:
        return curriculum
    phases = {
        name: _phase(phase, factor=scale.factor, rate=scale.rate_factor)
        for name, phase in curriculum.phases.items()
    }
    return curriculum.model_copy(update={"batch_scale": None, "phases": phases})


def _phase(phase: PhaseSpec, *, factor: int, rate: float) -> PhaseSpec:
    def change(player: PlayerSpec) -> PlayerSpec:
        rates = {
            "optimizer": _optimizer(player.optimizer, rate),
            "schedule": _schedule(player.schedule, rate),
        }
        return player.model_copy(update=rates)

    return phase.with_each_player(change).model_copy(update={"batch": phase.batch * factor})


def _optimizer(spec: OptimizerSpec, rate: float) -> OptimizerSpec:
    groups = {name: _group(group, rate) for name, group in spec.groups.items()}
    return spec.model_copy(update={"lr": spec.lr * rate, "groups": groups})


def _group(group: GroupSpec, rate: float) -> GroupSpec:
    rates = {"lr": group.lr, "final": group.final}
    return group.model_copy(update={name: value * rate for name, value in rates.items() if value is not None})


def _schedule(schedule: ScheduleSpec, rate: float) -> ScheduleSpec:
    """Scale the end rate of a schedule; ``final_factor`` is relative and is not scaled."""
    if schedule.kind == "constant" or schedule.final is None:
        return schedule
    return schedule.model_copy(update={"final": schedule.final * rate})
