from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.cluster.session import ray_session

SCRIPT = """
import json, os
import ray
from pbrlib.errors import ConfigError
from ray_jobs.cluster.session import ray_session

def message(**options):
    try:
        with ray_session(**options):
            return "started"
    except ConfigError as error:
        return str(error)

seen = {}
with ray_session():  # before any other, which leaves something in the environment
    seen["barrier"] = ray.get(ray.remote(os.getenv).remote("RAY_TRAIN_COLLECTIVE_TIMEOUT_S"))
    seen["cpus"] = ray.cluster_resources()["CPU"]
    seen["mode"], seen["token"] = os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])
    with ray_session(num_cpus=1):
        seen["joined"] = ray.cluster_resources()["CPU"]
    seen["open"] = ray.is_initialized()
seen["closed"] = not ray.is_initialized()
seen |= {"dead": message(address="127.0.0.1:9"), "unreadable": message(address="here")}
seen["none"] = message(num_cpus=0)
print(json.dumps(seen))
"""


@dataclass(frozen=True)
class Done:
    """The output of the script, the output of Ray, and the home directory."""

    seen: dict[str, Any]
    complaints: str
    home: Path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    # A process of its own: this one may run the cluster that other tests share.
    home = tmp_path_factory.mktemp("home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**environment, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return Done(json.loads(done.stdout), done.stderr, home)  # one line: Ray itself has printed nothing


@pytest.mark.ray
def test_a_session_starts_quietly_with_a_token_and_stops_what_it_started(done: Done) -> None:
    seen = done.seen
    assert done.complaints == ""
    assert "no Ray cluster answers there" in seen["dead"]
    assert seen["unreadable"] == "--address: got here; expected host:port of a Ray cluster, or auto."
    assert seen["none"] == "num_cpus: got 0; expected 1 or more. Use 4 or more."
    assert seen["cpus"] == seen["joined"] == max(4, len(os.sched_getaffinity(0)))
    assert (seen["mode"], seen["token"]) == ("token", 64)
    assert seen["open"] and seen["closed"]
    assert not (done.home / ".ray").exists()


@pytest.mark.ray
def test_no_rank_of_a_local_cluster_waits_for_another_for_ever(done: Done) -> None:
    assert done.seen["barrier"] == "900"


def test_no_rank_of_a_joined_cluster_waits_for_another_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ray Train hands the variable on from where a fit is called.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **options: None)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with ray_session(address="auto"):
        assert environment["RAY_TRAIN_COLLECTIVE_TIMEOUT_S"] == "900"
