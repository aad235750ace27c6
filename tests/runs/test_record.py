"""The state of a run, derived from its files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pbrlib.errors import DataError
from pbrlib.runs.record import Run, find_runs
from pbrlib.runs.sparkline import sparkline
from pbrlib.train.record.incidents import note_incident
from pbrlib.train.record.journal import METRICS
from pbrlib.train.record.timesheet import TIME_SHEET
from ray_jobs.cli import main
from tests.runs.trees import NOW, albedo_of, declare, finish, phase, write_ladder

F1, F2 = "1" * 64, "2" * 64


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A run of two phases, the first finished, the second begun long ago."""
    run = declare(tmp_path, albedo_of("A1", "A2"))
    first = phase(run, "A1", fingerprint=F1, errors={4: 0.5, 8: 0.3}, age_s=7200)
    finish(run, first, fingerprint=F1, order=("A1", "A2"))
    phase(run, "A2", fingerprint=F2, errors={4: 0.25}, age_s=3600)
    return run


def state(run: Path) -> str:
    return Run.open(run).state(now=NOW)


def test_a_phase_that_nobody_writes_to_is_lost_and_one_just_written_to_trains(half: Path) -> None:
    assert state(half) == "lost"
    assert Run.open(half).shown_phase(now=NOW) == "A2"
    assert Run.open(half).state(now=NOW - 3590) == "training"


@pytest.mark.parametrize(
    ("said", "age_s", "found"),
    [("training", 3, "training"), ("training", 300, "lost"), ("stopped", 300, "stopped")],
)
def test_ladder_json_counts_while_its_time_stamp_is_recent(
    half: Path, said: str, age_s: float, found: str
) -> None:
    write_ladder(half.parent, state=said, age_s=age_s, phase="A2")
    assert state(half) == found
    assert Run.open(half).reason("A2") == ("the disk is full" if said == "stopped" else None)


def test_the_time_sheet_shows_a_stop_if_another_command_wrote_ladder_json(half: Path) -> None:
    write_ladder(half.parent, state="training", age_s=1, curriculum="another")
    sheet = next(half.glob("A2-*")) / TIME_SHEET
    sheet.write_text(json.dumps({"kind": "launched", "at": 1}) + "\n")
    assert Run.open(half).folders[-1].last_entry == "launched"
    sheet.write_text(sheet.read_text() + json.dumps({"kind": "stopped", "at": 2}) + "\n")
    assert state(half) == "stopped"


def test_a_run_is_finished_with_its_last_phase_and_waits_before_it(tmp_path: Path) -> None:
    run = declare(tmp_path, albedo_of("A1", "A2"))
    assert state(run) == "waiting"
    first = phase(run, "A1", fingerprint=F1, errors={8: 0.3}, age_s=7200)
    finish(run, first, fingerprint=F1, order=("A1", "A2"))
    assert state(run) == "waiting"
    second = phase(run, "A2", fingerprint=F2, errors={8: 0.2}, age_s=3600)
    finish(run, second, fingerprint=F2, order=("A1", "A2"))
    assert state(run) == "finished"
    finish(run, second, fingerprint=F2, order=("A1", "A2"), gate={"passed": False, "forced": None})
    assert state(run) == "stopped"
    assert Run.open(run).reason("A2") == "it did not pass its gate"


def test_the_best_validation_is_the_first_of_equals_and_never_nan(tmp_path: Path) -> None:
    run = declare(tmp_path, albedo_of("A1"))
    folder = phase(run, "A1", fingerprint=F1, errors={2: math.nan, 4: 0.2, 6: 0.2, 8: 0.4}, age_s=3600)
    (folder / METRICS).write_text((folder / METRICS).read_text() + '{"kind": "val')
    best = Run.open(run).folders[0].best
    assert best is not None
    assert best.step == 4


