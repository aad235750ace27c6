from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pbrlib.train.checkpoint.state import STATE
from pbrlib.train.record.rundirectory import SNAPSHOT
from ray_jobs.fit.recorded import forget_checkpoints, recorded, repair_record, resumable


def write(folder: Path, *steps: int, latest: int) -> None:
    """A record as Ray Train keeps it: the worst result first, each with the number of its report."""
    results = [
        {"checkpoint_dir_name": f"checkpoint_{step:08d}", "metrics": {"l1": 1 / step}} for step in steps
    ]
    content = {
        "checkpoint_results": results,
        "checkpoint_report_indices": [step - 1 for step in steps],
        "latest_checkpoint_result": results[steps.index(latest)],
        "current_report_index": max(steps),
    }
    (folder / SNAPSHOT).write_text(json.dumps(content))


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / SNAPSHOT).read_text())
    return content


def test_a_forgotten_checkpoint_is_neither_the_latest_nor_a_candidate_for_the_best(tmp_path: Path) -> None:
    write(tmp_path, 2, 5, 4, 3, latest=5)
    assert [one.name[-1] for one in recorded(tmp_path)] == ["2", "3", "4", "5"]
    forget_checkpoints(tmp_path, ["checkpoint_00000005", "checkpoint_00000004"])
    assert [one.name[-1] for one in recorded(tmp_path)] == ["2", "3"]
    content = read(tmp_path)
    assert content["latest_checkpoint_result"]["checkpoint_dir_name"] == "checkpoint_00000003"
    assert content["checkpoint_report_indices"] == [1, 2], "each stays beside its result"
    assert content["current_report_index"] == 5, "reports are still counted on"


def test_a_phase_that_ray_has_not_recorded_has_no_candidates(tmp_path: Path) -> None:
    assert recorded(tmp_path) == []


def test_what_ray_had_yet_to_record_can_be_resumed_and_forgotten(tmp_path: Path) -> None:
    unrecorded = tmp_path / "checkpoint_00000006"
    unrecorded.mkdir()
    (unrecorded / STATE).touch()
    (tmp_path / "checkpoint_00000007").mkdir()  # begun, never whole
    assert resumable(tmp_path) == [unrecorded]
    forget_checkpoints(tmp_path, [unrecorded.name])
    assert recorded(tmp_path) == []
    write(tmp_path, 3, 4, 5, latest=5)
    folders(tmp_path, 4, 5)
    assert [one.name[-1] for one in resumable(tmp_path)] == ["4", "5", "6"], "3 was not kept"
    forget_checkpoints(tmp_path, [unrecorded.name])
    assert [one.name[-1] for one in recorded(tmp_path)] == ["3", "4", "5"]
    forget_checkpoints(tmp_path, [f"checkpoint_0000000{step}" for step in (3, 4, 5)])
    assert recorded(tmp_path) == []
    assert read(tmp_path)["latest_checkpoint_result"] is None


def folders(directory: Path, *steps: int) -> None:
    for step in steps:
        folder = directory / f"checkpoint_{step:08d}"
        folder.mkdir()
        (folder / STATE).touch()


def test_a_record_that_says_what_is_there_is_left_alone(tmp_path: Path) -> None:
    repair_record(tmp_path)
    folders(tmp_path, 2, 3)
    write(tmp_path, 2, 3, latest=3)
    before = read(tmp_path)
    repair_record(tmp_path)
    assert read(tmp_path) == before


def test_a_checkpoint_that_was_not_kept_is_forgotten_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders(tmp_path, 1, 3)
    write(tmp_path, 1, 2, 3, latest=3)
    repair_record(tmp_path)
    assert [one.name[-1] for one in recorded(tmp_path)] == ["1", "3"]
    assert read(tmp_path)["latest_checkpoint_result"]["checkpoint_dir_name"] == "checkpoint_00000003"
    assert not caplog.messages


def test_a_newest_checkpoint_that_is_gone_is_forgotten_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders(tmp_path, 1, 2)
    write(tmp_path, 1, 2, 3, latest=3)
    repair_record(tmp_path)
    assert [one.name[-1] for one in recorded(tmp_path)] == ["1", "2"]
    assert read(tmp_path)["latest_checkpoint_result"]["checkpoint_dir_name"] == "checkpoint_00000002"
    (said,) = caplog.messages
    assert str(tmp_path / SNAPSHOT) in said and "checkpoint_00000003, which is gone" in said


@pytest.mark.parametrize("damage", ["empty", "half", "another form"])
def test_a_record_that_cannot_be_read_is_removed_and_said(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders(tmp_path, 2, 3)
    write(tmp_path, 2, 3, latest=3)
    path = tmp_path / SNAPSHOT
    match damage:
        case "empty":
            path.write_text("")
        case "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case _:
            path.write_text("[1]")
    repair_record(tmp_path)
    assert not path.exists()
    (said,) = caplog.messages
    assert str(path) in said and "entered anew" in said
