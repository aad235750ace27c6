from __future__ import annotations

import json
import re
from pathlib import Path

import optuna
import pytest
import yaml

from pbrlib.errors import ConfigError
from pbrlib.sweep.ranking import chosen, front_of, origin, ranked
from pbrlib.sweep.results import write_results
from pbrlib.sweep.searchfile import load_search
from pbrlib.sweep.study import STUDY, Outcome, SweepStudy
from tests.sweep.sweeps import GAMMA, MIOU, begin, write_search

STONE = "val/all/segmentation/iou/stone"


def finish(study: SweepStudy, *values: float, repeat: int = 0, number: int | None = None) -> int:
    """Record one repeat with these values, of a new configuration if no number is given."""
    if number is None:
        configuration = study.ask()
        assert configuration is not None
        number = configuration.number
    study.end(number, repeat=repeat, outcome=Outcome("finished", values=values))
    return number


def test_a_study_opened_again_keeps_what_is_finished_and_hands_out_what_was_running(tmp_path: Path) -> None:
    study, _ = begin(tmp_path)
    finish(study, 0.5)
    running = study.ask()
    again, _ = begin(tmp_path)
    assert [one.state for one in again.configurations()] == ["finished", "running"]
    assert again.unfinished() == [running]
    last = again.ask()
    assert last is not None and again.ask() is None, "three in all"


def test_an_interruption_does_not_change_what_is_drawn(tmp_path: Path) -> None:
    whole, _ = begin(tmp_path / "whole")
    drawn = [whole.ask() for _ in range(3)]
    parts = []
    for _ in range(3):
        study, _ = begin(tmp_path / "parts")
        parts.append(study.ask())
    assert parts == drawn
    assert len({one.params[GAMMA] for one in drawn if one is not None}) == 3


def test_more_trials_may_be_asked_of_a_sweep_and_other_searches_are_refused(tmp_path: Path) -> None:
    study, _ = begin(tmp_path)
    for _ in range(3):
        finish(study, 0.5)
    longer, _ = begin(tmp_path, num_trials=4)
    assert longer.ask() is not None
    with pytest.raises(ConfigError, match="got a sweep of gamma with other search"):
        begin(tmp_path, space={GAMMA: {"kind": "uniform", "low": 0.5, "high": 3.0}})


def test_a_grid_is_visited_whole_and_once(tmp_path: Path) -> None:
    grid = {
        GAMMA: {"kind": "grid", "values": [1.0, 2.0]},
        "phases.S0.optimizer.lr": {"kind": "grid", "values": [1e-3, 2e-3]},
    }
    seen = []
    for _ in range(5):
        study, _ = begin(tmp_path, space=grid, sampler={"kind": "grid"}, num_trials=None)
        if (one := study.ask()) is not None:
            seen.append(tuple(one.params.values()))
    assert seen == [(1.0, 1e-3), (1.0, 2e-3), (2.0, 1e-3), (2.0, 2e-3)]


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_every_sampler_stays_within_every_distribution(tmp_path: Path, sampler: str) -> None:
    space = {
        GAMMA: {"kind": "quniform", "low": 0.5, "high": 2.0, "step": 0.5},
        "phases.S0.optimizer.lr": {"kind": "loguniform", "low": 1e-4, "high": 1e-2},
        "phases.S0.batch": {"kind": "randint", "low": 2, "high": 4},
        "phases.S0.augment.flip": {"kind": "choice", "values": [True, False]},
    }
    study, search = begin(tmp_path, space=space, sampler={"kind": sampler}, num_trials=15)
    while (one := study.ask()) is not None:
        gamma, lr, batch, flip = one.params.values()
        assert isinstance(lr, float) and 1e-4 <= lr <= 1e-2 and isinstance(flip, bool)
        assert gamma in (0.5, 1.0, 1.5, 2.0) and batch in (2, 3, 4)
        phase = search.trial(one.params).phases["S0"]
        assert (phase.optimizer.lr, phase.batch, phase.augment.flip) == (lr, batch, flip)
        study.end(one.number, repeat=0, outcome=Outcome("finished", values=(gamma,)))


def test_tpe_learns_where_the_objective_is_good(tmp_path: Path) -> None:
    study, _ = begin(tmp_path, sampler={"kind": "tpe", "startup": 8}, num_trials=30)
    drawn = []
    while (one := study.ask()) is not None:
        gamma = float(one.params[GAMMA])  # type: ignore[arg-type]
        drawn.append(abs(gamma - 3.0))
        study.end(one.number, repeat=0, outcome=Outcome("finished", values=(-abs(gamma - 3.0),)))
    assert sum(drawn[-10:]) < sum(drawn[:10]) / 2


