"""The Grafana dashboard against a Prometheus that watches a job, with the files that Ray writes for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SEGFORMER
from tests.ray.head import Head, free_ports, head_node
from tests.ray.test_submit import ROOT, User, checkout, finish  # noqa: F401  # a fixture

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(480)]

DASHBOARD = ROOT / "configs" / "grafana" / "training.json"
EMPTY_WITHOUT_GPU = {"GPU memory, peak"}
WITHIN_S = 150


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with head_node(num_cpus=4) as started:
        yield started


@contextmanager
def prometheus(head: Head, folder: Path) -> Iterator[str]:
    """Start Prometheus as docs/monitoring.md does; yield its address."""
    program = shutil.which("prometheus")
    assert program, "prometheus is not installed: nothing has been checked. apt-get install prometheus"
    (port,) = free_ports(1)
    config = head.session / "metrics" / "prometheus" / "prometheus.yml"
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder}"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def get(url: str, *, token: str | None = None) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers)
    # The first question about fits makes the dashboard start a driver of its own.
    with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
        return json.load(answer)


def found(server: str, expression: str) -> list[Any]:
    query = urllib.parse.urlencode({"query": expression})
    answer = get(f"{server}/api/v1/query?{query}")
    assert answer["status"] == "success"
    result: list[Any] = answer["data"]["result"]
    return result


def panels() -> dict[str, str]:
    """Title -> query, its variables at All."""
    board = json.loads(DASHBOARD.read_text())
    assert all(len(panel["targets"]) == 1 for panel in board["panels"])
    expressions = {panel["title"]: panel["targets"][0]["expr"] for panel in board["panels"]}
    return {title: at_all(expression) for title, expression in expressions.items()}


def at_all(expression: str) -> str:
    board = json.loads(DASHBOARD.read_text())
    for one in board["templating"]["list"]:
        expression = re.sub(rf"\${one['name']}\b", one.get("allValue", ""), expression)
    assert "$" not in expression, "a variable that the dashboard does not have"
    return expression


def wait_for(url: str) -> None:
    limit = time.monotonic() + WITHIN_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < limit
            time.sleep(0.5)


def test_every_panel_of_the_dashboard_shows_a_job_that_trains(
    head: Head,
    checkout: Path,  # noqa: F811
    shard_folder: Path,
    tmp_path: Path,
) -> None:
    user, runs = User(head, checkout), tmp_path / "runs"
    file = checkout / "configs" / "watched.yaml"
    file.write_text(SEGFORMER.replace("epochs: 1", "epochs: 4000").replace("per_epoch: 2", "per_epoch: 20"))
    # Bad samples are counted only where they are replaced.
    (checkout / "configs" / "skipping.yaml").write_text("workers: 1\non_bad_sample: skip\n")
    places = ("--data", str(shard_folder), "--runs", str(runs), "--runtime", "configs/skipping.yaml")
    (tmp_path / "prometheus").mkdir()
    with prometheus(head, tmp_path / "prometheus") as server:
        submission = user.submit("--", "train", "configs/watched.yaml", "--phases", "S0", *places)
        wait_for(f"{server}/-/ready")
        wanted = {title: query for title, query in panels().items() if title not in EMPTY_WITHOUT_GPU}
        empty, limit = set(wanted), time.monotonic() + WITHIN_S
        while empty:
            assert time.monotonic() < limit, f"no series for {sorted(empty)}"
            assert submission.poll() is None
            time.sleep(2)
            empty = {title for title, query in wanted.items() if not found(server, query)}
        (shown,) = found(server, wanted["Progress"])
        assert shown["metric"].keys() == {"curriculum", "phase", "run"}
        for title in EMPTY_WITHOUT_GPU:
            assert found(server, panels()[title]) == [], "valid, and without a GPU empty"
        for one in json.loads(DASHBOARD.read_text())["templating"]["list"]:
            if one["type"] == "query":
                inner = re.fullmatch(r"label_values\((.*), (\w+)\)", one["query"]["query"])
                assert inner, "not the form that this test understands"
                (first, *_) = found(server, at_all(inner[1]))
                assert first["metric"][inner[2]]
        check_dashboard(head, shown["metric"]["run"], runs=runs)
        finish(user.ray_job("stop", *user.running()), code=0)
        finish(submission, code=143)
        limit = time.monotonic() + WITHIN_S
        while found(server, wanted["Loss"]):
            assert time.monotonic() < limit, "a phase that has ended is still shown"
            time.sleep(2)


def check_dashboard(head: Head, run: str, *, runs: Path) -> None:
    """Return the dashboard's record of the fit and its job; without the token it returns nothing."""
    token = head.environment["RAY_AUTH_TOKEN"]
    (fit,) = get(f"{head.dashboard}/api/train/v2/runs/v1", token=token)["train_runs"]
    assert fit["name"] == f"segformer/S0-{run}" and fit["status"] == "RUNNING"
    assert fit["run_settings"]["train_loop_config"]["runs"] == str(runs)
    (job,) = get(f"{head.dashboard}/api/jobs/", token=token)
    assert fit["job_details"]["submission_id"] == job["submission_id"]
    assert job["submission_id"].startswith("segformer-S0-")
    assert job["metadata"]["job_name"] == "segformer/S0" and job["metadata"]["runs"] == str(runs)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(f"{head.dashboard}/api/train/v2/runs/v1")
