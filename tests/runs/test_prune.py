"""Tests of pruning: which checkpoints are removed and which are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pbrlib.errors import DataError
from pbrlib.runs.prune import delete, plan_pruning
from pbrlib.train.record.rundirectory import RunDirectory
from ray_jobs.cli import main
from tests.runs.trees import NOW, albedo_of, declare, finish, phase, write_ladder

OLD, NEW, THIRD = "0" * 64, "1" * 64, "2" * 64
ERRORS = {2: 0.5, 4: 0.2, 6: 0.4, 8: 0.3}


def names(root: Path) -> set[str]:
    return {f"{path.parent.name[:4]}/{int(path.name[-8:])}" for path in root.glob("*/*/checkpoint_0*")}


@pytest.fixture
def pruned(tmp_path: Path) -> Callable[[], set[str]]:
    def act() -> set[str]:
        delete(plan_pruning(tmp_path, now=NOW))
        return names(tmp_path)

    return act


def trained(root: Path, *, fingerprint: str, age_s: float, **known: object) -> Path:
    """A finished phase A1 with four checkpoints, the second the best."""
    run = declare(root, albedo_of("A1"))
    folder = phase(run, "A1", fingerprint=fingerprint, errors=ERRORS, age_s=age_s)
    finish(run, folder, fingerprint=fingerprint, order=("A1",))
    return folder


def test_best_and_last_stay_and_nothing_goes_without_delete(tmp_path: Path) -> None:
    trained(tmp_path, fingerprint=NEW, age_s=3600)
    dry = CliRunner().invoke(main, ["runs", "prune", str(tmp_path)])
    assert dry.exit_code == 0, dry.output
    assert names(tmp_path) == {"A1-1/2", "A1-1/4", "A1-1/6", "A1-1/8"}
    assert "2 checkpoints" in dry.output
    assert "--delete removes them" in dry.output
    done = CliRunner().invoke(main, ["runs", "prune", str(tmp_path), "--delete"])
    assert done.exit_code == 0, done.output
    assert names(tmp_path) == {"A1-1/4", "A1-1/8"}
    assert RunDirectory(tmp_path, name="albedo").best()[0].name == "checkpoint_00000004"
    again = CliRunner().invoke(main, ["runs", "prune", str(tmp_path)])
    assert "0 checkpoints" in again.output


def test_a_superseded_phase_loses_its_checkpoints_and_keeps_its_journal(
    tmp_path: Path, pruned: Callable[[], set[str]]
) -> None:
    old = trained(tmp_path, fingerprint=OLD, age_s=7200)
    trained(tmp_path, fingerprint=NEW, age_s=3600)
    assert pruned() == {"A1-1/4", "A1-1/8"}
    assert (old / "metrics.jsonl").exists()


def test_a_superseded_donor_in_use_keeps_best_and_last(
    tmp_path: Path, pruned: Callable[[], set[str]]
) -> None:
    trained(tmp_path, fingerprint=OLD, age_s=7200)
    trained(tmp_path, fingerprint=NEW, age_s=3600)
    other = declare(tmp_path, albedo_of("M0", name="behind"))
    folder = phase(other, "M0", fingerprint=THIRD, errors={8: 0.1}, age_s=1800, frozen={"albedo": OLD})
    finish(other, folder, fingerprint=THIRD, order=("M0",))
    assert pruned() == {"A1-0/4", "A1-0/8", "A1-1/4", "A1-1/8", "M0-2/8"}


def test_a_checkpoint_that_a_curriculum_names_by_path_stays(
    tmp_path: Path, pruned: Callable[[], set[str]]
) -> None:
    folder = trained(tmp_path, fingerprint=NEW, age_s=3600)
    path = f"elsewhere/{folder.name}/checkpoint_00000006"
    declare(
        tmp_path,
        albedo_of("A1", name="child", **{"    epochs: 2": f"    starts_from: {path}\n    epochs: 2"}),
    )
    assert pruned() == {"A1-1/4", "A1-1/6", "A1-1/8"}


@pytest.mark.parametrize("content", ["{", "[]"])
@pytest.mark.parametrize("file", ["albedo/*/checkpoint_00000006/state.json", "model/model.json"])
def test_nothing_goes_while_a_file_that_may_name_donors_cannot_be_read(
    tmp_path: Path, file: str, content: str
) -> None:
    trained(tmp_path, fingerprint=OLD, age_s=7200)
    trained(tmp_path, fingerprint=NEW, age_s=3600)
    before = names(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    (broken, *_) = tmp_path.glob(file)
    broken.write_text(content)
    result = CliRunner().invoke(main, ["runs", "prune", str(tmp_path), "--delete"])
    assert isinstance(result.exception, DataError) or result.exit_code == 2
    assert names(tmp_path) == before


@pytest.mark.parametrize("how", ["ladder", "journal"])
def test_a_phase_that_trains_is_left_alone_and_so_is_what_it_may_have_begun_from(
    tmp_path: Path, pruned: Callable[[], set[str]], how: str
) -> None:
    trained(tmp_path, fingerprint=OLD, age_s=9000)
    trained(tmp_path, fingerprint=NEW, age_s=8000)
    other = declare(tmp_path, albedo_of("B1", name="other"))
    phase(other, "B1", fingerprint=THIRD, errors=ERRORS, age_s=7200 if how == "ladder" else 60)
    if how == "ladder":
        write_ladder(tmp_path, state="training", age_s=2, curriculum="other", phase="B1")
    every = {2, 4, 6, 8}
    expected = {f"{folder}/{step}" for folder in ("A1-0", "B1-2") for step in every}
    assert pruned() == expected | {"A1-1/4", "A1-1/8"}


def test_an_unfinished_phase_keeps_its_best_and_its_two_newest(
    tmp_path: Path, pruned: Callable[[], set[str]]
) -> None:
    run = declare(tmp_path, albedo_of("A1"))
    folder = phase(run, "A1", fingerprint=NEW, errors=ERRORS, age_s=7200, total=100)
    (folder / ".checkpoint-x").mkdir()
    (folder / "checkpoint_00000010").mkdir()
    assert pruned() == {"A1-1/4", "A1-1/6", "A1-1/8"}
    assert not (folder / ".checkpoint-x").exists()


def test_the_model_folder_and_a_link_are_not_touched(tmp_path: Path, pruned: Callable[[], set[str]]) -> None:
    folder = trained(tmp_path, fingerprint=NEW, age_s=3600)
    model = tmp_path / "model" / "checkpoint_00000001"
    model.mkdir(parents=True)
    (tmp_path / "model" / "model.json").write_text("{}")
    aside = tmp_path / "aside"
    (folder / "checkpoint_00000002").rename(aside)
    (folder / "checkpoint_00000002").symlink_to(aside)
    pruned()
    assert model.exists()
    assert aside.exists()


def test_what_a_link_leads_to_outside_of_the_directory_stays(tmp_path: Path) -> None:
    runs, outside = tmp_path / "runs", tmp_path / "outside"
    folder = trained(runs, fingerprint=NEW, age_s=3600)
    folder.rename(outside)
    folder.symlink_to(outside)
    plan = plan_pruning(runs, now=NOW)
    delete(plan)
    assert len(list(outside.glob("checkpoint_*"))) == 4
    assert plan.removed == () and any("it is a link" in item.reason for item in plan.kept)


def test_a_directory_that_is_itself_a_link_is_pruned(tmp_path: Path) -> None:
    trained(tmp_path / "runs", fingerprint=NEW, age_s=3600)
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    delete(plan_pruning(tmp_path / "link", now=NOW))
    assert names(tmp_path / "runs") == {"A1-1/4", "A1-1/8"}
