from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from torch.optim import lr_scheduler

from pbrlib.errors import ConfigError
from pbrlib.optim.groups import build_optimizer, parameter_groups
from pbrlib.optim.optimizerspec import AdamWSpec
from pbrlib.optim.schedules import (
    CosineSpec,
    OneCycleSpec,
    ScheduleSpec,
    WarmupCosineSpec,
    apply_rates,
    check_schedule,
    rate,
)

SCHEDULE: TypeAdapter[Any] = TypeAdapter(ScheduleSpec)
STEPS = 60


def curve(schedule: Any, *, lr: float, factor: float = 1.0, steps: int = STEPS, **more: Any) -> list[float]:
    return [
        rate(
            schedule,
            group_lr=lr,
            group_factor=factor,
            step=step,
            total_steps=steps,
            steps_per_epoch=10,
            **more,
        )
        for step in range(steps)
    ]


def torch_curve(make: Any, *, lr: float) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for step in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < STEPS - 1:
            scheduler.step()
    return rates


def test_cosine_is_torchs() -> None:
    def theirs(optimizer: Any) -> Any:
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS - 1, eta_min=8e-6)

    assert curve(CosineSpec(final=8e-6), lr=1e-4) == pytest.approx(torch_curve(theirs, lr=1e-4), rel=1e-9)


@pytest.mark.parametrize(("pct", "div"), [(0.15, 4.0), (0.2, 25.0)])
def test_one_cycle_is_torchs_where_torch_can_express_it(pct: float, div: float) -> None:
    peak, final = 4e-4, 1e-5

    def theirs(optimizer: Any) -> Any:
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=peak,
            total_steps=STEPS,
            pct_start=pct,
            div_factor=div,
            final_div_factor=peak / div / final,
            cycle_momentum=False,
        )

    ours = curve(OneCycleSpec(pct_start=pct, div_factor=div, final=final), lr=peak)
    assert ours == pytest.approx(torch_curve(theirs, lr=peak), rel=1e-9)


def test_warmup_cosine_is_torchs_linear_then_cosine() -> None:
    def linear(optimizer: Any) -> Any:
        return lr_scheduler.LinearLR(optimizer, start_factor=0.3, total_iters=10)

    def cosine(optimizer: Any) -> Any:
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS - 1 - 10, eta_min=5e-6)

    ours = curve(WarmupCosineSpec(warmup_epochs=1, start_factor=0.3, final=5e-6), lr=2e-4)
    assert ours[:11] == pytest.approx(torch_curve(linear, lr=2e-4)[:11], rel=1e-9)
    assert ours[10:] == pytest.approx(torch_curve(cosine, lr=2e-4)[: STEPS - 10], rel=1e-9)


ANNEALED = [
    CosineSpec(final=3e-6),
    OneCycleSpec(pct_start=0.2, div_factor=25, final=3e-6),
    WarmupCosineSpec(final=3e-6),
    WarmupCosineSpec(final_factor=0.03),
]


@pytest.mark.parametrize("schedule", ANNEALED)
def test_last_step_has_the_end_rate_exactly(schedule: Any) -> None:
    assert curve(schedule, lr=1e-4)[-1] == pytest.approx(3e-6, rel=1e-12)


def test_first_step_has_the_first_rate_exactly() -> None:
    firsts = [curve(schedule, lr=1e-4)[0] for schedule in ANNEALED]
    assert firsts == pytest.approx([1e-4, 1e-4 / 25, 0.3e-4, 0.3e-4], rel=1e-12)


@pytest.mark.parametrize("factor", [1.0, 0.9**3, 0.8**4, 0.01])
def test_cosine_never_rises_whatever_the_layer_decay(factor: float) -> None:
    rates = curve(CosineSpec(final=5e-6), lr=5e-5 * factor, factor=factor)
    assert all(later <= earlier for earlier, later in pairwise(rates))
    assert rates[-1] == pytest.approx(5e-6 * factor)


def test_groups_with_different_peaks_end_at_one_rate() -> None:
    schedule = OneCycleSpec(pct_start=0.2, div_factor=25, final=1e-5)
    assert {curve(schedule, lr=peak)[-1] for peak in (2e-4, 2.5e-4, 3e-4)} == {1e-5}


