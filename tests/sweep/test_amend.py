from __future__ import annotations

from pathlib import Path

import pytest

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.errors import ConfigError
from pbrlib.sweep.amend import amend
from pbrlib.sweep.search import Params, overrides_of
from tests.conftest import SEGFORMER

REV7 = Path("configs/rev7/segformer.yaml")


def copied(folder: Path, text: str | None = None) -> Path:
    file = folder / "curriculum.yaml"
    file.write_text(REV7.read_text() if text is None else text)
    return file


@pytest.mark.parametrize(
    "params",
    [
        {"phases.S1.loss.focal.gamma.stone": 1.25},
        {"phases.S1.optimizer.layer_decay": 0.85, "phases.S1.grad_clip": 0.5},
        {
            "phases.S2.optimizer.groups.stem.match": "encoder.stages.0.*",
            "phases.S2.optimizer.groups.stem.lr": 1e-5,
        },
        {"phases.S3.loss.dice.weight": 0.3, "phases.S3.balance.sampler.exponent": 0.3},
        {"phases.S3.balance.sampler.floor": 0.1, "seed": 7},
        {"phases.S0.augment.flip": False, "phases.S0.plateau": None, "phases.S4.epochs": 9},
    ],
    ids=lambda params: next(iter(params)),
)
def test_an_amended_curriculum_is_the_one_that_the_overrides_make(tmp_path: Path, params: Params) -> None:
    file = copied(tmp_path)
    changed = amend(file, params, origin="gamma, trial 7")
    assert load_curriculum(file) == load_curriculum(REV7, overrides=overrides_of(params))
    assert set(changed) == set(params)


def test_comments_and_all_other_lines_stay_and_a_comment_says_where_values_come_from(tmp_path: Path) -> None:
    file = copied(tmp_path)
    amend(file, {"phases.S1.optimizer.layer_decay": 0.85}, origin="llrd, trial 3")
    before, after = REV7.read_text().splitlines(), file.read_text().splitlines()
    place = after.index("      # phases.S1.optimizer.layer_decay, was 0.9: llrd, trial 3")
    assert after[place + 1] == "      layer_decay: 0.85"
    assert after[:place] == before[:place] and after[place + 2 :] == before[place + 1 :]


def test_a_value_that_stands_already_changes_nothing(tmp_path: Path) -> None:
    file = copied(tmp_path)
    assert amend(file, {"phases.S1.optimizer.layer_decay": 0.9}, origin="x") == {}
    assert file.read_text() == REV7.read_text()


def test_an_anchored_value_is_replaced_where_it_stands_alone(tmp_path: Path) -> None:
    file = copied(tmp_path, SEGFORMER.replace("lr: 1.0e-3", "lr: &rate 1.0e-3, weight_decay: *rate"))
    amend(file, {"phases.S0.optimizer.lr": 2e-3}, origin="x")
    optimizer = load_curriculum(file).phases["S0"].optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (2e-3, 1e-3)


def test_a_curriculum_that_cannot_take_the_values_stays_as_it_is(tmp_path: Path) -> None:
    second = SEGFORMER.partition("  S0:")[2].replace("optimizer: {lr: 1.0e-3}", "optimizer: *rates")
    shared = SEGFORMER.replace("optimizer: {lr", "optimizer: &rates {lr") + f"  S1:{second}"
    file = copied(tmp_path, shared)
    with pytest.raises(ConfigError, match="by hand"):
        amend(file, {"phases.S0.optimizer.lr": 2e-3}, origin="x")
    with pytest.raises(ConfigError, match="got 'S9'; expected a phase"):
        amend(file, {"phases.S9.batch": 2}, origin="x")
    assert file.read_text() == shared
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_aliases_of_aliases_are_refused_before_they_are_written_out(tmp_path: Path) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    file = copied(tmp_path, bomb)
    with pytest.raises(ConfigError, match="aliases"):
        amend(file, {"phases.S0.batch": 2}, origin="x")
    assert file.read_text() == bomb


@pytest.mark.parametrize("file", sorted(Path("configs").glob("*/*.yaml")), ids=str)
def test_a_shipped_curriculum_comes_out_as_it_went_in_but_for_the_value(tmp_path: Path, file: Path) -> None:
    if not file.read_text().count("phases:"):
        return
    phase = next(iter(load_curriculum(file).phases))
    amended = copied(tmp_path, file.read_text())
    amend(amended, {f"phases.{phase}.grad_clip": 0.25}, origin="x")
    kept = [line for line in amended.read_text().splitlines() if "grad_clip" not in line]
    assert kept == [line for line in file.read_text().splitlines() if "grad_clip" not in line]
