"""One long albedo phase as a command of its own, and a record of every sample that it saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pbrlib.curriculum.load import dump_yaml
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.place import place
from pbrlib.train.incidents import INCIDENTS
from pbrlib.train.runs import RunDirectory
from pbrlib.train.state import WEIGHTS, checkpoints, read_state
from pbrlib.train.timesheet import TIME_SHEET
from tests.faults.cluster import kill_session

Samples = list[list[str]]


@dataclass(frozen=True)
class Outcome:
    """What a training leaves: the bytes of its best network, and step -> samples with hashes."""

    weights: bytes
    batches: Mapping[int, Samples]


class Training:
    """``pbr train`` of ``steps`` steps, ``segment`` between two checkpoints, in a session of its own.

    Without an address it has a Ray of its own. ``runtime`` is what its runtime file says, ``shards`` and
    ``runs`` (in its folder, if not given) may be on S3.
    """

    def __init__(
        self,
        folder: Path,
        *,
        curriculum: Curriculum,
        shards: Path | str,
        segformer: Path,
        steps: int,
        segment: int,
        runtime: Mapping[str, Any],
        environment: Mapping[str, str] = os.environ,
        address: str | None = None,
        runs: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (name, phase), *_ = curriculum.phases.items()
        longer = phase.model_copy(update={"epochs": steps // segment, "steps_per_epoch": segment})
        task = curriculum.task.model_copy(update={"segformer": str(segformer)})
        whole = curriculum.model_copy(update={"phases": {name: longer}, "task": task})
        self.steps, self._log = steps, folder / "log.txt"
        self.runs = place(runs or str(folder / "runs"))
        (folder / "albedo.yaml").write_text(dump_yaml(whole))
        (folder / "runtime.yaml").write_text(yaml.safe_dump({**runtime, "record_batches": True}))
        self._environment = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}
        self.command = [sys.executable, "-m", "ray_jobs.cli", "train", str(folder / "albedo.yaml")]
        self.command += ["--data", str(shards), "--runs", str(self.runs)]
        self.command += ["--runtime", str(folder / "runtime.yaml")]
        self.command += [] if address is None else ["--address", address]
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        """The command, begun; its words go to ``said``."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self.command, stdout=log, stderr=log, start_new_session=True, env=self._environment
            )
        self._started.append(process)
        return process

    def stop(self) -> None:
        """Ends what a test that failed has left running."""
        for process in self._started:
            if process.poll() is None:
                kill_session(process)

    def finish(self, process: subprocess.Popen[bytes], *, timeout_s: float = 240) -> Path:
        """Waits for the end, and returns the best checkpoint."""
        try:
            assert process.wait(timeout=timeout_s) == 0, self.said
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.said}\nit hangs:\n{stacks('ray::RayTrainWorker')}") from None
        return RunDirectory(self.runs, name="albedo").best()[0]

    def outcome(self, best: Path) -> Outcome:
        """What it has left."""
        return Outcome((best / WEIGHTS).read_bytes(), self.batches())

    @property
    def said(self) -> str:
        """What the command has printed."""
        return self._log.read_text()

    def lines(self, rank: int) -> list[dict[str, Any]]:
        """What one rank has recorded, in the order of time."""
        found = list(self.runs.glob(f"albedo/*/batches-rank{rank}.jsonl"))
        return lines_of(found[0]) if found else []

    def batches(self) -> dict[int, Samples]:
        """step -> samples with hashes; a step that was repeated must have been repeated equally."""
        (folder,) = self.runs.glob("albedo/*-*")
        return batches_in(folder)

    def repeated(self) -> int:
        """How many steps were done twice, by rank 0."""
        return len(self.lines(0)) - len({entry["step"] for entry in self.lines(0)})

    def worlds(self) -> list[int]:
        """With how many workers it has trained, in the order of time."""
        found = [entry["world"] for entry in self.lines(0)]
        return [world for number, world in enumerate(found) if number == 0 or found[number - 1] != world]

    def curve(self) -> list[float]:
        """The selection metric of all validations."""
        (folder,) = self.runs.glob("albedo/*-*")
        history = read_state(checkpoints(folder)[-1]).history
        return [next(iter(one.metrics.values())) for one in history]

    def reached(self) -> int:
        """The last step that rank 0 has done; -1 before the first."""
        return max((entry["step"] for entry in self.lines(0)), default=-1)

    def wait_for_checkpoint(self, wanted: Callable[[int], bool], *, timeout_s: float = 120) -> int:
        """Until there is one whose step is wanted; returns that step."""
        limit = time.monotonic() + timeout_s
        while not (found := [step for step in self.checkpoint_steps() if wanted(step)]):
            assert time.monotonic() < limit, self.said
            time.sleep(0.1)
        return found[0]

    def checkpoint_steps(self) -> list[int]:
        """After which steps the checkpoints were written that are there, in their order."""
        folders = [one for phase in self.runs.glob("albedo/*-*") for one in checkpoints(phase)]
        return [int(folder.name.rpartition("_")[2]) for folder in folders]

    def incidents(self) -> list[dict[str, Any]]:
        """What it has written down of them."""
        files = self.runs.glob(f"albedo/*/{INCIDENTS}")
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def wait_for_step(self, step: int, *, world: int | None = None, timeout_s: float = 180) -> float:
        """Until rank 0 has done it, and now has so many workers if given; returns how long it took."""
        began = time.monotonic()
        while True:
            last = self.lines(0)[-50:]
            is_there = any(entry["step"] >= step for entry in last)
            if is_there and world in (None, last[-1]["world"]):
                return time.monotonic() - began
            assert time.monotonic() - began < timeout_s, self.said
            time.sleep(0.05)

    def wait_for_attempt(self, number: int, *, timeout_s: float = 180) -> None:
        """Until the first batch of that attempt (1, 2, ...) is there."""
        limit = time.monotonic() + timeout_s
        while self._attempts() < number:
            assert time.monotonic() < limit, self.said
            time.sleep(0.1)

    def _attempts(self) -> int:
        sheets = self.runs.glob(f"albedo/*/{TIME_SHEET}")
        return [line["kind"] for sheet in sheets for line in lines_of(sheet)].count("begun")


def stacks(name: str) -> str:
    """Where the threads of all processes stand whose title begins with a name."""
    found = subprocess.run(["pgrep", "-f", f"^{name}"], capture_output=True, text=True).stdout.split()
    spy = str(Path(sys.executable).with_name("py-spy"))
    dumps = [subprocess.run([spy, "dump", "--pid", pid], capture_output=True, text=True) for pid in found]
    return "\n".join(dump.stdout + dump.stderr for dump in dumps)


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a record; a kill or a full disk may have cut some."""
    lines = []
    for line in file.read_text().split("\n"):
        with suppress(json.JSONDecodeError):
            lines.append(json.loads(line))
    return lines


def batches_in(folder: Path) -> dict[int, Samples]:
    """step -> samples with hashes, of a phase's folder; what was repeated must have been repeated equally."""
    shares: dict[tuple[int, int], dict[int, Samples]] = {}
    for file in sorted(folder.glob("batches-rank*.jsonl")):
        for entry in lines_of(file):
            own = shares.setdefault((entry["step"], entry["world"]), {})
            assert own.setdefault(entry["rank"], entry["samples"]) == entry["samples"], (
                f"step {entry['step']}"
            )
    steps: dict[int, Samples] = {}
    for (step, world), share in shares.items():
        if len(share) == world:
            whole = [sample for rank in range(world) for sample in share[rank]]
            assert steps.setdefault(step, whole) == whole, f"step {step} had another batch on {world}"
    return steps
