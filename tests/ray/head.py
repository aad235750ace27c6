"""A cluster as an operator starts it, ``ray start --head``, that meets no other on this machine."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S = 90
_MARK = "PBR_TEST_CLUSTER"


@dataclass(frozen=True)
class Head:
    """A cluster that runs.

    Drivers join it at ``address``, jobs go to ``dashboard``, both on loopback; ``session`` is the folder in
    which Ray keeps what belongs to it, ``environment`` that of somebody who may use it. ``process`` leads the
    session of its own node.
    """

    address: str
    dashboard: str
    session: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]

    def ask(self, path: str) -> Any:
        """Return the answer of the dashboard's API."""
        token = self.environment["RAY_AUTH_TOKEN"]
        request = urllib.request.Request(
            f"{self.dashboard}{path}", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def processes(self, *names: str) -> list[int]:
        """Return the processes of the cluster and its users whose title begins with a name."""
        token = f"RAY_AUTH_TOKEN={self.environment['RAY_AUTH_TOKEN']}".encode()
        return list(_with(token, names=tuple(name.encode() for name in names)))


@contextmanager
def head_node(*, num_cpus: int) -> Iterator[Head]:
    """Starts one with a token and ports of its own, and leaves no process behind."""
    # Not below pytest's folder: sockets lie in it, and their paths may have 107 characters.
    folder = tempfile.mkdtemp(prefix="pbr-ray-")
    mark, ports = secrets.token_hex(8), iter(free_ports(6))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_idle_worker_killing_time_threshold_ms": "60000",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        _MARK: mark,
    }
    dashboard, port = next(ports), next(ports)
    command = [
        str(Path(sys.executable).with_name("ray")),
        *("start", "--head", "--block", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *(f"--port={port}", f"--ray-client-server-port={next(ports)}"),
        *(f"--dashboard-agent-listen-port={next(ports)}", f"--dashboard-agent-grpc-port={next(ports)}"),
        *(f"--metrics-export-port={next(ports)}", "--min-worker-port=0", "--max-worker-port=0"),
        *(f"--num-cpus={num_cpus}", f"--object-store-memory={200 * 2**20}", f"--temp-dir={folder}"),
    ]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(f"http://127.0.0.1:{dashboard}/api/version", environment["RAY_AUTH_TOKEN"], process)
        del environment[_MARK]
        session = Path(folder, "session_latest").resolve()
        yield Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", session, environment, process)
    finally:
        # Asked to end, it takes a quarter of a minute.
        _kill_marked(mark)
        process.wait(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_for(url: str, token: str, process: subprocess.Popen[bytes]) -> None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    limit = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, "ray start has ended"
            assert time.monotonic() < limit, "the dashboard did not answer"
            time.sleep(0.5)


def _kill_marked(mark: str) -> None:
    """Kill every process with the cluster's environment: daemons, workers, drivers in separate sessions."""
    wanted = f"{_MARK}={mark}".encode()
    for _ in range(50):
        found = list(_with(wanted))
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    raise AssertionError(f"processes of the cluster are left: {found}")


def _with(variable: bytes, *, names: tuple[bytes, ...] = (b"",)) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if not entry.name.isdigit() or not (entry / "cmdline").read_bytes().startswith(names):
                continue
            if variable not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            if (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                yield int(entry.name)
