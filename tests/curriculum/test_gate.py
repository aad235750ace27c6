from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pbrlib.curriculum.check.curriculum import check
from pbrlib.curriculum.config.load import dump_yaml, parse_curriculum
from pbrlib.curriculum.describe.description import describe
from pbrlib.curriculum.describe.tables import render
from pbrlib.curriculum.gate import check_gates, compare_phases, evaluate_gate
from pbrlib.curriculum.spec import Curriculum, GateSpec
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import ConfigError, GateError
from pbrlib.train.checkpoint.state import Validated
from pbrlib.train.record.rundirectory import FinishedPhase, RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec
from tests.curriculum.conftest import ROUGHNESS, SEGFORMER
from tests.curriculum.test_fingerprint import prints

GATE = "gate: {ratios: {skyrim: 0.95, matsynth: 1.10}, window: 3}"
GATED = SEGFORMER.replace("    starts_from: S0\n", f"    starts_from: S0\n    {GATE}\n")
ORDER = ("S0", "S1")


def history(skyrim: list[float], matsynth: list[float]) -> tuple[Validated, ...]:
    """Validations with these errors, 1 - mIoU."""
    return tuple(
        Validated(
            step=step,
            metrics={"val/skyrim/segmentation/miou": 1 - s, "val/matsynth/segmentation/miou": 1 - m},
        )
        for step, (s, m) in enumerate(zip(skyrim, matsynth, strict=True), start=1)
    )


def finished(validations: tuple[Validated, ...], **changes: Any) -> FinishedPhase:
    return FinishedPhase("f", "S0-f/checkpoint", 1, {}, 0.0, history=validations, **changes)


@pytest.fixture
def curriculum() -> Curriculum:
    return parse_curriculum(GATED)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """S0 with an error of 0.5 on both sources, S1 as a test will have it."""
    run = RunDirectory(tmp_path, name="segformer")
    run.finish("S0", finished(history([0.9, 0.5, 0.5, 0.5], [0.9, 0.5, 0.5, 0.5])), order=ORDER)
    return run


def train(run: RunDirectory, *, skyrim: float, matsynth: float) -> None:
    """S1, whose last validations have these errors."""
    run.finish("S1", finished(history([9.0, skyrim], [9.0, matsynth])[1:]), order=ORDER)


@pytest.mark.parametrize(
    ("skyrim", "matsynth", "passes"),
    [(0.475, 0.55, True), (0.476, 0.5, False), (0.4, 0.551, False), (0.1, 0.549, True)],
)
def test_each_source_has_its_own_limit(
    curriculum: Curriculum, run: RunDirectory, skyrim: float, matsynth: float, passes: bool
) -> None:
    train(run, skyrim=skyrim, matsynth=matsynth)
    if passes:
        verdict = evaluate_gate(curriculum, "S1", run=run, force=None)
        assert verdict is not None
        assert verdict.passed
    else:
        with pytest.raises(GateError, match="did not pass its gate against S0"):
            evaluate_gate(curriculum, "S1", run=run, force=None)


def test_means_are_over_the_last_validations_of_each_phase() -> None:
    gate = GateSpec(ratios={"skyrim": 1.0}, window=3)
    task = parse_curriculum(SEGFORMER).task
    same = [0.0] * 5
    verdict = compare_phases(
        gate,
        task,
        against="S0",
        before=history([0.9, 0.9, 0.1, 0.2, 0.3], same),
        after=history([0.1, 0.2], same[:2]),
    )
    (figure,) = verdict.figures
    assert figure.before == pytest.approx(0.2)
    assert figure.after == pytest.approx(0.15), "fewer validations than the window: all of them"
    assert verdict.passed


def test_a_map_is_judged_by_its_l1() -> None:
    gate = GateSpec(ratios={"skyrim": 0.5}, window=1)
    before, after = (
        [Validated(1, {"val/skyrim/roughness/l1": l1, "val/skyrim/roughness/ssim": 0.9})]
        for l1 in (0.2, 0.1001)
    )
    verdict = compare_phases(gate, parse_curriculum(ROUGHNESS).task, against="M0", before=before, after=after)
    assert not verdict.passed
    assert verdict.error == "L1"


@pytest.mark.parametrize("value", [math.nan, None])
def test_what_was_not_measured_does_not_pass(value: float | None) -> None:
    gate = GateSpec(ratios={"skyrim": 2.0}, window=1)
    metrics = {} if value is None else {"val/skyrim/segmentation/miou": value}
    good = history([0.5], [0.5])
    task = parse_curriculum(SEGFORMER).task
    assert not compare_phases(gate, task, against="S0", before=good, after=[Validated(1, metrics)]).passed
    assert not compare_phases(gate, task, against="S0", before=[Validated(1, metrics)], after=good).passed


def test_a_closed_gate_names_figures_limits_and_the_ways_on(
    curriculum: Curriculum, run: RunDirectory
) -> None:
    train(run, skyrim=0.48, matsynth=0.3)
    with pytest.raises(GateError) as caught:
        evaluate_gate(curriculum, "S1", run=run, force=None)
    message = str(caught.value)
    assert "segformer/S1: did not pass its gate against S0." in message
    assert "1 - mIoU, mean of the last 3 validations: " in message
    assert "skyrim failed: got 0.48 after 0.5; expected at most 0.95 x = 0.475" in message
    assert "matsynth passed: got 0.3 after 0.5; expected at most 1.1 x = 0.55" in message
    assert '--force "REASON"' in message
    noted = run.phases()["S1"].gate
    assert noted is not None
    assert noted["passed"] is False
    assert noted["forced"] is None


