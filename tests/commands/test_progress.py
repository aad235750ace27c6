"""The output and the files of a ladder in training, with fake launches."""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import ray_jobs.progress
from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.describe.overview import overview_of
from pbrlib.curriculum.ladder import Ladder, LadderEntry
from pbrlib.curriculum.run import PhaseJob, one_by_one, resolve
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import CheckpointError, DataError, GateError
from pbrlib.train.checkpoint.state import STATE, State, Validated, write_state
from pbrlib.train.record.incidents import note_incident
from pbrlib.train.record.journal import METRICS
from pbrlib.train.record.timesheet import enter_stage, enter_time
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.progress import Progress
from ray_jobs.trainingrequest import TrainingRequest
from tests.conftest import ALBEDO

WAIT_S = 20.0
L1 = "val/all/albedo/l1"
GATE = "    gate: {ratios: {generated: 0.5}, window: 1}\n"


def curriculum(name: str, *, gate: bool = False) -> str:
    """Two phases; the gate of the second wants half the error of the first."""
    first = ALBEDO.replace("name: albedo", f"name: {name}")
    second = first[first.index("  A1:") :].replace("A1:", "A2:\n    starts_from: A1")
    return first + second + (GATE if gate else "")


def work_of(waves: Sequence[Sequence[str]], *, data: Path, runs: Path) -> TrainingRequest:
    """Return a ladder of curricula in waves, given as texts."""
    ladder = Ladder(
        tuple(tuple(LadderEntry(Path("x.yaml"), parse_curriculum(text)) for text in wave) for wave in waves)
    )
    phases = {one.name: tuple(one.phases) for one in ladder.curricula}
    return TrainingRequest(
        ladder, data=DataSpec.from_location(data), runs=runs, runtime=RuntimeSpec(workers=1), phases=phases
    )


def write_line(job: PhaseJob, kind: str, step: int, **values: float | None) -> None:
    job.directory.mkdir(parents=True, exist_ok=True)
    shown: dict[str, float | None] = {
        "epoch": 0.5,
        "total_steps": 8,
        "train/loss": 0.5,
        "samples_per_s": 3.0,
        "input_stall": 0.0,
    }
    shown |= {"seconds_left": 30.0} | values
    with (job.directory / METRICS).open("a") as file:
        file.write(json.dumps({"kind": kind, "step": step, **(shown if kind == "step" else values)}) + "\n")


def trained(job: PhaseJob) -> Path:
    """A checkpoint as a phase leaves it at its end, with an error of 0.25."""
    metrics = {L1: 0.25, "val/generated/albedo/l1": 0.25}
    folder = job.directory / "checkpoint_00000008"
    folder.mkdir(parents=True)
    state = State(
        phase=job.phase,
        fingerprint=job.fingerprint,
        step=8,
        total_steps=8,
        metrics=metrics,
        players={},
        history=(Validated(8, metrics),),
    )
    write_state(folder, state)
    return folder


