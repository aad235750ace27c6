"""`pbr rehearse` without a cluster: what it refuses, how it ends, and what a job of it may name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import ray_jobs.cluster.session
import ray_jobs.rehearsing
from pbrlib.errors import ConfigError
from pbrlib.rehearsal.table import Rehearsal
from ray_jobs.cli import main
from ray_jobs.submission import check_command, job_metadata
from ray_jobs.trainingrequest import TrainingRequest
from tests.conftest import SEGFORMER
from tests.rehearsal.test_table import BAD, phase, rehearsal


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "segformer.yaml"
    path.write_text(SEGFORMER)
    return path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Rehearsal]:
    """Return the list whose last entry is the result of the next rehearsal, which needs no cluster here."""
    results: list[Rehearsal] = []

    @contextmanager
    def no_session(**_: Any) -> Iterator[None]:
        yield

    def rehearse_request(work: TrainingRequest, *, scratch: Path) -> Rehearsal:
        assert scratch.parent == work.runs
        (scratch / "segformer").mkdir()
        if not results:
            raise KeyboardInterrupt
        return results[-1]

    monkeypatch.setattr(ray_jobs.cluster.session, "ray_session", no_session)
    monkeypatch.setattr(ray_jobs.rehearsing, "rehearse_request", rehearse_request)
    return results


def rehearse(file: Path, shards: Path, runs: Path, *more: str) -> Result:
    places = ["--data", str(shards), "--runs", str(runs)]
    return CliRunner().invoke(main, ["rehearse", str(file), *places, *more])


def test_what_went_through_ends_with_0_and_its_figures_in_a_file(
    file: Path, shard_folder: Path, tmp_path: Path, found: list[Rehearsal]
) -> None:
    found.append(rehearsal(phase("segformer/S0")))
    done = rehearse(file, shard_folder, tmp_path / "runs", "--report", str(tmp_path / "out.json"))
    assert done.exit_code == 0, done.output
    assert "The training takes at most" in done.output
    assert json.loads((tmp_path / "out.json").read_text())["passed"]
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_is_not_fit_ends_with_2_and_its_figures_are_there_all_the_same(
    file: Path, shard_folder: Path, tmp_path: Path, found: list[Rehearsal]
) -> None:
    found.append(rehearsal(phase("segformer/S0", restored=False), checks=(BAD,)))
    done = rehearse(file, shard_folder, tmp_path / "runs", "--report", str(tmp_path / "out.json"))
    assert done.exit_code == 2
    assert "the rehearsal failed: /dev/shm, segformer/S0." in done.output
    assert not json.loads((tmp_path / "out.json").read_text())["passed"]


def test_ctrl_c_leaves_nothing_and_keep_leaves_the_scratch_place(
    file: Path, shard_folder: Path, tmp_path: Path, found: list[Rehearsal]
) -> None:
    done = rehearse(file, shard_folder, tmp_path / "runs")
    assert done.exit_code == 130 and list((tmp_path / "runs").iterdir()) == []
    assert "pbr: interrupted; nothing of it stays in --runs; the same command begins anew" in done.stderr
    found.append(rehearsal(phase("segformer/S0")))
    kept = rehearse(file, shard_folder, tmp_path / "runs", "--keep")
    (scratch,) = (tmp_path / "runs").iterdir()
    assert (scratch / "segformer").is_dir() and str(scratch) in kept.output.replace("\n", "")


def test_mistakes_are_found_before_anything_is_written(
    file: Path, shard_folder: Path, tmp_path: Path, found: list[Rehearsal]
) -> None:
    done = rehearse(file, shard_folder, tmp_path / "runs", "--set", "phases.S0.crop=50")
    assert done.exit_code == 2 and "phases.S0.crop" in done.output
    assert not (tmp_path / "runs").exists()


def test_a_rehearsal_can_be_a_job(file: Path) -> None:
    places = ["--data", "/mnt/pbr/shards", "--runs", "/mnt/pbr/runs"]
    context = check_command(["rehearse", "segformer.yaml", *places], working_dir=file.parent)
    told = job_metadata(context, working_dir=file.parent)
    assert (told["command"], told["job_name"]) == ("rehearse", "segformer")
    with pytest.raises(ConfigError, match=r"--report: got out\.json, a path in the job's upload"):
        check_command(
            ["rehearse", "segformer.yaml", *places, "--report", "out.json"], working_dir=file.parent
        )
