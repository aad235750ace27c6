from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pbrlib.errors import ConfigError
from pbrlib.sweep.searchfile import check_search, load_search
from pbrlib.train.runtimespec import RuntimeSpec
from tests.curriculum.conftest import row
from tests.sweep.sweeps import GAMMA, MIOU, write_search

SEARCHES = sorted(Path("configs/search").rglob("*.yaml"))
UNIFORM = {"kind": "uniform", "low": 0.1, "high": 0.9}
GRID = {"kind": "grid", "values": [1.0, 2.0]}


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_search(write_search(folder, **changes))
    return str(caught.value)


@pytest.mark.parametrize("file", SEARCHES, ids=lambda file: str(file.relative_to("configs/search")))
def test_shipped_searches_can_be_run(file: Path) -> None:
    search = load_search(file)
    assert search.spec.phase in search.curriculum.phases
    trials = [search.trial(params) for params in search.spec.corners()]
    assert any(trial != search.curriculum for trial in trials)


def test_every_shipped_search_has_a_smoke_twin() -> None:
    shipped = Path("configs/search")
    assert {file.name for file in shipped.glob("*.yaml")} == {
        file.name for file in (shipped / "smoke").glob("*.yaml")
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"phase": "S9"}, "phase: got 'S9'; expected a phase of segformer. Known: S0."),
        (
            {"objectives": [{"metric": "train/loss", "mode": "min"}]},
            "which depends on the searched loss weights",
        ),
        ({"objectives": [{"metric": "val/all/segmentation/mio", "mode": "max"}]}, f"Did you mean `{MIOU}`"),
        ({"objectives": [{"metric": MIOU, "mode": "max"}] * 2}, "objectives: got a metric twice"),
        ({"space": {"seed": {"kind": "randint", "low": 0, "high": 9}}}, "the best seed is chance"),
        (
            {"space": {"task.merge": {"kind": "choice", "values": ["a"]}}},
            "which classes the objective counts",
        ),
        (
            {"space": {"phases.S1.crop": {"kind": "choice", "values": [64]}}},
            "expected one of S0, which the sweep trains",
        ),
        ({"space": {"phases.S0.select.metric": {"kind": "choice", "values": [MIOU]}}}, "cannot be searched"),
        ({"space": {GAMMA: UNIFORM, f"{GAMMA}.stone": UNIFORM}}, f"got an address within {GAMMA}"),
        ({"space": {GAMMA: {**UNIFORM, "low": 2.0}}}, "got 2 to 0.9; expected low < high."),
        ({"space": {GAMMA: {**UNIFORM, "kind": "quniform", "step": 0.3}}}, "Set 0.7."),
        ({"space": {GAMMA: {**UNIFORM, "low": -1.0}}}, f"space.{GAMMA}: -1.0: phases.S0.loss.focal.gamma"),
        ({"space": {"phases.S0.optimiser.lr": UNIFORM}}, "unknown key"),
        ({"space": {GAMMA: GRID}}, "Write kind: choice, or sampler: {kind: grid}"),
        ({"sampler": {"kind": "grid"}}, "got kind: uniform; expected kind: grid"),
        (
            {"sampler": {"kind": "grid"}, "space": {GAMMA: GRID}},
            "got 3; expected at most 2, the size of the grid",
        ),
        ({"num_trials": None}, "Set the number of configurations."),
        ({"asha": {}, "repeats": 2}, "a mean needs all"),
        (
            {
                "asha": {},
                "objectives": [
                    {"metric": MIOU, "mode": "max"},
                    {"metric": MIOU.replace("miou", "iou/stone"), "mode": "max"},
                ],
            },
            "expected one objective",
        ),
        ({"curriculum": "gone.yaml"}, "which does not exist"),
        ({"sampler": {"kind": "bayes"}}, "got kind: bayes; expected a known kind"),
    ],
)
def test_a_search_that_cannot_work_is_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(tmp_path, **changes)


def test_all_mistakes_of_a_search_are_listed_at_once(tmp_path: Path) -> None:
    text = refusal(
        tmp_path,
        objectives=[{"metric": "train/loss", "mode": "min"}],
        space={"seed": UNIFORM, f"{GAMMA}.stone": UNIFORM, "phases.S7.crop": UNIFORM},
        num_trials=None,
    )
    assert text.startswith("4 mistakes in")
    assert all(
        place in text for place in ("objectives.0.metric", "space.seed", "space.phases.S7", "num_trials")
    )


def test_repeats_differ_in_the_seed_alone(tmp_path: Path) -> None:
    search = load_search(write_search(tmp_path, repeats=2), overrides=["seed=5"])
    first, second = (search.trial({GAMMA: 2.0}, repeat=repeat) for repeat in range(2))
    assert (first.seed, second.seed) == (5, 6)
    assert first.model_copy(update={"seed": 6}) == second
    assert first.phases["S0"].loss.focal is not None and first.phases["S0"].loss.focal.gamma == 2.0


def test_an_end_that_no_worker_could_run_is_found_before_anything_starts(tmp_path: Path) -> None:
    space = {"phases.S0.crop": {"kind": "choice", "values": [64, 100]}}
    search = load_search(write_search(tmp_path, space=space))
    with pytest.raises(ConfigError, match="got 100; expected a multiple of 32"):
        check_search(search, runtime=RuntimeSpec(), rows=[row("a"), row("b", split="val")])
