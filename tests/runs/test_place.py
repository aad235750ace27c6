"""A runs directory, a run, a phase's folder: each is taken wherever one follows from the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pbrlib.errors import ConfigError, DataError
from pbrlib.inference.modelfile import FILE_NAME
from pbrlib.runs.place import locate, networks_at, run_at
from ray_jobs.cli import main
from tests.runs.trees import albedo_of, declare, finish, phase

ERRORS = {4: 0.5, 8: 0.4, 12: 0.6}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    trained(declare(tmp_path / "runs", albedo_of("A1")), fingerprint="a" * 64)
    return tmp_path / "runs"


@pytest.fixture
def two(runs: Path) -> Path:
    trained(declare(runs, albedo_of("A1", name="other")), fingerprint="b" * 64)
    return runs


def trained(run: Path, *, fingerprint: str) -> None:
    """A finished phase A1 with three checkpoints, of which the second is the best and the first may go."""
    folder = phase(run, "A1", fingerprint=fingerprint, errors=ERRORS, age_s=1e6)
    finish(run, folder, fingerprint=fingerprint, order=("A1",))


def folder_of(run: Path) -> Path:
    (folder,) = run.glob("A1-*")
    return folder


def pbr(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_a_run_follows_from_its_directory_its_phase_and_what_lies_in_it(runs: Path) -> None:
    run = runs / "albedo"
    checkpoint = next(folder_of(run).glob("checkpoint_*"))
    for place in (runs, run, folder_of(run), checkpoint):
        assert run_at(place, usage="pbr report").resolve() == run
    assert locate(checkpoint).phase == "A1"
    assert locate(run).phase is None


def test_the_runs_directory_follows_from_a_run_and_a_phase(runs: Path) -> None:
    run = runs / "albedo"
    assert {networks_at(place) for place in (runs, run, folder_of(run))} == {runs}
    model = runs / "model"
    model.mkdir()
    (model / FILE_NAME).write_text("{}")
    assert networks_at(model) == model


def test_a_relative_path_is_resolved_like_an_absolute_one(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder_of(runs / "albedo"))
    assert run_at(Path(), usage="pbr report") == runs / "albedo"
    monkeypatch.chdir(runs / "albedo")
    assert networks_at(Path()) == runs


def test_several_runs_are_named_with_a_command_that_works(two: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run_at(two, usage="pbr report")
    assert str(caught.value) == (
        f"{two}: got 2 runs (albedo, other); expected one. Give one, as in `pbr report {two}/albedo`."
    )


def test_a_folder_that_is_not_there_is_answered_with_the_nearest_name(runs: Path) -> None:
    with pytest.raises(DataError, match=f"Did you mean {runs}/albedo"):
        locate(runs / "abledo")
    (runs / "empty").mkdir()
    with pytest.raises(DataError, match="got a folder without runs"):
        run_at(runs / "empty", usage="pbr report")


@pytest.mark.parametrize("command", [("runs", "show"), ("runs", "list"), ("runs",), ("report",)])
def test_a_command_takes_each_of_the_three(runs: Path, command: tuple[str, ...]) -> None:
    run = runs / "albedo"
    for place in (runs, run, folder_of(run)):
        found = pbr(*command, place)
        assert found.exit_code == 0, found.output
        assert "albedo" in found.output


def test_prune_of_a_run_or_a_phase_leaves_the_other_runs_alone(two: Path) -> None:
    every = {folder: sorted(folder.glob("checkpoint_*")) for folder in map(folder_of, two.iterdir())}
    found = pbr("runs", "prune", folder_of(two / "albedo"), "--delete")
    assert found.exit_code == 0, found.output
    left = {folder: sorted(folder.glob("checkpoint_*")) for folder in every}
    own, other = folder_of(two / "albedo"), folder_of(two / "other")
    assert len(left[own]) < len(every[own])
    assert left[other] == every[other]
    pbr("runs", "prune", two, "--delete")
    assert len(sorted(other.glob("checkpoint_*"))) < len(every[other])
