"""Tests that an untrusted record of a run is read as declared or gives a single error."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.errors import CheckpointError
from pbrlib.train.checkpoint.state import Validated
from pbrlib.train.record.rundirectory import RECORD, FinishedPhase, RunDirectory
from tests.hostile import JSON

DONE = FinishedPhase(
    "f" * 64, "A1-ffffffff/checkpoint_00000004", 4, {"l1": 0.25}, 12.5, (Validated(4, {"l1": 0.25}),)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = RunDirectory(tmp_path_factory.mktemp("runs"), name="albedo")
    run.path.mkdir()
    return run


@given(st.sampled_from(sorted(asdict(DONE))), JSON)
def test_a_record_with_any_value_in_a_field_gives_a_checkpoint_or_an_error_that_names_it(
    run: RunDirectory, name: str, value: object
) -> None:
    (run.path / RECORD).write_text(json.dumps({"phases": {"A1": {**asdict(DONE), name: value}}}))
    with pytest.raises(CheckpointError, match=rf"\(phases\.A1\.{name}[.:]|: the best .* of A1 is gone"):
        run.best()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5", "not subscriptable"),
        ("{}", "'phases'"),
        ('{"phases": []}', "phases: Input should be an object"),
        ('{"phases": {"A1": 5}}', r"phases\.A1: Input should be an object"),
        ('{"phases": {"A1": {"step": 4}}}', r"phases\.A1\.fingerprint: "),
        (json.dumps({"phases": {"A1": {**asdict(DONE), "more": 1}}}), r"phases\.A1\.more: Unexpected"),
        ("[" * 100_000, "recursion"),
        ("\0", "Expecting value"),
    ],
)
def test_other_content_than_a_record_is_an_error_with_advice(
    run: RunDirectory, text: str, words: str
) -> None:
    (run.path / RECORD).write_text(text)
    with pytest.raises(CheckpointError, match=rf"{RECORD}: not a record of a run \(.*{words}.*\)\. Remove"):
        run.phases()


def test_a_record_is_read_as_it_was_written(run: RunDirectory) -> None:
    (run.path / RECORD).unlink(missing_ok=True)
    last = Validated(1, {"val/all/mask/iou": float("inf"), "val/all/mask/f1": 1})
    done = FinishedPhase("f", "A1-f/c", 1, last.metrics, 2, (last,), "plateau", {"passed": True})
    run.finish("A1", done, order=("A1",))
    assert run.phases() == {"A1": done}
