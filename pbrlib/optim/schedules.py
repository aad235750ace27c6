"""Learning-rate schedules as pure functions of the step, so that a checkpoint holds no schedule state.

Two rules hold for every schedule. First, an end rate is multiplied by the group's layer-decay factor, like
the base rate, so a decaying rate never rises. Second, an end rate is an absolute rate, not a share of the
peak: groups with different peaks end at the same value if the recipe gives one value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias, assert_never

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from pbrlib.errors import ConfigError
from pbrlib.spec import Spec

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from pbrlib.optim.groups import ParamGroup

OpenShare: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class ConstantSpec(Spec):
    """A constant learning rate."""

    kind: Literal["constant"] = "constant"

    def describe(self) -> str:
        """One phrase for tables and logs."""
        return "constant"


class CosineSpec(Spec):
    """A half cosine from the group's rate to ``final``."""

    kind: Literal["cosine"] = "cosine"
    final: NonNegativeFloat

    def describe(self) -> str:
        """One phrase for tables and logs."""
        return f"cosine -> {self.final:g}"


class OneCycleSpec(Spec):
    """One cycle: a cosine from ``peak / div_factor`` up to the group's rate, then a cosine to ``final``.

    The shape equals torch's OneCycleLR without the momentum cycle.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    pct_start: OpenShare
    div_factor: Annotated[float, Field(ge=1)] = 25.0
    final: NonNegativeFloat

    def describe(self) -> str:
        """One phrase for tables and logs."""
        return f"one cycle: peak/{self.div_factor:g} -> peak at {self.pct_start:.0%} -> {self.final:g}"


class WarmupCosineSpec(Spec):
    """Linear warm-up from ``start_factor`` times the group's rate, then a cosine to the end rate.

    Attributes:
        warmup_epochs: Length of the warm-up in epochs.
        start_factor: Share of the group's rate at step 0.
        final: End rate; give either this or ``final_factor``.
        final_factor: End rate as a share of the optimizer's ``lr``.
    """

    kind: Literal["warmup_cosine"] = "warmup_cosine"
    warmup_epochs: PositiveFloat = 1.0
    start_factor: Annotated[float, Field(gt=0, le=1)] = 0.3
    final: NonNegativeFloat | None = None
    final_factor: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _check_end_rate(self) -> Self:
        if (self.final is None) == (self.final_factor is None):
            given = "neither" if self.final is None else "both"
            raise ValueError(
                f"got {given} of final and final_factor; expected one. "
                "Set final (a rate) or final_factor (a share of the optimizer's lr)."
            )
        return self

    def describe(self) -> str:
        """One phrase for tables and logs."""
        end = f"{self.final:g}" if self.final is not None else f"{self.final_factor:g} lr"
        return f"warm-up {self.warmup_epochs:g} ep from {self.start_factor:g}, cosine -> {end}"


ScheduleSpec: TypeAlias = Annotated[
    ConstantSpec | CosineSpec | OneCycleSpec | WarmupCosineSpec, Field(discriminator="kind")
]
"""The spec of any schedule."""


def rate(
    schedule: ScheduleSpec,
    *,
    group_lr: float,
    group_factor: float,
    step: int,
    total_steps: int,
    steps_per_epoch: int,
    group_final: float | None = None,
    reference_lr: float | None = None,
) -> float:
    """Return the learning rate of one group at one optimizer step.

    Step 0 has the first rate of the schedule and step ``total_steps - 1`` the end rate; a phase of a single
    step has the first rate.

    Args:
        schedule: The schedule.
        group_lr: Rate of the group, layer decay included: the start of a cosine, the peak of one cycle.
        group_factor: The group's layer-decay factor; end rates are multiplied by it.
        step: Number of finished optimizer steps of this phase, 0 to ``total_steps - 1``.
        total_steps: Optimizer steps of the phase.
        steps_per_epoch: Optimizer steps of an epoch.
        group_final: The group's own end rate before the factor; None uses the schedule's.
        reference_lr: The rate that ``final_factor`` multiplies; None is the group's rate without its factor.
    """
    if not 0 <= step < total_steps:
        raise ValueError(f"step: got {step}; expected 0 to {total_steps - 1}")
    if schedule.kind == "constant":
        return group_lr
    reference = group_lr / group_factor if reference_lr is None else reference_lr
    end = group_factor * (_end_rate(schedule, reference) if group_final is None else group_final)
    last = total_steps - 1
    match schedule.kind:
        case "cosine":
            return _cosine(group_lr, end, step, last)
        case "one_cycle":
            start = group_lr / schedule.div_factor
            peak_at = max(schedule.pct_start * total_steps - 1.0, 0.0)
            if step < peak_at:
                return _cosine(start, group_lr, step, peak_at)
            return _cosine(group_lr, end, step - peak_at, last - peak_at)
        case "warmup_cosine":
            warmup = schedule.warmup_epochs * steps_per_epoch
            if step < warmup:
                return group_lr * (schedule.start_factor + (1.0 - schedule.start_factor) * step / warmup)
            return _cosine(group_lr, end, step - warmup, last - warmup)
        case _:
            assert_never(schedule.kind)


def apply_rates(
    optimizer: Optimizer, schedule: ScheduleSpec, *, step: int, total_steps: int, steps_per_epoch: int
) -> dict[str, float]:
    """Set the rate of every group of an optimizer that `pbrlib.optim.groups.build_optimizer` built.

    Returns:
        The rates by group name.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate(
            schedule,
            group_lr=group["peak"],
            group_factor=group["factor"],
            step=step,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            group_final=group["final"],
            reference_lr=group["reference"],
        )
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