def test_a_forced_gate_is_recorded_with_reason_and_figures_and_stays_open(
    curriculum: Curriculum, run: RunDirectory
) -> None:
    train(run, skyrim=0.6, matsynth=0.6)
    evaluate_gate(curriculum, "S1", run=run, force="one texture is broken")
    noted = run.phases()["S1"].gate
    assert noted is not None
    assert noted["forced"] == "one texture is broken"
    assert noted["against"] == "S0"
    assert noted["figures"][0] == pytest.approx(
        {"source": "skyrim", "before": 0.5, "after": 0.6, "limit": 0.475, "passed": False}
    )
    again = evaluate_gate(curriculum, "S1", run=run, force=None)
    assert again is not None
    assert again.forced == "one texture is broken"
    # A retrained phase is not forced any more.
    train(run, skyrim=0.6, matsynth=0.6)
    with pytest.raises(GateError):
        evaluate_gate(curriculum, "S1", run=run, force=None)


def test_a_reason_is_not_recorded_where_nothing_was_forced(curriculum: Curriculum, run: RunDirectory) -> None:
    train(run, skyrim=0.1, matsynth=0.1)
    verdict = evaluate_gate(curriculum, "S1", run=run, force="in a hurry")
    assert verdict is not None
    assert verdict.forced is None


def test_a_loosened_gate_lets_through_what_it_had_stopped(curriculum: Curriculum, run: RunDirectory) -> None:
    train(run, skyrim=0.48, matsynth=0.3)
    with pytest.raises(GateError):
        evaluate_gate(curriculum, "S1", run=run, force=None)
    loose = parse_curriculum(GATED.replace("skyrim: 0.95", "skyrim: 0.99"))
    assert prints(GATED.replace("skyrim: 0.95", "skyrim: 0.99")) == prints(GATED), "nothing is trained again"
    assert evaluate_gate(loose, "S1", run=run, force=None)


def test_a_later_phase_does_not_begin_behind_a_closed_gate(run: RunDirectory) -> None:
    third = GATED[GATED.index("  S1:") :].replace("S1:", "S2:").replace(f"    {GATE}\n", "")
    longer = parse_curriculum(GATED + third)
    train(run, skyrim=0.6, matsynth=0.6)
    with pytest.raises(GateError, match="segformer/S1: did not pass"):
        check_gates(longer, "S2", run=run, force=None)
    check_gates(longer, "S1", run=run, force=None)
    check_gates(longer, "S2", run=run, force="known")


def test_a_gate_without_the_figures_of_the_earlier_phase_stops_before_training(
    curriculum: Curriculum, tmp_path: Path
) -> None:
    empty = RunDirectory(tmp_path, name="segformer")
    with pytest.raises(GateError, match=r"got no validations of S0 in .*run\.json; expected some"):
        check_gates(curriculum, "S1", run=empty, force=None)
    check_gates(curriculum, "S0", run=empty, force=None)


def complaint(text: str, **context: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check(parse_curriculum(text), place="file.yaml", **context)
    return str(caught.value)


def test_a_source_that_is_not_validated_is_found_up_front(rows: list[IndexRow]) -> None:
    message = complaint(GATED, rows=rows)
    assert "phases.S1.gate.ratios.skyrim: got no material of matsynth, skyrim;" in message
    trained = [replace(row, source="skyrim", split="train", id=f"{row.id}2") for row in rows]
    message = complaint(GATED, rows=[*rows, *trained])
    assert "phases.S1.gate.ratios.skyrim: got skyrim, without validation textures" in message
    assert "Known: generated." in message
    check(parse_curriculum(GATED), place="file.yaml")
    check(
        parse_curriculum(GATED.replace("skyrim: 0.95, matsynth: 1.10", "generated: 1.0")),
        place="file.yaml",
        rows=rows,
    )


def test_a_gate_compares_with_the_phase_before(rows: list[IndexRow]) -> None:
    first = SEGFORMER.replace("batch: 8", f"batch: 8\n    {GATE}")
    assert "phases.S0.gate: got a gate in the first phase" in complaint(first)
    onward = GATED.replace("window: 3", "window: 3, against: S1")
    assert "phases.S1.gate.against: got 'S1'; expected an earlier phase." in complaint(onward)
    check(parse_curriculum(GATED.replace("window: 3", "window: 3, against: S0")), place="file.yaml")


def test_gates_and_plateaus_survive_the_resolved_file() -> None:
    text = GATED.replace("batch: 4", "batch: 4\n    plateau: 4")
    assert parse_curriculum(dump_yaml(parse_curriculum(text))) == parse_curriculum(text)
    # A gate changes nothing of what is learned, a plateau may.
    assert prints(GATED) == prints(SEGFORMER)
    assert prints(text)["S1"] != prints(GATED)["S1"]
    assert "gate" not in dump_yaml(parse_curriculum(SEGFORMER))


def test_a_plan_shows_gates_and_plateaus() -> None:
    text = GATED.replace("batch: 4", "batch: 4\n    plateau: 4")
    described = describe(parse_curriculum(text), runtime=RuntimeSpec())
    assert described["phases"]["S0"]["gate"] is None
    assert described["phases"]["S1"]["gate"] == {
        "against": "S0",
        "ratios": {"skyrim": 0.95, "matsynth": 1.10},
        "window": 3,
    }
    console = Console(width=120, highlight=False)
    with console.capture() as capture:
        console.print(render(described))
    shown = capture.get()
    assert "against S0: skyrim at most 0.95 x, matsynth at most 1.1 x" in shown
    assert "ends after 4 epochs without improvement" in shown
