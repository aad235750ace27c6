"""A cluster of several nodes on this machine, each of which can be lost by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tests.ray.head import START_S, Head, free_ports, head_node

CPUS_OF_NODE = 2
"""One worker and its data stream."""

ATTEMPTS = 3

IDLE_S = 60
TRAINING = ("ray::RayTrainWorker", "ray::TrainController", "ray::MapBatches")
"""How the titles of the processes of a training begin."""


class Cluster:
    """A head that trains nothing, and nodes with room for one worker each."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        self.head: Head = self._stack.enter_context(head_node(num_cpus=0))
        return self

    def __exit__(self, *_: object) -> None:
        # A head whose nodes are gone would take a quarter of a minute to end by itself.
        kill_sessions(self.head.process, *self.nodes)
        self._stack.close()

    def add_nodes(self, count: int) -> None:
        """Starts some, one after the other."""
        for _ in range(count):
            self.add_node()

    def add_node(self, settings: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Starts a node in a session of its own, and waits until the cluster counts it.

        Nodes that start at once on one machine take each other's ports, and one may give up where much else
        runs: it is started again. ``settings`` are variables of its environment.
        """
        for _ in range(ATTEMPTS):
            node = self._start_node(settings or {})
            self.nodes.append(node)
            limit = time.monotonic() + START_S
            while node.poll() is None:
                if self._counts(node):
                    return node
                assert time.monotonic() < limit, "a node did not come up"
                time.sleep(0.5)
            kill_sessions(self.nodes.pop())
        raise AssertionError(f"{ATTEMPTS} nodes ended in their start")

    def _start_node(self, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
        ports = iter(free_ports(3))
        command = [
            str(Path(sys.executable).with_name("ray")),
            *("start", "--block", "--disable-usage-stats", f"--address={self.head.address}"),
            *("--node-ip-address=127.0.0.1", f"--num-cpus={CPUS_OF_NODE}"),
            *(f"--dashboard-agent-listen-port={next(ports)}", f"--dashboard-agent-grpc-port={next(ports)}"),
            *(f"--metrics-export-port={next(ports)}", "--min-worker-port=0", "--max-worker-port=0"),
            f"--object-store-memory={100 * 2**20}",
        ]
        return subprocess.Popen(
            command,
            env={**self.head.environment, **settings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _counts(self, node: subprocess.Popen[bytes]) -> bool:
        """Whether the cluster lists a node as alive; a lost one is listed for half a minute."""
        try:
            states = self._states()
        except OSError:  # a dashboard of a busy machine answers late
            return False
        return any(states.get(node_id) == "ALIVE" for node_id in node_ids(node))

    def drain(self, number: int, *, deadline_s: int) -> None:
        """Tells the cluster that a node will be taken away."""
        (node_id,) = node_ids(self.nodes[number])
        command = [
            str(Path(sys.executable).with_name("ray")),
            *("drain-node", f"--address={self.head.address}", f"--node-id={node_id}"),
            *("--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"),
            f"--deadline-remaining-seconds={deadline_s}",
        ]
        subprocess.run(command, env=dict(self.head.environment), check=True, capture_output=True, timeout=60)

    def has(self, name: str, number: int) -> bool:
        """Whether a process whose title holds the name runs on a node."""
        return any(processes(lambda command: name in command, session=self.nodes[number].pid))

    def run(self, program: str) -> subprocess.Popen[str]:
        """A driver of the cluster's that is somebody else's; its words can be read."""
        return subprocess.Popen(
            [sys.executable, "-c", program],
            env={**self.head.environment, "RAY_ADDRESS": self.head.address},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _states(self) -> dict[str, str]:
        summary = self.head.ask("/nodes?view=summary")["data"]["summary"]
        return {node["raylet"].get("nodeId"): node["raylet"].get("state") for node in summary}

    def lose(self, node: subprocess.Popen[bytes]) -> None:
        """SIGKILL of its raylet: Ray ends the workers of a node that has none."""
        (raylet,) = processes(lambda command: "raylet/raylet " in command, session=node.pid)
        os.kill(raylet, signal.SIGKILL)

    def remove(self, number: int) -> None:
        """Ends everything on a node at once, and forgets it."""
        kill_sessions(self.nodes.pop(number))

    def kill(self, *users: subprocess.Popen[bytes]) -> None:
        """Ends everything on the head and on all nodes, and these commands, at once."""
        kill_sessions(*users, self.head.process, *self.nodes)
        assert not self.head.processes(""), "something outlived its node"

    def wait_until_idle(self) -> None:
        """Until Ray has ended what belonged to commands that are gone."""
        limit = time.monotonic() + IDLE_S
        while left := self.head.processes(*TRAINING):
            assert time.monotonic() < limit, f"left behind: {left}"
            time.sleep(0.1)


def processes(wanted: Callable[[str], bool], *, session: int) -> Iterator[int]:
    """Ids of the processes of a session by their command line."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            own = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[3])
        except (OSError, ValueError):
            continue
        if own == session and wanted(command):
            yield int(entry.name)


def node_ids(node: subprocess.Popen[bytes]) -> list[str]:
    """The name that a node's raylet goes by; none before there is one."""
    found = []
    for raylet in processes(lambda command: "raylet/raylet " in command, session=node.pid):
        words = Path(f"/proc/{raylet}/cmdline").read_bytes().decode().split("\0")
        found += [word.partition("=")[2] for word in words if word.startswith("--node_id=")]
    return found


def kill_sessions(*leaders: subprocess.Popen[Any]) -> None:
    """Kill every process that these commands started, including Ray's, at once."""
    while found := [pid for one in leaders for pid in processes(lambda command: True, session=one.pid)]:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for leader in leaders:
            leader.poll()
        time.sleep(0.1)
    for leader in leaders:
        leader.wait(timeout=10)
