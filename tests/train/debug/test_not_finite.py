"""Tests of a step that is not finite: the error message and the stored state."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pbrlib.curriculum.run import PhaseJob, launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import NumericsError
from pbrlib.losses.recipe import LossReport
from pbrlib.tasks.supervised import Example
from pbrlib.train.failedstep import read_failed_step
from pbrlib.train.learner import Learner
from tests.train.phases import job_of

STEP = 2


@pytest.fixture
def job(shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path) -> PhaseJob:
    return job_of(
        albedo_curriculum, "A1", shards=shard_set, donors=trained_runs, runs=tmp_path, record_batches=True
    )


def change_loss(change: Callable[[LossReport, Learner], LossReport], patch: pytest.MonkeyPatch) -> None:
    """Changes the loss of one step of a phase."""
    whole = Learner.forward

    def forward(self: Learner, example: Example, counts: Tensor | None, *, step: int) -> LossReport:
        report = whole(self, example, counts, step=step)
        return change(report, self) if step == STEP else report

    patch.setattr(Learner, "forward", forward)


def with_infinite_slope(report: LossReport, learner: Learner) -> LossReport:
    """Return the loss unchanged, with the infinite gradient of a square root at 0."""
    weight = next(learner.player.network.parameters())
    return replace(report, total=report.total + (weight - weight.detach()).sum().sqrt())


def samples_of(job: PhaseJob) -> str:
    """Return names in the format of the error."""
    lines = (job.directory / "batches-rank0.jsonl").read_text().splitlines()
    return ", ".join(sorted({name for name, _ in json.loads(lines[STEP])["samples"]}))


def test_an_infinite_gradient_stops_the_phase_before_the_update(
    job: PhaseJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_loss(with_infinite_slope, monkeypatch)
    with pytest.raises(NumericsError) as caught:
        launch_local(job)
    assert str(caught.value).startswith(
        f"phase A1, step {STEP}: the gradient is not finite. Terms: all finite. Samples: {samples_of(job)}. "
    )
    record = read_failed_step(job.directory)
    assert record is not None, "for debug-step"
    figures = dict(record.figures)
    assert (record.step, figures.pop("norm")) == (STEP, math.inf)
    assert all(map(math.isfinite, figures.values()))


@pytest.mark.parametrize(
    "broken", [{"l1": math.nan}, {"ms_ssim": math.inf}, {"l1": -math.inf, "ms_ssim": math.nan}]
)
def test_only_terms_that_are_not_finite_are_named(
    job: PhaseJob, monkeypatch: pytest.MonkeyPatch, broken: dict[str, float]
) -> None:
    def broke(report: LossReport, learner: Learner) -> LossReport:
        values = {name: torch.tensor(value) for name, value in broken.items()}
        return LossReport(report.total + sum(values.values()), {**report.terms, **values})

    change_loss(broke, monkeypatch)
    with pytest.raises(NumericsError) as caught:
        launch_local(job)
    assert str(caught.value).startswith(
        f"phase A1, step {STEP}: the loss is not finite. Terms: {', '.join(broken)}. "
        f"Samples: {samples_of(job)}. "
    )
    record = read_failed_step(job.directory)
    assert record is not None
    terms = {name: record.figures[name] for name in ("l1", "ms_ssim")}
    odd = {name: value for name, value in terms.items() if not math.isfinite(value)}
    assert list(map(str, odd.items())) == list(map(str, broken.items())), "nan is not equal to itself"
