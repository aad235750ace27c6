"""The progress of a ladder: each phase through its states, as data and as a row."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.describe.overview import COLUMNS, LadderProgress, PhaseProgress, overview_of
from pbrlib.curriculum.ladder import Ladder, LadderEntry
from pbrlib.data.shards.index import IndexRow
from pbrlib.train.checkpoint.state import Validated
from pbrlib.train.record.rundirectory import FinishedPhase
from pbrlib.train.runtimespec import Selection
from tests.curriculum.conftest import ROUGHNESS, SEGFORMER

L1 = "val/all/albedo/l1"


def entry(mode: str = "min") -> PhaseProgress:
    selection = Selection.model_validate({"metric": L1, "mode": mode})
    return PhaseProgress("albedo", "A1", selection=selection, batch=10, total_steps=40)


def done(**values: object) -> FinishedPhase:
    known = {
        "fingerprint": "f" * 64,
        "checkpoint": "A1-ffffffff/checkpoint_00000020",
        "step": 20,
        "metrics": {L1: 0.25},
        "seconds": 75.0,
        "history": (Validated(20, {L1: 0.25}), Validated(40, {L1: 0.5})),
    }
    return FinishedPhase(**{**known, **values})


def step(number: int, left: float = 9.0) -> dict[str, object]:
    return {"kind": "step", "step": number, "seconds_left": left}


def validation(value: float) -> dict[str, object]:
    return {"kind": "validation", "step": 20, L1: value}


def test_a_phase_that_trains_shows_its_step_and_the_best_value_so_far() -> None:
    lines = [step(19), validation(0.3), step(21), validation(0.2), validation(0.4), validation(math.nan)]
    training = entry().started("f" * 64).with_journal(lines, seconds=61.0)
    assert (training.state, training.step, training.best) == ("training", 21, 0.2)
    assert training.row() == ("albedo/A1", "training", "all/albedo/l1 0.2000", "21/40", "1 min 01 s", "")
    assert entry("max").with_journal(lines, seconds=1.0).best == 0.4
    assert entry().with_journal([validation(math.nan)], seconds=1.0).best is None
    assert training.with_journal([], seconds=62.0).step == 21


def test_a_phase_that_starts_says_its_stage_and_forgets_what_an_attempt_before_it_estimated() -> None:
    started = entry().started("f" * 64)
    assert started.row()[1] == "starting"
    training = started.with_journal([step(19)], seconds=61.0)
    assert (training.row()[1], training.seconds_left, training.as_data()["stage"]) == ("training", 9.0, None)
    again = training.at_stage("building networks")
    assert (again.row()[1], again.seconds_left, again.state) == ("building networks", None, "training")
    assert again.as_data()["stage"] == "building networks"
    assert again.at_stage(None).row()[1] == "training"
    assert again.stopped("the disk is full").row()[1] == "stopped"
    assert again.finished(done(), before=False).row()[1] == "finished"


def test_a_step_without_an_estimate_has_no_time_left() -> None:
    line = {"kind": "step", "step": 1, "seconds_left": None}
    assert entry().started("f" * 64).with_journal([step(1), line], seconds=1.0).seconds_left is None


def test_a_finished_phase_has_the_figures_of_its_record() -> None:
    finished = entry().finished(done(), before=False)
    assert (finished.state, finished.step, finished.best, finished.seconds_left) == (
        "finished",
        40,
        0.25,
        None,
    )
    row = (
        "albedo/A1",
        "finished",
        "all/albedo/l1 0.2500",
        "40/40",
        "1 min 15 s",
        "A1-ffffffff/checkpoint_00000020",
    )
    assert finished.row() == row
    assert finished.checkpoint == "albedo/A1-ffffffff/checkpoint_00000020"
    assert entry().finished(done(), before=True).state == "finished before"


@pytest.mark.parametrize(
    ("gate", "word", "state"),
    [
        (None, None, "finished"),
        ({"passed": True, "forced": None}, "passed", "finished"),
        ({"passed": False, "forced": "toy data"}, "forced", "finished, gate forced"),
        ({"passed": False, "forced": None}, "closed", "finished, gate not passed"),
    ],
)
def test_a_row_shows_the_verdict_of_a_gate_that_did_not_pass(
    gate: dict[str, object] | None, word: str | None, state: str
) -> None:
    finished = entry().finished(done(gate=gate), before=False)
    assert finished.gate == word
    assert finished.row()[1] == state


def test_a_stopped_phase_keeps_its_metrics_and_shows_its_error() -> None:
    stopped = entry().started("f" * 64).with_journal([step(7)], seconds=3.0).stopped("the loss is not finite")
    assert (stopped.state, stopped.step, stopped.error) == ("stopped", 7, "the loss is not finite")
    assert stopped.row()[4] == "3 s"


def test_the_share_counts_samples_and_a_finished_phase_as_whole() -> None:
    long = entry()
    short = PhaseProgress("ao", "P0", selection=long.selection, batch=30, total_steps=20)
    overview = LadderProgress((("albedo",), ("ao",)), (long, short))
    assert overview.share == 0.0
    early = long.finished(done(history=(Validated(20, {L1: 0.25}),), stopped="plateau"), before=False)
    assert overview.with_phase(early).share == 0.4
    assert overview.with_phase(early).with_phase(short.with_journal([step(10)], seconds=1.0)).share == 0.7
    now = overview.started + timedelta(seconds=90)
    assert overview.with_phase(early).sentence(now) == "1 of 2 phases, 40 % of all samples, 1 min 30 s"


def test_a_command_has_finished_only_when_all_phases_have() -> None:
    first, second = entry(), PhaseProgress("ao", "P0", selection=entry().selection, batch=1, total_steps=1)
    overview = LadderProgress((("albedo", "ao"),), (first, second))
    half = overview.with_phase(first.finished(done(), before=True)).with_phase(second.started("e" * 64))
    assert half.state == "training"
    stopped = half.end("interrupted")
    assert stopped.state == "stopped"
    assert [entry.state for entry in stopped.phases] == ["finished before", "stopped"]
    assert stopped.phase("ao", "P0").error == "interrupted"
    assert half.with_phase(second.finished(done(), before=False)).end().state == "finished"


def test_the_data_is_json_even_where_a_figure_is_not_a_number() -> None:
    wild = entry().finished(done(metrics={L1: math.nan}), before=False)
    overview = LadderProgress((("albedo",),), (wild,), host="here", pid=7)
    data = overview.as_data(datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["phases"][0]["best"] is None
    assert (data["host"], data["pid"], data["updated"]) == ("here", 7, "2030-01-02T03:04:05Z")


def test_an_overview_begins_with_every_phase_waiting_and_its_steps_counted(rows: Sequence[IndexRow]) -> None:
    entries = [LadderEntry(Path("x.yaml"), parse_curriculum(text)) for text in (SEGFORMER, ROUGHNESS)]
    ladder = Ladder(tuple((entry,) for entry in entries))
    overview = overview_of(ladder, phases={"segformer": ("S1",), "roughness": ("M0",)}, rows=rows)
    assert [entry.name for entry in overview.phases] == ["segformer/S1", "roughness/M0"]
    # Three textures to train on: one batch an epoch.
    assert [entry.total_steps for entry in overview.phases] == [1, 2]
    assert {entry.state for entry in overview.phases} == {"waiting"}
    assert overview.waves == (("segformer",), ("roughness",))
    assert all(len(entry.row()) == len(COLUMNS) for entry in overview.phases)