def test_groups_own_end_rate_replaces_the_schedules() -> None:
    rates = curve(CosineSpec(final=5e-6), lr=5e-6 * 0.9, factor=0.9, group_final=2e-6)
    assert rates[-1] == pytest.approx(2e-6 * 0.9)


def test_end_rate_may_be_a_share_of_the_encoders_rate_for_every_group() -> None:
    schedule = WarmupCosineSpec(final_factor=0.05)
    assert curve(schedule, lr=2e-4, reference_lr=1e-4)[-1] == pytest.approx(5e-6)
    assert curve(schedule, lr=0.8e-4, factor=0.8, reference_lr=1e-4)[-1] == pytest.approx(4e-6)


@pytest.mark.parametrize("schedule", ANNEALED)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_tiny_phases_have_rates_within_their_ends(schedule: Any, steps: int) -> None:
    assert all(3e-6 * (1 - 1e-9) <= r <= 1e-4 for r in curve(schedule, lr=1e-4, steps=steps))


def test_step_outside_the_phase_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="step: got 60; expected 0 to 59"):
        rate(CosineSpec(final=0), group_lr=1, group_factor=1, step=60, total_steps=60, steps_per_epoch=10)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.stages = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.decoder = nn.Linear(2, 2)


S3 = AdamWSpec.model_validate(
    {
        "lr": 1e-5,
        "layer_decay": 0.9,
        "groups": {"encoder": {"match": "encoder.*", "lr": 5e-6, "final": 2e-6}},
    }
)


def test_polish_phase_of_the_recipe_gives_each_group_its_own_ends() -> None:
    optimizer = build_optimizer(Net(), S3)
    first = apply_rates(optimizer, CosineSpec(final=5e-6), step=0, total_steps=STEPS, steps_per_epoch=10)
    last = apply_rates(optimizer, CosineSpec(final=5e-6), step=59, total_steps=STEPS, steps_per_epoch=10)
    assert (first["base"], last["base"]) == pytest.approx((1e-5, 5e-6))
    for stage, factor in enumerate((0.81, 0.9, 1.0)):
        name = f"encoder.stages.{stage}"
        assert (first[name], last[name]) == pytest.approx((5e-6 * factor, 2e-6 * factor))
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == last


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"kind": "constant"}, r"got constant with final 2e-06 in group encoder\.stages\.0"),
        (
            {"kind": "cosine", "final": 2e-5},
            r"got an end rate of 2e-05 for group base; expected at most its rate, 1e-05",
        ),
        (
            {"kind": "warmup_cosine", "warmup_epochs": 6, "final": 1e-6},
            r"warmup_epochs: got 6 epochs of 10 steps; expected fewer, as a phase of 60 steps",
        ),
    ],
)
def test_schedules_that_cannot_be_meant_are_refused(schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_schedule(
            SCHEDULE.validate_python(schedule),
            groups=parameter_groups(Net(), S3),
            reference_lr=S3.lr,
            total_steps=STEPS,
            steps_per_epoch=10,
        )


def test_schedule_of_the_recipe_passes_the_check() -> None:
    groups = parameter_groups(Net(), S3)
    check_schedule(
        CosineSpec(final=5e-6), groups=groups, reference_lr=S3.lr, total_steps=STEPS, steps_per_epoch=10
    )


@pytest.mark.parametrize("ends", [{}, {"final": 1e-6, "final_factor": 0.05}])
def test_warmup_cosine_has_one_end(ends: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="of final and final_factor; expected one"):
        SCHEDULE.validate_python({"kind": "warmup_cosine", **ends})


def test_descriptions_name_the_ends() -> None:
    written = [CosineSpec(final=8e-6), OneCycleSpec(pct_start=0.15, div_factor=4, final=1e-5), ANNEALED[3]]
    assert [schedule.describe() for schedule in written] == [
        "cosine -> 8e-06",
        "one cycle: peak/4 -> peak at 15% -> 1e-05",
        "warm-up 1 ep from 0.3, cosine -> 0.03 lr",
    ]
