from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.sweep.results import write_results
from pbrlib.sweep.study import Outcome
from ray_jobs.cli import main
from tests.conftest import ALBEDO
from tests.sweep.sweeps import GAMMA, begin, write_search


def tune(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["tune", *map(str, arguments)])


def places(shards: Path, folder: Path) -> list[str]:
    return ["--data", str(shards), "--runs", str(folder / "runs"), "--out", str(folder / "sweep")]


def test_a_search_with_mistakes_starts_nothing(shard_folder: Path, tmp_path: Path) -> None:
    file = write_search(
        tmp_path,
        objectives=[{"metric": "train/loss", "mode": "min"}],
        space={"seed": {"kind": "randint", "low": 0, "high": 3}},
    )
    refused = tune(file, *places(shard_folder, tmp_path))
    assert refused.exit_code == 2
    assert "2 mistakes in" in refused.output and "Traceback" not in refused.output
    assert not (tmp_path / "sweep").exists()


def test_a_missing_donor_is_reported_before_anything_starts(shard_folder: Path, tmp_path: Path) -> None:
    space = {"phases.A1.optimizer.lr": {"kind": "loguniform", "low": 1e-4, "high": 1e-2}}
    objectives = [{"metric": "val/all/albedo/l1", "mode": "min"}]
    file = write_search(tmp_path, text=ALBEDO, phase="A1", space=space, objectives=objectives)
    refused = tune(file, *places(shard_folder, tmp_path))
    assert refused.exit_code == 2
    assert "Train it first: pbr train <curriculum of segformer>" in refused.output
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_that_is_finished_starts_no_ray_and_shows_its_table(
    shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray_jobs.cluster import session
    from ray_jobs.sweep.sweeprun import begin_sweep, open_sweep

    file = write_search(tmp_path)
    places_of = {
        "data": DataSpec.from_location(shard_folder),
        "runs": tmp_path / "runs",
        "out": tmp_path / "sweep",
    }
    work = open_sweep(file, runtime_file=None, overrides=[], **places_of)  # type: ignore[arg-type]
    study = begin_sweep(work)
    while (one := study.ask()) is not None:
        study.end(one.number, repeat=0, outcome=Outcome("finished", values=(0.1 * one.number,)))
    monkeypatch.delattr(session, "ray_session")
    shown = tune(file, *places(shard_folder, tmp_path))
    assert shown.exit_code == 0, shown.output
    assert "report.html" in shown.output and "gamma: segformer/S0" in shown.output


def test_apply_writes_the_best_or_the_trial_that_is_named(tmp_path: Path) -> None:
    study, search = begin(tmp_path)
    while (one := study.ask()) is not None:
        study.end(one.number, repeat=0, outcome=Outcome("finished", values=(0.1 * one.number,)))
    write_results(study, search)
    best = yaml.safe_load((study.folder / "best.yaml").read_text())[GAMMA]
    file = tmp_path / "segformer.yaml"
    done = tune("apply", study.folder, "--to", file)
    assert done.exit_code == 0, done.output
    assert f"{GAMMA}: 1.0 -> {best}" in done.output
    assert f"# {GAMMA}, was 1.0: gamma, trial 2 of sweep:" in file.read_text()
    named = tune("apply", study.folder, "--to", file, "--trial", 0)
    assert named.exit_code == 0
    focal = load_curriculum(file).phases["S0"].loss.focal
    assert focal is not None and focal.gamma == study.configurations()[0].params[GAMMA]
    unknown = tune("apply", study.folder, "--to", file, "--trial", 9)
    assert unknown.exit_code == 2 and "expected a finished trial" in unknown.output


def test_apply_warns_where_the_sweep_trained_for_fewer_epochs(tmp_path: Path) -> None:
    study, _ = begin(tmp_path)
    while (one := study.ask()) is not None:
        study.end(one.number, repeat=0, outcome=Outcome("finished", values=(0.1 * one.number,)))
    file = tmp_path / "segformer.yaml"
    same = tune("apply", study.folder, "--to", file)
    assert "Warning" not in same.output
    file.write_text(file.read_text().replace("epochs: 1", "epochs: 9"))
    longer = tune("apply", study.folder, "--to", file)
    assert longer.exit_code == 0
    assert "Warning: the sweep trained S0 for 1 epochs, but " in longer.output


def test_help_is_shown_for_both_ways() -> None:
    assert "FILE --data SHARDS" in tune("--help").output
    assert "--trial" in tune("apply", "--help").output
