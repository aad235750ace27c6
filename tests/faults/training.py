"""Train one long albedo phase in a separate command, and record every sample."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pbrlib import storage
from pbrlib.curriculum.config.load import dump_yaml
from pbrlib.curriculum.spec import Curriculum
from pbrlib.train.checkpoint.players import weights_file
from pbrlib.train.checkpoint.state import checkpoints, read_state, step_of_checkpoint
from pbrlib.train.record.incidents import INCIDENTS
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.record.timesheet import TIME_SHEET
from tests.faults.cluster import Cluster, kill_sessions

Samples = list[list[str]]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Outcome:
    """The result of a training: the bytes of its best network, and the samples of each step with hashes."""

    weights: bytes
    batches: Mapping[int, Samples]


class Training:
    """``pbr train`` of ``steps`` steps, ``segment`` between two checkpoints, in a session of its own.

    It joins ``cluster``, which may be another for the next start; without one it has a Ray of its own.
    ``runtime`` is what its runtime file says, ``shards`` and ``runs`` (in its folder, if not given) may be on
    S3, ``settings`` are variables of its environment.
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
        cluster: Cluster | None = None,
        settings: Mapping[str, str] | None = None,
        runs: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (name, phase), *_ = curriculum.phases.items()
        longer = phase.model_copy(update={"epochs": steps // segment, "steps_per_epoch": segment})
        task = curriculum.task.model_copy(update={"segformer": str(segformer)})
        whole = curriculum.model_copy(update={"phases": {name: longer}, "task": task})
        self.steps, self.segment, self.cluster = steps, segment, cluster
        self._log, self._settings = folder / "log.txt", settings or {}
        self.runs = storage.to_path(runs or str(folder / "runs"))
        (folder / "albedo.yaml").write_text(dump_yaml(whole))
        (folder / "runtime.yaml").write_text(yaml.safe_dump({**runtime, "record_batches": True}))
        self._command = [sys.executable, "-m", "ray_jobs", "train", str(folder / "albedo.yaml")]
        self._command += ["--data", str(shards), "--runs", str(self.runs)]
        self._command += ["--runtime", str(folder / "runtime.yaml")]
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def command(self) -> list[str]:
        """The command line as a user would write it."""
        return [*self._command, *([] if self.cluster is None else ["--address", self.cluster.head.address])]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the command."""
        given = os.environ if self.cluster is None else self.cluster.head.environment
        environment = {**given, **self._settings}
        environment.pop("RAY_ADDRESS", None)
        return environment

    def start(self) -> subprocess.Popen[bytes]:
        """The command, begun; its words go to ``said``."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self.command, stdout=log, stderr=log, start_new_session=True, env=self.environment
            )
        self._started.append(process)
        return process

    def stop(self) -> None:
        """Ends what a test that failed has left running."""
        for process in self._started:
            if process.poll() is None:
                kill_sessions(process)

    def finish(self, process: subprocess.Popen[bytes], *, timeout_s: float = 240) -> Path:
        """Waits for the end, and returns the best checkpoint."""
        try:
            assert process.wait(timeout=timeout_s) == 0, self.said
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.said}\nit hangs:\n{stacks('ray::RayTrainWorker')}") from None
        return RunDirectory(self.runs, name="albedo").best()[0]

    def outcome(self, best: Path) -> Outcome:
        """Return the result of the training."""
        return Outcome(weights_file(best).read_bytes(), self.batches())

    @property
    def said(self) -> str:
        """The output of the command."""
        return self._log.read_text()

    def lines(self, rank: int) -> list[dict[str, Any]]:
        """Return the records of one rank in chronological order."""
        return self._records(f"batches-rank{rank}.jsonl")

    def batches(self) -> dict[int, Samples]:
        """step -> samples with hashes; a step that was repeated must have been repeated equally."""
        (folder,) = self.runs.glob("albedo/*-*")
        return batches_in(folder)

    def repeated(self) -> int:
        """Return the number of steps that rank 0 repeated."""
        return len(self.lines(0)) - len({entry["step"] for entry in self.lines(0)})

    def last_of_first_attempt(self) -> int:
        """The step at which rank 0 was interrupted first."""
        steps = [entry["step"] for entry in self.lines(0)]
        return next(step for step, following in pairwise(steps) if following <= step)

    def worlds(self) -> list[int]:
        """Return the numbers of workers in chronological order."""
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
        return self.wait_until(lambda: list(filter(wanted, self.checkpoint_steps())), timeout_s=timeout_s)[0]

    def checkpoint_steps(self) -> list[int]:
        """Return the steps of the existing checkpoints, in ascending order."""
        folders = [one for phase in self.runs.glob("albedo/*-*") for one in checkpoints(phase)]
        return [step_of_checkpoint(folder) for folder in folders]

    def incidents(self) -> list[dict[str, Any]]:
        """Return the incidents that the training recorded."""
        return self._records(INCIDENTS)

    def wait_for_step(self, step: int, *, world: int | None = None, timeout_s: float = 180) -> float:
        """Until rank 0 has done it, and now has so many workers if given; returns how long it took."""

        def is_there() -> bool:
            last = self.lines(0)[-50:]
            return any(entry["step"] >= step for entry in last) and world in (None, last[-1]["world"])

        began = time.monotonic()
        self.wait_until(is_there, timeout_s=timeout_s)
        return time.monotonic() - began

    def wait_for_attempt(self, number: int, *, timeout_s: float = 180) -> None:
        """Until the first batch of that attempt (1, 2, ...) is there."""
        self.wait_until(lambda: self.attempts() >= number, timeout_s=timeout_s)

    def attempts(self) -> int:
        """Return the number of attempts that reached their first batch."""
        return [line["kind"] for line in self._records(TIME_SHEET)].count("begun")

    def wait_until(self, wanted: Callable[[], _T], *, timeout_s: float, pause_s: float = 0.05) -> _T:
        """Asks until the answer is true, and returns it; the command may not end before."""
        limit = time.monotonic() + timeout_s
        while True:
            code = self._started[-1].poll()
            if answer := wanted():
                return answer
            assert code is None, f"the command has ended with {code}\n{self.said}"
            assert time.monotonic() < limit, f"not within {timeout_s} s\n{self.said}"
            time.sleep(pause_s)

    def _records(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file in the folder of the phase; none before there is one."""
        return [line for file in self.runs.glob(f"albedo/*/{name}") for line in storage.read_records(file)]


def stacks(name: str) -> str:
    """Return the stack traces of all processes whose title begins with a name."""
    found = subprocess.run(["pgrep", "-f", f"^{name}"], capture_output=True, text=True).stdout.split()
    spy = str(Path(sys.executable).with_name("py-spy"))
    dumps = [subprocess.run([spy, "dump", "--pid", pid], capture_output=True, text=True) for pid in found]
    return "\n".join(dump.stdout + dump.stderr for dump in dumps)


def batches_in(folder: Path) -> dict[int, Samples]:
    """step -> samples with hashes, of a phase's folder; what was repeated must have been repeated equally."""
    shares: dict[tuple[int, int], dict[int, Samples]] = {}
    for file in sorted(folder.glob("batches-rank*.jsonl")):
        for entry in storage.read_records(file):
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
