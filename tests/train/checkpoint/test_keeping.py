"""Tests of the retention of checkpoints and of the choice of the best one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pbrlib import storage
from pbrlib.train.checkpoint.keeping import best_checkpoint, remove_others
from pbrlib.train.checkpoint.state import (
    SET_ASIDE,
    WEIGHTS,
    State,
    checkpoints,
    name_of_checkpoint,
    step_of_checkpoint,
    write_state,
)
from pbrlib.train.runtimespec import Selection

LOWEST = Selection(metric="l1", mode="min")


@pytest.fixture(params=["local", "s3"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return (
        tmp_path if request.param == "local" else storage.to_path(f"{request.getfixturevalue('bucket')}/A1")
    )


def reported(directory: Path, *values: float | None, selection: Selection = LOWEST) -> list[int]:
    """Return the steps of the remaining checkpoints; a metric of None marks a preemption checkpoint."""
    for step, value in enumerate(values, 1):
        folder = directory / name_of_checkpoint(step)
        folder.mkdir(parents=True)
        write_state(folder, State("A1", "f", step, 9, {} if value is None else {"l1": value}, {}))
        remove_others(directory, selection)
    return [step_of_checkpoint(folder) for folder in checkpoints(directory)]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_and_the_two_newest_are_kept(directory: Path, mode: str) -> None:
    sign = 1 if mode == "min" else -1
    selection = Selection.model_validate({"metric": "l1", "mode": mode})
    values = [sign * value for value in (0.5, 0.1, 0.2, 0.3, 0.4)]
    assert reported(directory, *values, selection=selection) == [2, 4, 5]
    assert best_checkpoint(directory, selection) == directory / name_of_checkpoint(2)


def test_the_best_checkpoint_is_kept_after_preemption_notices(tmp_path: Path) -> None:
    assert reported(tmp_path, 0.5, 0.1, None, 0.4, None) == [2, 4, 5]


def test_a_validation_that_is_no_number_is_not_the_best(tmp_path: Path) -> None:
    assert reported(tmp_path, 0.5, math.nan, 0.6, 0.7) == [1, 3, 4]


def test_the_newest_of_equal_checkpoints_is_the_best(tmp_path: Path) -> None:
    assert reported(tmp_path, 0.5, 0.5, 0.6, 0.7) == [2, 3, 4]


def test_the_rest_of_an_interrupted_removal_is_removed(directory: Path) -> None:
    for step in (1, 2):
        folder = directory / name_of_checkpoint(step)
        folder.mkdir(parents=True)
        (folder / WEIGHTS).write_bytes(b"weights")
    (directory / name_of_checkpoint(2) / SET_ASIDE).write_text("damaged, to be looked at")
    for step in (3, 4, 5):
        (directory / name_of_checkpoint(step)).mkdir()
        write_state(directory / name_of_checkpoint(step), State("A1", "f", step, 9, {"l1": 1.0}, {}))
    remove_others(directory, LOWEST)
    left = sorted(folder.name for folder in directory.glob("checkpoint_*"))
    assert left == [name_of_checkpoint(step) for step in (2, 4, 5)]


def test_a_checkpoint_that_cannot_be_removed_is_a_warning_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(folder: Path, *, first: str) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("pbrlib.storage.remove_folder", refused)
        assert reported(tmp_path, 0.5, 0.4, 0.3) == [1, 2, 3]
    (said,) = caplog.messages
    assert "checkpoint_00000001: not removed ([Errno 13] Permission denied)" in said
    remove_others(tmp_path, LOWEST)
    assert len(checkpoints(tmp_path)) == 2


def test_without_validations_there_is_no_best_checkpoint(tmp_path: Path) -> None:
    assert reported(tmp_path, None, None, None) == [2, 3]
    assert best_checkpoint(tmp_path, LOWEST) is None
