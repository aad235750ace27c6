"""What Ray Train makes of what a fit reports: which checkpoints it keeps, and which it names as the best."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import ray.train
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager
from ray.train.v2._internal.execution.context import StorageContext
from ray.train.v2._internal.execution.training_report import _TrainingReport

from pbrlib.train.spec import Selection
from ray_jobs.reports import ToTheSweep, figures_of


def kept(
    folder: Path, *values: float | None, mode: Literal["min", "max"]
) -> tuple[list[int], list[tuple[int, float]]]:
    """Which of the reported checkpoints are left, and Ray's list of them, the worst first.

    None is the figure of one that is written when a node will go.
    """
    select = Selection(metric="l1", mode=mode)
    config = ray.train.CheckpointConfig(
        num_to_keep=2, checkpoint_score_attribute="l1", checkpoint_score_order=mode
    )
    storage = StorageContext(str(folder), "fit")
    phase = folder / "fit"

    async def report_all() -> CheckpointManager:
        manager = CheckpointManager(config, storage)
        for number, value in enumerate(values):
            (phase / str(number)).mkdir(parents=True)
            manager.register_checkpoint(
                _TrainingReport(
                    checkpoint=ray.train.Checkpoint.from_directory(str(phase / str(number))),
                    metrics=figures_of({} if value is None else {"l1": value}, select),
                    validation=False,
                )
            )
        return manager

    manager = asyncio.run(report_all())
    # It is read again when a fit resumes.
    again = CheckpointManager(config, storage)
    results = [(int(Path(one.checkpoint.path).name), one.metrics["l1"]) for one in again._checkpoint_results]
    assert len(manager._checkpoint_results) == len(results)
    return sorted(int(one.name) for one in phase.iterdir() if one.is_dir()), results


# Ray writes and reads its record by methods that pydantic would rather have called otherwise.
by_ray = pytest.mark.filterwarnings("ignore:.*method is deprecated.*")


@by_ray
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_outlives_two_notices_and_what_follows_them(
    mode: Literal["min", "max"], tmp_path: Path
) -> None:
    sign = 1 if mode == "min" else -1
    left, results = kept(tmp_path, 0.5 * sign, 0.1 * sign, None, 0.4 * sign, None, mode=mode)
    assert left == [1, 3, 4], "the two best, and the newest"
    assert results[-1] == (1, 0.1 * sign)


@by_ray
def test_a_validation_that_is_no_number_is_not_the_best(tmp_path: Path) -> None:
    left, results = kept(tmp_path, 0.5, math.nan, 0.4, mode="min")
    assert left == [0, 2]
    assert results == [(0, 0.5), (2, 0.4)]


def test_a_sweep_hears_of_no_checkpoint_without_figures() -> None:
    select = Selection(metric="l1", mode="min")
    report: dict[str, Any] = figures_of({}, select)
    # Passing it on would ask Ray, which does not run here, for the controller's handle.
    ToTheSweep.after_report(object(), None, [report], None)  # type: ignore[arg-type]
