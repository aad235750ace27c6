from __future__ import annotations

import io
import json
from typing import Any

from rich.console import Console

from pbrlib.rehearsal.checks import Check
from pbrlib.rehearsal.estimate import estimate, total_estimate
from pbrlib.rehearsal.ladder import PhaseRehearsal
from pbrlib.rehearsal.measured import Spread
from pbrlib.rehearsal.table import WIDTH, Rehearsal, render
from tests.rehearsal.made import MB, figures, length

GOOD = Check("free space", "50 GB", "9.0 GB")
BAD = Check("/dev/shm", "64 MB on worker-1", "1.0 GB, the object store", "failed", "Give it more.")


def phase(name: str, **changes: Any) -> PhaseRehearsal:
    found = figures(**changes)
    return PhaseRehearsal(length(name), 1024, found, estimate(length(name), found))


def rehearsal(*phases: PhaseRehearsal, checks: tuple[Check, ...] = (GOOD,), **changes: Any) -> Rehearsal:
    estimates: dict[str, Any] = {}
    for one in phases:
        estimates.setdefault(one.length.curriculum, {})[one.length.phase] = one.estimate
    given: dict[str, Any] = {
        "checks": checks,
        "phases": phases,
        "whole": total_estimate([[name] for name in estimates], estimates, workers=2, room=1),
        "workers": 2,
        "room": 1,
        "seconds": 300.0,
        "device": "cpu",
        "writes_model": True,
    }
    return Rehearsal(**{**given, **changes})


def page(found: Rehearsal) -> str:
    out = io.StringIO()
    Console(file=out, width=WIDTH, highlight=False).print(render(found))
    return out.getvalue()


def test_the_page_fits_and_holds_every_figure_of_a_phase() -> None:
    # The widest names and figures of the recipe.
    widest = {
        "step": Spread(12.3, 11.0, 14.0),
        "first_step_s": 16.3,
        "validation_s": 123.0,
        "checkpoint_bytes": 904 * MB,
        "peak_bytes": 75_000 * MB,
        "donor": "albedo",
        "donor_tensors": (178, 240),
    }
    found = rehearsal(phase("segformer/S0"), phase("roughness/M0", **widest))
    text = page(found)
    assert max(map(len, text.splitlines())) <= WIDTH
    (line,) = [line for line in text.splitlines() if line.startswith("roughness/M0")]
    for cell in ("1024", "10", "1000", "12 s", "75 GB", "123 s", "904 MB", "20 s", "3 h 31 min", "1.8 GB"):
        assert f" {cell} " in line, cell
    assert line.rstrip().endswith("albedo, 178 of 240")
    assert "segformer/S0" in text and "fresh" in text
    assert not found.problems


def test_the_total_estimate_is_a_sentence_with_its_basis() -> None:
    text = " ".join(page(rehearsal(phase("albedo/A1"), phase("height/P0"))).split())
    assert "The training takes at most 18 min 20 s: 0.61 worker-hours" in text
    assert "differ by up to 20 %" in text and "from 4 of 40 textures" in text
    assert "the evaluation of RUNS/model" in text
    assert "2 of 2 phases resumed from their checkpoint" in text


def test_an_estimate_from_steps_of_less_than_a_second_is_called_imprecise() -> None:
    quick = phase("height/P0", step=Spread(0.05, 0.04, 0.06))
    text = " ".join(page(rehearsal(phase("albedo/A1"), quick)).split())
    assert (
        "Imprecise: in 1 of 2 phases, the steps after the first took less than one second in total." in text
    )
    assert "Imprecise" not in page(rehearsal(phase("albedo/A1"), phase("height/P0")))


def test_failures_have_their_reason_and_advice() -> None:
    lost = PhaseRehearsal(length("albedo/A2"), 512, error="phases.A2: no room. Set batch_per_device: 2.")
    unsaved = phase("height/P0", restored=False)
    found = rehearsal(phase("albedo/A1"), lost, unsaved, checks=(GOOD, BAD))
    text = page(found)
    assert found.problems == ["/dev/shm", "albedo/A2", "height/P0"]
    assert "albedo/A2: phases.A2: no room. Set batch_per_device: 2." in text
    assert "Not included: albedo/A2, which failed." in text
    assert "NOT RESTORED" in text and "1 of 3 phases resumed" in text
    assert "FAILED" in text and "/dev/shm: Give it more." in text


def test_input_that_is_slower_than_a_step_is_marked() -> None:
    text = page(rehearsal(phase("albedo/A1", input_s=2.0)))
    assert "0.5 s*" in text and "Set a larger data_cpus" in text


def test_the_same_as_data() -> None:
    data = json.loads(json.dumps(rehearsal(phase("albedo/A1"), checks=(GOOD, BAD)).as_data()))
    assert data["passed"] is False and data["problems"] == ["/dev/shm"]
    (one,) = data["phases"]
    assert one["estimate"]["seconds"] == 550.0
    assert one["figures"]["ranks"][0]["step_s"] == [4.0, 0.4, 0.5]
    assert data["whole"]["worker_hours"] == 2 * 550.0 / 3600
    assert [check["verdict"] for check in data["checks"]] == ["ok", "failed"]