def check_schedule(
    schedule: ScheduleSpec,
    *,
    groups: Sequence[ParamGroup],
    reference_lr: float,
    total_steps: int,
    steps_per_epoch: int,
) -> None:
    """Raise ConfigError for a schedule that contradicts its groups or the length of the phase.

    Args:
        schedule: The schedule.
        groups: The groups of the phase, from `pbrlib.optim.groups.parameter_groups`.
        reference_lr: The optimizer's own ``lr``.
        total_steps: Optimizer steps of the phase.
        steps_per_epoch: Optimizer steps of an epoch.

    Raises:
        ConfigError: An end rate is above the peak rate, a group has an end rate but the schedule is constant,
            or the warm-up leaves no step for the cosine.
    """
    for group in (group for group in groups if not group.frozen):
        if schedule.kind == "constant":
            if group.final is not None:
                raise ConfigError(
                    f"schedule.kind: got constant with final {group.final:g} in group {group.name}; expected "
                    "a schedule with an end rate. Leave final out, or choose cosine."
                )
            continue
        end = group.factor * (_end_rate(schedule, reference_lr) if group.final is None else group.final)
        if end > group.lr * (1.0 + 1e-9):
            raise ConfigError(
                f"schedule: got an end rate of {end:g} for group {group.name}; expected at most its rate, "
                f"{group.lr:g}. Lower final, or set final in the group."
            )
    if schedule.kind == "warmup_cosine" and schedule.warmup_epochs * steps_per_epoch >= total_steps - 1:
        raise ConfigError(
            f"schedule.warmup_epochs: got {schedule.warmup_epochs:g} epochs of {steps_per_epoch} steps; "
            f"expected fewer, as a phase of {total_steps} steps has none left for the cosine. Use a shorter "
            "warm-up, or train more epochs."
        )


def _end_rate(schedule: CosineSpec | OneCycleSpec | WarmupCosineSpec, reference_lr: float) -> float:
    if schedule.final is not None:
        return schedule.final
    assert isinstance(schedule, WarmupCosineSpec)
    assert schedule.final_factor is not None
    return schedule.final_factor * reference_lr


def _cosine(start: float, end: float, position: float, length: float) -> float:
    """Interpolate by a half cosine from ``start`` at 0 to ``end`` at ``length``; exact at both ends."""
    if position <= 0.0:
        return start
    if position >= length:
        return end
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * position / length))