def record(runs: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((runs / "ladder.json").read_text())
    return found


def states(runs: Path) -> dict[str, str]:
    return {f"{one['curriculum']}/{one['phase']}": one["state"] for one in record(runs)["phases"]}


def eventually(wanted: Callable[[], bool]) -> None:
    limit = time.monotonic() + WAIT_S
    while not wanted():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name, seconds in {"POLL_S": 0.02, "WRITE_EVERY_S": 0.02, "PLAIN_EVERY_S": 0.0}.items():
        monkeypatch.setattr(ray_jobs.progress, name, seconds)
    # Of the network before these only the fingerprint matters.
    donor = tmp_path_factory.mktemp("donor")
    state = State(phase="S0", fingerprint="d" * 64, step=1, total_steps=1, metrics={}, players={})
    write_state(donor, state)
    monkeypatch.setattr("pbrlib.curriculum.outside._outside", lambda reference, runs: donor)


def test_ladder_json_is_true_at_every_moment(
    shard_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moments: list[dict[str, str]] = []

    def launch(job: PhaseJob) -> Path:
        moments.append(states(tmp_path))
        (one,) = [one for one in record(tmp_path)["phases"] if one["state"] == "training"]
        assert (one["fingerprint"], one["step"], one["best"]) == (job.fingerprint, 0, None)
        write_line(job, "validation", 3, **{L1: 0.75})
        write_line(job, "step", 4)
        eventually(lambda: record(tmp_path)["phases"][len(moments) - 1]["step"] == 4)
        one = record(tmp_path)["phases"][len(moments) - 1]
        assert (one["best"], one["seconds_left"], one["total_steps"]) == (0.75, 30.0, 8)
        assert record(tmp_path)["share_of_samples"] == pytest.approx((len(moments) - 0.5) / 2)
        return trained(job)

    work = work_of([[curriculum("one")]], data=shard_folder, runs=tmp_path)
    work.train(one_by_one(launch))
    assert moments == [
        {"one/A1": "training", "one/A2": "waiting"},
        {"one/A1": "finished", "one/A2": "training"},
    ]
    last = record(tmp_path)
    assert (last["format_version"], last["state"], last["share_of_samples"]) == (1, "finished", 1.0)
    assert last["waves"] == [["one"]]
    for one in last["phases"]:
        assert (one["state"], one["best"], one["step"], one["error"]) == ("finished", 0.25, 8, None)
        assert (tmp_path / one["checkpoint"] / STATE).exists()
    said = capsys.readouterr().out
    assert "one/A1: training into" in said
    assert f"one/A1: finished, {L1} 0.2500 at step 8 (" in said
    assert "one/A1  epoch 0.5  step 4/8  loss 0.5000" in said
    assert "2 of 2 phases, 100 % of all samples" in said

    work_of([[curriculum("one")]], data=shard_folder, runs=tmp_path).train(one_by_one(never))
    assert set(states(tmp_path).values()) == {"finished before"}
    assert "one/A2: finished before," in capsys.readouterr().out


def test_a_long_stage_of_a_start_is_shown(
    shard_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_jobs.progress, "STAGE_AFTER_S", 0.0)
    said = []

    def says(words: str) -> bool:
        said.append(capsys.readouterr().out)
        return words in "".join(said)

    def launch(job: PhaseJob) -> Path:
        assert record(tmp_path)["phases"][0]["stage"] == "starting"
        enter_stage(job.directory, "workers")
        eventually(lambda: says("one/A1: starting workers\n"))
        assert record(tmp_path)["phases"][0]["stage"] == "starting workers"
        enter_stage(job.directory, "first batch")
        eventually(lambda: says("one/A1: waiting for the first batch\n"))
        enter_time(job.directory, "begun")
        eventually(lambda: record(tmp_path)["phases"][0]["stage"] is None)
        write_line(job, "step", 4)
        eventually(lambda: record(tmp_path)["phases"][0]["seconds_left"] == 30.0)
        enter_stage(job.directory, "workers")  # another attempt, after a fault
        eventually(lambda: record(tmp_path)["phases"][0]["seconds_left"] is None)
        write_line(job, "step", 1, seconds_left=None)
        eventually(lambda: says("step 1/8"))
        return trained(job)

    one = curriculum("one").partition("  A2:")[0]
    work_of([[one]], data=shard_folder, runs=tmp_path).train(one_by_one(launch))
    (line,) = [line for line in "".join(said).splitlines() if "step 1/8" in line]
    assert line.endswith("input stall 0 %"), "no time is left to be said yet"


def test_a_failed_attempt_and_a_stall_are_reported_in_a_line_each(
    shard_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []

    def launch(job: PhaseJob) -> Path:
        failed = {"step": 3, "rank": 1, "error": "ActorDiedError", "message": "gone", "verdict": "retried"}
        note_incident(job.directory, "failed", **failed)
        note_incident(job.directory, "stalled", step=3, rank=0, seconds=60.2, waits_for="shard-1.parquet")
        eventually(lambda: said.append(capsys.readouterr().out) or "shard-1" in "".join(said))
        return trained(job)

    one = curriculum("one").partition("  A2:")[0]
    work_of([[one]], data=shard_folder, runs=tmp_path).train(one_by_one(launch))
    lines = "".join(said).splitlines()
    assert "one/A1: step 3, rank 1: ActorDiedError: gone; retried" in lines
    assert "one/A1: step 3: rank 0 has waited 60 s for its input: shard-1.parquet" in lines


def never(job: PhaseJob) -> Path:
    raise AssertionError(f"{job.phase} was trained again")


def test_the_next_command_corrects_what_a_killed_one_left(shard_folder: Path, tmp_path: Path) -> None:
    work = work_of([[curriculum("one")]], data=shard_folder, runs=tmp_path)

    def killed(job: PhaseJob) -> Path:
        left = (tmp_path / "ladder.json").read_text()
        assert states(tmp_path) == {"one/A1": "training", "one/A2": "waiting"}
        raise _Killed(left)

    with pytest.raises(_Killed) as caught:
        work.train(one_by_one(killed))
    (tmp_path / "ladder.json").write_text(str(caught.value))
    seen = []

    def launch(job: PhaseJob) -> Path:
        seen.append(states(tmp_path))
        return trained(job)

    work_of([[curriculum("one")]], data=shard_folder, runs=tmp_path).train(one_by_one(launch))
    assert seen[0] == {"one/A1": "training", "one/A2": "waiting"}
    assert set(states(tmp_path).values()) == {"finished"}


class _Killed(Exception):  # noqa: N818  # stands for a signal
    """Carries what ladder.json held."""


def test_the_stamp_is_renewed_while_nothing_changes(shard_folder: Path, tmp_path: Path) -> None:
    def launch(job: PhaseJob) -> Path:
        before = (tmp_path / "ladder.json").stat().st_ino
        eventually(lambda: (tmp_path / "ladder.json").stat().st_ino != before)
        return trained(job)

    work_of([[curriculum("one")]], data=shard_folder, runs=tmp_path).train(one_by_one(launch))


def test_families_side_by_side_are_all_shown_as_training(shard_folder: Path, tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=WAIT_S)

    def launch(job: PhaseJob) -> Path:
        both.wait()
        seen = states(tmp_path)
        both.wait()
        assert seen == {f"{name}/{phase}": expected[job.phase][phase] for name in "ab" for phase in expected}
        return trained(job)

    expected = {
        "A1": {"A1": "training", "A2": "waiting"},
        "A2": {"A1": "finished", "A2": "training"},
    }
    work = work_of([[curriculum("a"), curriculum("b")]], data=shard_folder, runs=tmp_path)
    work.train(one_by_one(launch), room=lambda: 2)
    assert set(states(tmp_path).values()) == {"finished"}


def test_a_failure_is_reported_when_it_happens_and_the_others_continue_to_their_end(
    shard_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both, said = threading.Barrier(2, timeout=WAIT_S), []

    def launch(job: PhaseJob) -> Path:
        both.wait()
        if job.curriculum.name == "a":
            raise DataError("shard 3 is damaged. Prepare it again.")
        eventually(lambda: states(tmp_path)["a/A1"] == "stopped")
        said.append(capsys.readouterr().out)
        return trained(job)

    waves = [[curriculum("a"), curriculum("b")], [curriculum("c")]]
    with pytest.raises(DataError, match="shard 3"):
        work_of(waves, data=shard_folder, runs=tmp_path).train(one_by_one(launch), room=lambda: 2)
    assert "a/A1: stopped. shard 3 is damaged." in said[0]
    assert record(tmp_path)["state"] == "stopped"
    assert states(tmp_path) == {
        "a/A1": "stopped",
        "a/A2": "waiting",
        "b/A1": "finished",
        "b/A2": "waiting",
        "c/A1": "waiting",
        "c/A2": "waiting",
    }
    assert record(tmp_path)["phases"][0]["error"] == "shard 3 is damaged. Prepare it again."
    table = capsys.readouterr().out
    for line in ("a/A1", "c/A2", "1 of 6 phases"):
        assert line in table, "the table stands at the end of a failure too"


def test_a_gate_that_is_not_passed_leaves_the_metrics_and_its_verdict(
    shard_folder: Path, tmp_path: Path
) -> None:
    work = work_of([[curriculum("one", gate=True)]], data=shard_folder, runs=tmp_path)
    with pytest.raises(GateError):
        work.train(one_by_one(trained))
    second = record(tmp_path)["phases"][1]
    assert (second["state"], second["gate"], second["best"]) == ("stopped", "closed", 0.25)
    assert "did not pass its gate" in second["error"]
    work.train(one_by_one(never), force="toy data")
    second = record(tmp_path)["phases"][1]
    assert (second["state"], second["gate"], second["error"]) == ("finished before", "forced", None)


def test_an_interrupt_ends_the_command_at_once_with_a_message(shard_folder: Path, tmp_path: Path) -> None:
    left, committed = threading.Event(), threading.Event()

    def launch(job: PhaseJob) -> Path:
        if job.curriculum.name == "a":
            trained(job)
            committed.set()
        else:
            assert committed.wait(WAIT_S)
            identity = threading.main_thread().ident
            assert identity is not None
            signal.pthread_kill(identity, signal.SIGINT)
        assert left.wait(WAIT_S)
        raise CheckpointError("what fails after the interrupt is of no interest")

    work = work_of([[curriculum("a"), curriculum("b")]], data=shard_folder, runs=tmp_path)
    with pytest.raises(KeyboardInterrupt) as caught:
        work.train(one_by_one(launch), room=lambda: 2)
    assert str(caught.value) == (
        "resume with the same command (a/A1 resumes at step 8 of 8, b/A1 resumes at step 0 of 8)"
    )
    left.set()
    time.sleep(0.1)
    assert states(tmp_path) == {"a/A1": "stopped", "a/A2": "waiting", "b/A1": "stopped", "b/A2": "waiting"}
    assert [one["error"] for one in record(tmp_path)["phases"]] == ["interrupted", None, "interrupted", None]
    assert record(tmp_path)["state"] == "stopped"


@pytest.mark.parametrize(("height", "waiting"), [(40, True), (8, False)])
def test_a_terminal_shows_the_table_and_what_moves_beneath(
    shard_set: ShardSet, shard_folder: Path, tmp_path: Path, height: int, waiting: bool
) -> None:
    work = work_of([[curriculum("a")], [curriculum("b")]], data=shard_folder, runs=tmp_path)
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, height=height, _environ={})
    overview = overview_of(work.ladder, phases=work.phases, rows=shard_set.rows)

    def launch(job: PhaseJob) -> None:
        progress.started(job)
        write_line(job, "step", 4)
        eventually(lambda: "step 4/8" in text.getvalue() and "of all samples" in text.getvalue())

    with Progress(overview, runs=tmp_path, console=console) as progress:
        launch(resolve(work.ladder.curricula[0], "A1", shards=shard_set, runs=tmp_path, runtime=work.runtime))
        live = text.getvalue()
    assert "a/A1" in live
    assert ("b/A2" in live) == waiting, "a window that is too low keeps what trains"
    assert "b/A2" in text.getvalue()


@pytest.mark.parametrize(("width", "last"), [(80, "time"), (120, "checkpoint"), (30, "state")])
def test_a_narrow_window_shows_whole_columns(
    shard_set: ShardSet, shard_folder: Path, tmp_path: Path, width: int, last: str
) -> None:
    work = work_of([[curriculum("albedo")]], data=shard_folder, runs=tmp_path)
    work.train(one_by_one(trained))
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, color_system=None, width=width, _environ={})
    overview = overview_of(work.ladder, phases=work.phases, rows=shard_set.rows)
    with Progress(overview, runs=tmp_path, console=console) as progress:
        for phase in ("A1", "A2"):
            job = resolve(
                work.ladder.curricula[0], phase, shards=shard_set, runs=tmp_path, runtime=work.runtime
            )
            progress.finished(job, job.run_directory.phases()[phase], before=True)
    table = text.getvalue()[text.getvalue().rindex("phase ") :].splitlines()
    assert table[0].split()[-1] == last
    assert all(len(line) < width for line in table[:3])
    assert table[1].startswith("albedo/A1  finished before")
