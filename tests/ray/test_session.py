from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os
import ray
from pbrlib.errors import ConfigError
from ray_jobs.session import ray_session

def message(**options):
    try:
        with ray_session(**options):
            return "started"
    except ConfigError as error:
        return str(error)

seen = {"dead": message(address="127.0.0.1:9")}
seen |= {"unreadable": message(address="here"), "none": message(num_cpus=0)}
with ray_session():
    seen["cpus"] = ray.cluster_resources()["CPU"]
    seen["mode"], seen["token"] = os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])
    with ray_session(num_cpus=1):
        seen["joined"] = ray.cluster_resources()["CPU"]
    seen["open"] = ray.is_initialized()
seen["closed"] = not ray.is_initialized()
print(json.dumps(seen))
"""


@pytest.mark.ray
def test_a_session_starts_quietly_with_a_token_and_stops_what_it_started(tmp_path: Path) -> None:
    # A process of its own: this one may run the cluster that other tests share.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seen = json.loads(done.stdout)  # one line: Ray itself has printed nothing
    assert done.stderr == ""
    assert "no Ray cluster answers there" in seen["dead"]
    assert "Write host:port" in seen["unreadable"]
    assert "num_cpus: 0" in seen["none"]
    assert seen["cpus"] == seen["joined"] == max(4, len(os.sched_getaffinity(0)))
    assert (seen["mode"], seen["token"]) == ("token", 64)
    assert seen["open"] and seen["closed"]
    assert not (tmp_path / ".ray").exists()