def test_asha_stops_the_worse_half_and_a_resumed_study_remembers_its_rungs(tmp_path: Path) -> None:
    asha = {"grace": 1, "reduction": 2}
    study, _ = begin(tmp_path, asha=asha)
    good, bad = study.ask(), study.ask()
    assert good is not None and bad is not None
    assert not study.should_stop(good.number, value=0.9, validation=1)
    again, _ = begin(tmp_path, asha=asha)
    assert again.should_stop(bad.number, value=0.1, validation=1)
    again.end(bad.number, repeat=0, outcome=Outcome("stopped", values=(0.1,)))
    assert again.study.trials[bad.number].state is optuna.trial.TrialState.PRUNED


def test_repeats_rank_by_their_mean_with_its_interval(tmp_path: Path) -> None:
    study, search = begin(tmp_path, repeats=3)
    for values in ([0.5, 0.5, 0.5], [0.9, 0.1, 0.2], [0.6, 0.6, 0.7]):
        number = finish(study, values[0])
        assert study.configurations()[number].state == "running"
        for repeat in (1, 2):
            finish(study, values[repeat], repeat=repeat, number=number)
    assert [one.number for one in ranked(study)] == [2, 0, 1]
    write_results(study, search)
    assert "0.6333 (0.4899 to 0.7768)" in (study.folder / "report.html").read_text()


def test_a_failed_trial_is_last_with_its_reason_and_the_others_continue(tmp_path: Path) -> None:
    study, search = begin(tmp_path)
    first = study.ask()
    assert first is not None
    study.end(first.number, repeat=0, outcome=Outcome("failed", reason="the loss is not finite"))
    finish(study, 0.2)
    assert [one.state for one in ranked(study)] == ["finished", "failed"]
    write_results(study, search)
    assert "the loss is not finite" in (study.folder / "report.html").read_text()


def test_the_front_holds_what_nothing_beats_in_every_objective(tmp_path: Path) -> None:
    objectives = [{"metric": MIOU, "mode": "max"}, {"metric": STONE, "mode": "min"}]
    study, _ = begin(tmp_path, objectives=objectives)
    for pair in ((0.5, 0.5), (0.4, 0.6), (0.3, 0.1)):
        finish(study, *pair)
    assert {one.number for one in front_of(study)} == {0, 2}
    assert [one.number for one in ranked(study)] == [0, 2, 1]
    assert chosen(study, number=1).params == study.configurations()[1].params


def test_the_best_is_written_as_the_overrides_that_differ(tmp_path: Path) -> None:
    space = {
        GAMMA: {"kind": "grid", "values": [1.0]},
        "phases.S0.optimizer.lr": {"kind": "grid", "values": [2e-3]},
    }
    study, search = begin(tmp_path, space=space, sampler={"kind": "grid"}, num_trials=None)
    finish(study, 0.5)
    write_results(study, search)
    text = (study.folder / "best.yaml").read_text()
    assert yaml.safe_load(text) == {"phases.S0.optimizer.lr": 2e-3}, "gamma is 1.0 already"
    assert text.startswith(f"# gamma, trial 0 of sweep: {MIOU} 0.5\n")


def test_where_values_come_from_names_the_overrides_of_the_sweep(tmp_path: Path) -> None:
    search = load_search(write_search(tmp_path), overrides=["phases.S0.epochs=2"])
    study = SweepStudy.begin(tmp_path / "sweep", search, about={"shards": "x"})
    finish(study, 0.5)
    again = SweepStudy.open(tmp_path / "sweep")
    said = origin(again, chosen(again, number=None), sweep=again.folder)
    assert said == f"gamma, trial 0 (baseline) of sweep with phases.S0.epochs=2: {MIOU} 0.5"


