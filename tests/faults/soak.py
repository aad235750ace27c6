"""A smoke ladder under one random fault after another, and what differs from one that nothing happens to.

    python -m tests.faults.soak [--minutes 30] [--seed 0] [--every 20 60]

Faults are those of processes (a worker, a data task, the controller of a fit, the command itself) and of
nodes (lost at once, or after a notice). A command that ends is started again, as an operator would. After the
minutes the ladder is let alone. Exit code 1 when a batch or the weights of a phase differ.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pbrlib.runs.walltime import account_of_run, read_sheet
from pbrlib.train.runs import RunDirectory
from pbrlib.train.state import WEIGHTS
from tests.faults.cluster import Cluster, kill_session
from tests.faults.training import Samples, batches_in, lines_of

LADDER = "configs/smoke/ladder.yaml"
NODES = 3
HOUR_S = 3600
PROCESSES = {
    "worker": "ray::RayTrainWorker",
    "data task": "ray::MapBatches",
    "controller": "ray::TrainController",
}
KINDS = [*PROCESSES, "command", "node", "node after a notice"]
NOTICE_S = 15
"""Seconds between a notice and the end of its node."""


class Ladder:
    """``pbr train`` of the ladder in a folder, on a cluster or with a Ray of its own."""

    def __init__(self, folder: Path, *, shards: Path, cluster: Cluster | None = None) -> None:
        folder.mkdir()
        self.runs, self._log = folder / "runs", folder / "log.txt"
        runtime = folder / "runtime.yaml"
        runtime.write_text("workers: 2\nmax_failures: 20\nrecord_batches: true\n")
        self._command = [*_PBR, "train", LADDER, "--data", str(shards), "--runs", str(self.runs)]
        self._command += ["--runtime", str(runtime)]
        self._environment: Mapping[str, str] = os.environ
        if cluster is not None:
            self._command += ["--address", cluster.head.address]
            self._environment = cluster.head.environment
        self.starts = 0

    def start(self) -> None:
        """Starts the command, again if it has ended."""
        self.starts += 1
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True, env=dict(self._environment)
            )

    def finish(self) -> None:
        """Waits for the end of a command that nothing happens to."""
        assert self.process.wait(timeout=HOUR_S) == 0, self._log.read_text()

    def phases(self) -> dict[str, Path]:
        """``family/phase`` -> folder."""
        found = self.runs.glob("*/*/batches-rank0.jsonl")
        return {f"{file.parts[-3]}/{file.parts[-2].rpartition('-')[0]}": file.parent for file in found}

    def batches(self) -> dict[str, dict[int, Samples]]:
        """What every step of every phase has seen."""
        return {name: batches_in(folder) for name, folder in sorted(self.phases().items())}

    def weights(self) -> dict[str, bytes]:
        """Of the best checkpoint of every phase."""
        return {
            name: (RunDirectory(self.runs, name=family).best(phase)[0] / WEIGHTS).read_bytes()
            for name in self.phases()
            for family, _, phase in [name.partition("/")]
        }

    def repeated(self) -> int:
        """Steps that were done twice or more often."""
        every = [
            [line["step"] for line in lines_of(folder / "batches-rank0.jsonl")]
            for folder in self.phases().values()
        ]
        return sum(len(steps) - len(set(steps)) for steps in every)


_PBR = [sys.executable, "-m", "ray_jobs.cli"]


def main() -> int:
    """Runs it and prints a line for each fault, then what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, nargs=2, default=(20, 60), help="seconds between two faults")
    parser.add_argument("--seed", type=int, default=0, help="of the faults and their times")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pbr-soak-") as folder:
        root = Path(folder)
        shards = root / "shards"
        settings = "generated:count=35,size=128"
        sources = (f"{settings},seed=1,name=skyrim,old=true", f"{settings},seed=2,name=matsynth")
        prepare = [*_PBR, "prepare", *sources, "--val-share", "0.2", "--out", str(shards)]
        subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL)
        began = time.monotonic()
        quiet = Ladder(root / "quiet", shards=shards)
        quiet.start()
        quiet.finish()
        print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
        with Cluster() as cluster:
            for _ in range(NODES):
                cluster.add_node()
            soaked = Ladder(root / "soaked", shards=shards, cluster=cluster)
            faults = soak(soaked, cluster, minutes=asked.minutes, every=asked.every, seed=asked.seed)
        return compare(quiet, soaked, faults)


def soak(
    ladder: Ladder, cluster: Cluster, *, minutes: float, every: tuple[float, float], seed: int
) -> Counter[str]:
    """Trains the ladder to its end; returns how often which fault came."""
    chance, faults, began = random.Random(seed), Counter[str](), time.monotonic()
    due = began + chance.uniform(*every)
    ladder.start()
    while (code := ladder.process.poll()) != 0:
        now = time.monotonic()
        if now - began > minutes * 60 + HOUR_S:
            raise TimeoutError("the ladder did not come to its end")
        if code is not None:
            print(f"{now - began:6.0f} s  the command ended with {code} and is started again", flush=True)
            ladder.start()
        elif due < now < began + minutes * 60:
            kind = chance.choice(KINDS)
            what = bring_about(kind, ladder, cluster, chance)
            if what:
                faults[kind] += 1
                print(f"{now - began:6.0f} s  {what}", flush=True)
                due = time.monotonic() + chance.uniform(*every)
        time.sleep(0.1)
    print(f"{time.monotonic() - began:6.0f} s  the ladder is at its end", flush=True)
    return faults


def bring_about(kind: str, ladder: Ladder, cluster: Cluster, chance: random.Random) -> str:
    """One fault; returns what was done, or nothing where there was nobody to hit."""
    if kind == "command":
        kill_session(ladder.process)
        return "SIGKILL of the command"
    if kind in PROCESSES:
        with suppress(OSError):  # one may end while it is looked at
            if found := cluster.head.processes(PROCESSES[kind]):
                os.kill(chance.choice(found), signal.SIGKILL)
                return f"SIGKILL of a {kind}"
        return ""
    number = chance.randrange(len(cluster.nodes))
    notice = kind == "node after a notice"
    if notice:
        cluster.drain(number, deadline_s=NOTICE_S)
        time.sleep(NOTICE_S)
    held = " with a worker" if cluster.has("RayTrainWorker", number) else ""
    cluster.remove(number)
    cluster.add_node()
    return f"a node{held} lost{f' {NOTICE_S} s after a notice' if notice else ''}, another added"


def compare(quiet: Ladder, soaked: Ladder, faults: Counter[str]) -> int:
    """Prints the summary; returns the exit code."""
    sheets = [sheet for folder in soaked.phases().values() if (sheet := read_sheet(folder)) is not None]
    account = account_of_run(sheets)
    print(f"faults: {sum(faults.values())} ({', '.join(f'{kind} {n}' for kind, n in faults.most_common())})")
    print(f"commands: {soaked.starts}; steps repeated: {soaked.repeated()}")
    print("seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in account.parts().items()))
    print(f"goodput: {100 * account.goodput:.0f} % of {account.whole:.0f} s")
    wanted, found = quiet.batches(), soaked.batches()
    steps = sum(map(len, wanted.values()))
    exact = found == wanted
    print(f"draws of {steps} steps in {len(wanted)} phases: {'exact' if exact else 'DIFFERENT'}")
    ours, theirs = soaked.weights(), quiet.weights()
    unequal = sorted(name for name in theirs if ours.get(name) != theirs[name])
    print(f"weights: {', '.join(unequal) + ' DIFFERENT' if unequal else 'all equal'}")
    return 0 if exact and not unequal else 1


if __name__ == "__main__":
    sys.exit(main())