def test_runs_are_found_at_any_depth_and_a_model_folder_is_none(half: Path, tmp_path: Path) -> None:
    deep = declare(tmp_path / "sweep" / "trial-1", albedo_of("A1", name="other"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    (tmp_path / "model" / "curriculum.yaml").write_text("name: no run")
    found = [run.path for run in find_runs(tmp_path)]
    assert sorted(found) == sorted([half, deep])
    with pytest.raises(DataError, match="got a directory without runs"):
        find_runs(next(half.glob("A1-*")))


def test_the_list_and_a_run_are_printed(half: Path) -> None:
    write_ladder(half.parent, state="stopped", age_s=300, phase="A2")
    listed = CliRunner().invoke(main, ["runs", str(half.parent)])
    assert listed.exit_code == 0, listed.output
    assert "albedo  stopped  A2 (2 of 2)  all/albedo/l1 0.2500  4/8" in listed.output
    assert "albedo A2: the disk is full" in listed.output
    shown = CliRunner().invoke(main, ["runs", "show", str(half)])
    assert shown.exit_code == 0, shown.output
    assert "█▁" in shown.output
    assert str(half / f"A1-{F1[:8]}" / "checkpoint_00000008") in shown.output
    assert "there is no time sheet" in shown.output


def test_the_goodput_of_a_run_counts_repeated_steps_once_and_the_time_between_its_phases(half: Path) -> None:
    first = [("launched", 0, 0), ("begun", 5, 0), ("spent", 25, 40), ("spent", 30, 50)]
    again = [("begun", 35, 40), ("spent", 40, 50)]
    second = [("launched", 80, 0), ("begun", 85, 0), ("spent", 95, 8), ("ended", 100, 8)]
    for name, lines in (("A1", first + again), ("A2", second)):
        (folder,) = half.glob(f"{name}-*")
        entries = [json.dumps({"kind": kind, "at": at, "step": step}) for kind, at, step in lines]
        (folder / TIME_SHEET).write_text("\n".join(entries) + "\n")
    shown = CliRunner().invoke(main, ["runs", "show", str(half)]).output
    # 20 + 5 and 10 of 100 seconds; 5 more were trained and lost, and 40 lie between the phases.
    assert "\nGoodput 35 %: share of the wall time in steps; repeated steps count once.\n" in shown
    assert re.search(r"\nrun +35 s \(35 %\) .* 10 s \(10 %\) +40 s \(40 %\) +1 min 40 s", shown)


def test_a_run_lists_its_failed_attempts_with_time_and_cause(half: Path) -> None:
    (folder,) = half.glob("A2-*")
    for step in range(25):
        note_incident(
            folder, "failed", step=step, rank=1, error="ValueError", message="no", verdict="retried"
        )
    shown = CliRunner().invoke(main, ["runs", "show", str(half)]).output
    assert "A2: 5 earlier incidents are in incidents.jsonl" in shown
    assert "step 4, rank 1" not in shown
    assert re.search(r"A2  20\d\d-\d\d-\d\d \S+  step 24, rank 1: ValueError: no; retried", shown)


def test_what_is_no_run_is_an_input_error_with_a_remedy(tmp_path: Path) -> None:
    for words in (["show", str(tmp_path)], [str(tmp_path / "nothing")], [str(tmp_path)]):
        result = CliRunner().invoke(main, ["runs", *words])
        assert result.exit_code == 2
        assert "--runs" in result.stderr


def test_a_sparkline_is_as_wide_as_it_may_be_and_shows_gaps() -> None:
    assert sparkline([0.0, 1.0]) == "▁█"
    assert sparkline([1.0, math.nan, 1.0]) == "▅·▅"
    assert len(sparkline(list(range(1000)), width=40)) == 40
    assert sparkline(list(range(8))) == "▁▂▃▄▅▆▇█"
    assert sparkline([]) == ""


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])
def test_a_folder_that_goes_or_may_not_be_read_hides_no_run(
    error: type[OSError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(tmp_path, albedo_of("A1"))
    (tmp_path / "other").mkdir()
    list_folder = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder.name == "other":
            raise error(folder)
        return list_folder(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert [run.name for run in find_runs(tmp_path)] == ["albedo"]