def test_the_page_needs_no_network_and_has_optunas_pictures(tmp_path: Path) -> None:
    study, search = begin(tmp_path)
    for value in (0.1, 0.2, 0.3):
        finish(study, value)
    write_results(study, search)
    text = (study.folder / "report.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)
    assert re.findall("<h2>(.*?): ", text) == ["History", "Importance", "Parallel coordinates"]
    for doubled in ("Hyperparameter Importances", "Parallel Coordinate Plot", "Optimization History Plot"):
        assert doubled not in text, "a heading stands once"
    assert '"plot_bgcolor":"#c9b18f"' in text, "the palest line stands out"
    assert '"text":"trial 0 (baseline)"' in text, "the history has a line at the baseline"
    assert text.count('class="plotly-graph-div"') == 3 and text.count("plotly.js v") == 1
    order = json.loads((study.folder / "trials.json").read_text())
    assert [one["number"] for one in order] == [2, 1, 0]


def test_of_several_objectives_each_has_pictures_and_the_front_is_named(tmp_path: Path) -> None:
    objectives = [{"metric": MIOU, "mode": "max"}, {"metric": STONE, "mode": "min"}]
    study, search = begin(tmp_path, objectives=objectives)
    for pair in ((0.5, 0.5), (0.4, 0.6), (0.3, 0.1)):
        finish(study, *pair)
    write_results(study, search)
    text = (study.folder / "report.html").read_text()
    assert text.count('class="plotly-graph-div"') == 6 and "Places 1 to 2 are on the Pareto front" in text
    assert "gamma" in text and GAMMA not in text.split("<h2>", 1)[1], "axes have room for short names alone"


def test_optuna_itself_opens_the_study(tmp_path: Path) -> None:
    study, _ = begin(tmp_path)
    finish(study, 0.25)
    opened = optuna.load_study(study_name="gamma", storage=f"sqlite:///{study.folder / STUDY}")
    assert opened.best_value == 0.25
    assert opened.metric_names == [MIOU]


def test_without_a_finished_trial_there_is_no_best(tmp_path: Path) -> None:
    study, _ = begin(tmp_path)
    with pytest.raises(ConfigError, match="got no finished trial"):
        chosen(study, number=None)
    with pytest.raises(ConfigError, match="got a folder without a sweep"):
        SweepStudy.open(tmp_path)


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_the_first_trial_is_the_curriculum_as_it_is_and_is_marked(tmp_path: Path, sampler: str) -> None:
    study, search = begin(tmp_path, sampler={"kind": sampler})
    first, second = study.ask(), study.ask()
    assert first is not None and second is not None
    assert (first.number, first.params, first.is_baseline) == (0, {GAMMA: 1.0}, True)
    assert search.trial(first.params) == search.curriculum
    assert not second.is_baseline
    again, _ = begin(tmp_path, sampler={"kind": sampler})
    assert [one.is_baseline for one in again.configurations()] == [True, False]
    third = again.ask()
    assert third is not None and not third.is_baseline, "a resumed sweep has one baseline"
    for one, value in ((first, 0.3), (second, 0.2)):
        again.end(one.number, repeat=0, outcome=Outcome("finished", values=(value,)))
    write_results(again, search)
    assert "<td>0 (baseline)</td>" in (again.folder / "report.html").read_text()
    assert [one["is_baseline"] for one in json.loads((again.folder / "trials.json").read_text())][:2] == [
        True,
        False,
    ]
    assert yaml.safe_load((again.folder / "best.yaml").read_text()) == {}


def test_a_grid_begins_with_the_curriculum_as_it_is_where_it_holds_it(tmp_path: Path) -> None:
    grid = {GAMMA: {"kind": "grid", "values": [2.0, 1.0, 3.0]}}
    study, _ = begin(tmp_path, space=grid, sampler={"kind": "grid"}, num_trials=None)
    seen = []
    while (one := study.ask()) is not None:
        seen.append((one.params[GAMMA], one.is_baseline))
    assert seen == [(1.0, True), (2.0, False), (3.0, False)]


def test_a_present_value_outside_of_the_space_is_no_trial(tmp_path: Path) -> None:
    study, _ = begin(tmp_path, space={GAMMA: {"kind": "uniform", "low": 1.5, "high": 4.0}})
    first = study.ask()
    assert first is not None and not first.is_baseline


def test_a_page_of_asha_draws_the_curves_of_its_trials(tmp_path: Path) -> None:
    study, search = begin(tmp_path, asha={"grace": 1, "reduction": 2})
    for value in (0.3, 0.2):
        one = study.ask()
        assert one is not None
        for validation in (1, 2):
            study.should_stop(one.number, value=value * validation, validation=validation)
        study.end(one.number, repeat=0, outcome=Outcome("finished", values=(value,)))
    write_results(study, search)
    text = (study.folder / "report.html").read_text()
    assert "<h2>Curves by validation: " in text and "Intermediate Values Plot" not in text
