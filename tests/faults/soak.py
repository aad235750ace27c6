"""Smoke ladders under one random fault after another, and what differs from one that nothing happens to.

    python -m tests.faults.soak [--minutes 30] [--seed 0] [--every 20 60] [--longer 4]

Faults are those of processes (a worker, a data task, the controller of a fit, the command itself) and of
nodes (lost at once, or after a notice). A command that ends is started again, as an operator would. A ladder
that is at its end before the minutes are over is followed by another; after them the last one is let alone.
Exit code 1 when a batch or the weights of a phase differ.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pbrlib import storage
from pbrlib.runs.walltime import add_accounts, read_account
from pbrlib.train.checkpoint.players import weights_file
from pbrlib.train.record.rundirectory import RunDirectory
from tests.faults.cluster import Cluster, kill_sessions
from tests.faults.training import Samples, batches_in

LADDER = Path("configs/smoke/ladder.yaml")
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

    def __init__(self, folder: Path, *, ladder: Path, shards: Path, cluster: Cluster | None = None) -> None:
        folder.mkdir()
        self.name = folder.name
        self.runs, self._log = folder / "runs", folder / "log.txt"
        runtime = folder / "runtime.yaml"
        runtime.write_text("workers: 2\nmax_failures: 20\nrecord_batches: true\n")
        self._command = [*_PBR, "train", str(ladder), "--data", str(shards), "--runs", str(self.runs)]
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
        """Return the samples of every step of every phase."""
        return {name: batches_in(folder) for name, folder in sorted(self.phases().items())}

    def weights(self) -> dict[str, bytes]:
        """Return the weights of the best checkpoint of every phase."""
        return {
            name: weights_file(RunDirectory(self.runs, name=family).best(phase)[0]).read_bytes()
            for name in self.phases()
            for family, _, phase in [name.partition("/")]
        }

    def repeated(self) -> int:
        """Steps that were done twice or more often."""
        every = [
            [line["step"] for line in storage.read_records(folder / "batches-rank0.jsonl")]
            for folder in self.phases().values()
        ]
        return sum(len(steps) - len(set(steps)) for steps in every)


_PBR = [sys.executable, "-m", "ray_jobs"]


def main() -> int:
    """Runs it and prints a line for each fault, then what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, nargs=2, default=(20, 60), help="seconds between two faults")
    parser.add_argument("--seed", type=int, default=0, help="of the faults and their times")
    parser.add_argument("--longer", type=int, default=4, help="times the steps of an epoch")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pbr-soak-") as folder:
        root = Path(folder)
        shards, ladder = root / "shards", lengthened(LADDER, root / "configs", times=asked.longer)
        settings = "generated:count=35,size=128"
        sources = (f"{settings},seed=1,name=skyrim,old=true", f"{settings},seed=2,name=matsynth")
        prepare = [*_PBR, "prepare", *sources, "--val-share", "0.2", "--out", str(shards)]
        subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL)
        began = time.monotonic()
        quiet = Ladder(root / "quiet", ladder=ladder, shards=shards)
        quiet.start()
        quiet.finish()
        print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
        tell_of("undisturbed", quiet)
        with Cluster() as cluster:
            cluster.add_nodes(NODES)
            faults = Faults(cluster, minutes=asked.minutes, every=asked.every, seed=asked.seed)
            soaked: list[Ladder] = []
            while not faults.are_over:
                name = f"soaked-{len(soaked) + 1}"
                soaked.append(Ladder(root / name, ladder=ladder, shards=shards, cluster=cluster))
                soak(soaked[-1], faults)
        kinds = ", ".join(f"{kind} {times}" for kind, times in faults.seen.most_common())
        print(f"faults: {faults.seen.total()} ({kinds})")
        return max(compare(quiet, one) for one in soaked)


def lengthened(ladder: Path, folder: Path, *, times: int) -> Path:
    """A copy of a ladder, in a new folder, whose epochs have more steps, so that faults meet them."""
    shutil.copytree(ladder.parent, folder)
    for file in folder.rglob("*.yaml"):
        text = file.read_text()
        file.write_text(
            re.sub(r"(steps_per_epoch: )(\d+)", lambda found: f"{found[1]}{times * int(found[2])}", text)
        )
    return folder / ladder.name


class Faults:
    """Random faults at random times; none after the given minutes."""

    def __init__(self, cluster: Cluster, *, minutes: float, every: tuple[float, float], seed: int) -> None:
        self._cluster, self._every, self._chance = cluster, every, random.Random(seed)
        self._began, self._minutes, self.seen = time.monotonic(), minutes, Counter[str]()
        self._due = self._chance.uniform(*every)

    @property
    def seconds(self) -> float:
        """Since the first could have come."""
        return time.monotonic() - self._began

    @property
    def are_over(self) -> bool:
        """Whether no more faults follow."""
        return self.seconds > 60 * self._minutes

    def may_come(self, ladder: Ladder) -> None:
        """Cause a fault if one is due."""
        if self.seconds < self._due or self.are_over:
            return
        kind = self._chance.choice(KINDS)
        if what := bring_about(kind, ladder, self._cluster, self._chance):
            self.seen[kind] += 1
            self.say(what)
            self._due = self.seconds + self._chance.uniform(*self._every)

    def say(self, what: str) -> None:
        """Prints a line with the time."""
        print(f"{self.seconds:6.0f} s  {what}", flush=True)


def soak(ladder: Ladder, faults: Faults) -> None:
    """Trains a ladder to its end under faults."""
    limit = time.monotonic() + 2 * HOUR_S
    ladder.start()
    while (code := ladder.process.poll()) != 0:
        if time.monotonic() > limit:
            raise TimeoutError("the ladder did not come to its end")
        if code is not None:
            faults.say(f"the command ended with {code} and is started again")
            ladder.start()
        faults.may_come(ladder)
        time.sleep(0.1)
    faults.say("the ladder is at its end")


def bring_about(kind: str, ladder: Ladder, cluster: Cluster, chance: random.Random) -> str:
    """Cause one fault; return its description, or nothing if there was no process to hit."""
    if kind == "command":
        kill_sessions(ladder.process)
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


def tell_of(name: str, ladder: Ladder) -> None:
    """Prints where a ladder's time went."""
    sheets = [sheet for folder in ladder.phases().values() if (sheet := read_account(folder)) is not None]
    account = add_accounts(sheets)
    print(f"{name}: commands: {ladder.starts}; steps repeated: {ladder.repeated()}")
    print("  seconds: " + ", ".join(f"{part} {seconds:.0f}" for part, seconds in account.parts().items()))
    print(f"  goodput: {100 * account.goodput:.0f} % of {account.total:.0f} s", flush=True)


def compare(quiet: Ladder, soaked: Ladder) -> int:
    """Prints what became of a ladder; returns the exit code."""
    tell_of(soaked.name, soaked)
    wanted, found = quiet.batches(), soaked.batches()
    assert wanted and all(wanted.values()), "a record without batches proves nothing"
    steps = sum(map(len, wanted.values()))
    exact = found == wanted
    print(f"  draws of {steps} steps in {len(wanted)} phases: {'exact' if exact else 'DIFFERENT'}")
    ours, theirs = soaked.weights(), quiet.weights()
    unequal = sorted(name for name in theirs if ours.get(name) != theirs[name])
    print(f"  weights: {', '.join(unequal) + ' DIFFERENT' if unequal else 'all equal'}")
    return 0 if exact and not unequal else 1


if __name__ == "__main__":
    sys.exit(main())
