from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner, Result
from ray.job_submission import JobSubmissionClient

from pbrlib.errors import ConfigError
from ray_jobs.cli import main
from ray_jobs.submission import check_command, connect, job_metadata
from ray_jobs.submission import submit as hand_in
from tests.conftest import ALBEDO, SEGFORMER

PLACES = ("--data", "/mnt/pbr/shards", "--runs", "/mnt/pbr/runs")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "segformer.yaml").write_text(SEGFORMER)
    (tmp_path / "configs" / "albedo.yaml").write_text(ALBEDO)
    (tmp_path / "configs" / "ladder.yaml").write_text("waves: [{segformer: segformer.yaml}]\n")
    return tmp_path


def submit(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["submit", *arguments])


@pytest.mark.parametrize(
    ("files", "more", "name"),
    [
        (("ladder",), (), "ladder"),
        (("segformer",), ("--phases", "S0"), "segformer/S0"),
        (("segformer", "albedo"), (), "segformer+albedo"),
    ],
)
def test_a_job_is_named_by_what_it_trains(
    checkout: Path, files: tuple[str, ...], more: tuple[str, ...], name: str
) -> None:
    given = [f"configs/{file}.yaml" for file in files]
    context = check_command(["train", *given, *PLACES, *more], working_dir=checkout)
    told = job_metadata(context, working_dir=checkout)
    assert told["job_name"] == name
    assert told["runs"] == "/mnt/pbr/runs" and told["files"] == " ".join(given)


def test_a_preparation_is_named_by_its_command_and_lists_its_sources(checkout: Path) -> None:
    sources = ["/data/materials", "generated:count=2,size=64,seed=1", "matsynth:path=s3://data/*.parquet"]
    context = check_command(["prepare", *sources, "--out", "/mnt/pbr/shards"], working_dir=checkout)
    metadata = job_metadata(context, working_dir=checkout)
    assert metadata == {"job_name": "prepare", "command": "prepare", "sources": ", ".join(sources)}


def test_a_sweep_is_named_by_its_search_file(checkout: Path) -> None:
    (checkout / "configs" / "gamma.yaml").write_text("curriculum: segformer.yaml\n")
    arguments = ["tune", "configs/gamma.yaml", *PLACES, "--out", "/mnt/pbr/sweeps/gamma"]
    told = job_metadata(check_command(arguments, working_dir=checkout), working_dir=checkout)
    assert (told["job_name"], told["command"]) == ("gamma", "tune")
    assert told["files"] == "configs/gamma.yaml"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "configs/none.yaml", *PLACES), "configs/none.yaml: got a file outside of the upload"),
        (
            ("train", "configs/segformer.yaml", "--data", "data", "--runs", "/runs"),
            "--data: got data, a path in the job's upload",
        ),
        (
            ("train", "configs/segformer.yaml", "--data", "s3://b/d", "--runs", "runs"),
            "--runs: got runs, a path in the job's upload",
        ),
        (
            ("evaluate", "runs/model", "--data", "/mnt/pbr/shards"),
            "run: got runs/model, a path in the job's upload",
        ),
        (
            ("tune", "configs/gamma.yaml", *PLACES, "--out", "/sweep"),
            "configs/gamma.yaml: got a file outside of the upload",
        ),
        (
            ("tune", "configs/ladder.yaml", *PLACES, "--out", "sweep"),
            "--out: got sweep, a path in the job's upload",
        ),
        (("prepare", "materials", "--out", "/set"), "sources: got materials, a path in the job's upload"),
        (
            ("prepare", "skyrim:old=/old,new=new", "--out", "/set"),
            "sources: got new, a path in the job's upload",
        ),
        (("bake", "materials", "--out", "/old"), "source: got materials, a path in the job's upload"),
        (("submit", "--", "train"), "submit is not a command for a cluster"),
        (("trian",), "trian is not a command for a cluster. Use one of doctor, prepare"),
    ],
)
def test_what_no_job_could_do_is_refused_before_anything_is_uploaded(
    checkout: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_command(arguments, working_dir=checkout)


def test_an_absolute_curriculum_is_refused_since_no_node_has_it(checkout: Path) -> None:
    with pytest.raises(ConfigError, match="expected a path relative to"):
        check_command(["train", str(checkout / "configs/segformer.yaml"), *PLACES], working_dir=checkout)


def test_options_of_the_command_are_checked_as_the_job_would() -> None:
    done = submit("--", "train", "--speed", "9")
    assert done.exit_code == 2 and "No such option" in done.output and "--speed" in done.output


def test_a_command_or_a_job_is_asked_for_and_not_both() -> None:
    for arguments in ((), ("--follow", "x", "--", "train")):
        done = submit(*arguments)
        assert done.exit_code == 2 and "one of the two" in done.output


def test_an_address_that_takes_no_jobs_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="expected the address of a dashboard, such as http://HOST:8265"):
        connect("10.0.0.1:6379")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(ConfigError, match="no cluster accepts jobs there"):
        connect("http://127.0.0.1:9")
    assert "RAY_ADDRESS" not in os.environ, "Ray would have taken it before the one that was given"


class Young:
    """A client of a cluster that refuses so many jobs before it has an agent."""

    def __init__(self, refusals: int, *, reason: str = "No available agent to submit job") -> None:
        self.left, self.reason, self.taken = refusals, reason, list[str]()

    def get_address(self) -> str:
        return "http://127.0.0.1:8265"

    def submit_job(self, *, submission_id: str, **given: object) -> None:
        if self.left:
            self.left -= 1
            raise RuntimeError(f"Request failed with status code 500: {self.reason}.")
        self.taken.append(submission_id)


def submitted(client: Young, folder: Path) -> str:
    return hand_in(
        cast("JobSubmissionClient", client), ["runs"], working_dir=folder, metadata={"job_name": "ladder"}
    )


def test_a_cluster_that_has_just_started_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_jobs.submission._YOUNG_PAUSE_S", 0.0)
    client = Young(3)
    assert [submitted(client, tmp_path)] == client.taken


def test_a_cluster_that_never_has_an_agent_and_another_refusal_are_errors_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_jobs.submission._YOUNG_S", -1.0)
    with pytest.raises(ConfigError, match=r"the cluster has no agent .*--dashboard-agent-listen-port"):
        submitted(Young(100), tmp_path)
    refused = Young(1, reason="too large")
    with pytest.raises(ConfigError, match=r"was rejected \(.*too large.*\.rayignore"):
        submitted(refused, tmp_path)
    assert (refused.left, refused.taken) == (0, [])
