"""Compare the wall time of n trials of a sweep with the same n trainings back to back on the same resources.

    python benchmarks/sweep_overhead.py [--rounds 3] [--trials 3] [--steps 400] [--quick]

A trial trains a small SegFormer (64 px, batch 8, one worker) with one of n learning rates. There are three
ways:

- ``pbr tune`` with one trial at a time;
- the same n trainings one after another in one process with one Ray;
- n ``pbr train`` commands, each with its own Ray.

All three must reach the same metrics, digit for digit. Each round runs every way once, in random order. The
time of a way is that of its processes, from start to end. The time before Ray has started and after the
last training is printed separately.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from smallset import write_small_set
from timing import EQUAL_PRIORITY, Goal, Line, Spread, interleaved, show

from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.train.record.rundirectory import RunDirectory

ADDRESS = "phases.S0.optimizer.lr"
METRIC = "val/all/segmentation/miou"
GOAL = Goal("at most", 1.10)
READY, ENDED = "Ray is up", "training ended"

CURRICULUM = """
name: segformer
task:
  kind: segmentation
  model: {{kind: segformer, backbone: custom, hidden_sizes: [16, 32, 64, 64], depths: [1, 1, 1, 1],
          num_heads: [1, 1, 2, 2], decoder_width: 32}}
phases:
  S0:
    epochs: 2
    steps_per_epoch: {steps}
    crop: 64
    batch: 8
    data: {{generated: 1.0}}
    augment: {{flip: true, rotate90: true}}
    optimizer: {{lr: 1.0e-3}}
    schedule: {{kind: constant}}
    loss: {{cross_entropy: 0.6, focal: {{weight: 0.3, gamma: 1.0}}, dice: 0.1}}
"""

SEARCH = """
curriculum: segformer.yaml
phase: S0
space:
  {address}: {{kind: grid, values: {rates}}}
objectives: [{{metric: {metric}, mode: max}}]
sampler: {{kind: grid}}
limits: {{parallel: 1}}
"""


@dataclass(frozen=True)
class Setting:
    """The settings of all ways. ``root`` holds shards, configuration files and the output of a way."""

    root: Path
    rates: Sequence[float]

    @property
    def options(self) -> list[str]:
        """The command-line options of ``pbr tune`` and ``pbr train``."""
        return ["--data", str(self.root / "shards"), "--runtime", str(self.root / "runtime.yaml")]


@dataclass(frozen=True)
class Timed:
    """The seconds of a way: total, until Ray had started, after the last training; and its metrics."""

    wall: float
    start: float
    end: float
    found: tuple[float, ...]

    @property
    def training(self) -> float:
        """The seconds from the start of Ray to the end of the last training."""
        return self.wall - self.start - self.end


def prepare(root: Path, *, trials: int, steps: int) -> Setting:
    """Write materials, a curriculum, a search file and a runtime file."""
    write_small_set(root / "shards")
    rates = [1e-3 * (1 + number) for number in range(trials)]
    (root / "segformer.yaml").write_text(CURRICULUM.format(steps=steps // 2))
    (root / "search.yaml").write_text(SEARCH.format(address=ADDRESS, rates=rates, metric=METRIC))
    (root / "runtime.yaml").write_text("workers: 1\n")
    return Setting(root, rates)


def sweep(setting: Setting, out: Path) -> Timed:
    """Run ``pbr tune`` with one trial at a time."""
    command = ["tune", str(setting.root / "search.yaml"), *setting.options]
    lines = timed([*_CLI, *command, "--runs", str(out / "runs"), "--out", str(out / "sweep")])
    ends = [at for at, line in lines if line.startswith("trial ")]
    ready = next(at for at, line in lines if " at once" in line)
    trials = json.loads((out / "sweep" / "trials.json").read_text())
    by_number = sorted(trials, key=lambda one: int(one["number"]))
    found = tuple(one["outcomes"]["0"]["values"][0] for one in by_number)
    return _timed(lines, ready=ready, last=ends[-1], found=found)


def one_process(setting: Setting, out: Path) -> Timed:
    """Run the trainings one after another in one process, with one Ray."""
    options = ["--runs-in", str(out), "--root", str(setting.root), "--rates", json.dumps(setting.rates)]
    lines = timed([sys.executable, str(Path(__file__).resolve()), *options])
    ready = next(at for at, line in lines if line == READY)
    last = [at for at, line in lines if line == ENDED][-1]
    return _timed(lines, ready=ready, last=last, found=_found(setting, out))


def commands(setting: Setting, out: Path) -> Timed:
    """Run one ``pbr train`` after another."""
    wall = 0.0
    for number, rate in enumerate(setting.rates):
        command = [
            "train",
            str(setting.root / "segformer.yaml"),
            *setting.options,
            "--set",
            f"{ADDRESS}={rate}",
        ]
        wall += timed([*_CLI, *command, "--runs", str(out / str(number))])[-1][0]
    return Timed(wall, start=0.0, end=0.0, found=_found(setting, out))


WAYS: Mapping[str, Callable[[Setting, Path], Timed]] = {
    "sweep": sweep,
    "one process": one_process,
    "n commands": commands,
}
_CLI = [sys.executable, "-m", "ray_jobs"]


def timed(command: Sequence[str]) -> list[tuple[float, str]]:
    """Run a command; return each output line with the seconds since the start; the last entry is the end."""
    started = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= EQUAL_PRIORITY | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = [(time.perf_counter() - started, line.rstrip()) for line in process.stdout]
    if process.returncode:
        sys.exit("\n".join([f"{' '.join(command)} failed:", *(line for _, line in lines)]))
    return [*lines, (time.perf_counter() - started, "")]


def train_in_one_process(setting: Setting, out: Path) -> None:
    """Train n times in this process with one Ray, as the child process of :func:`one_process`."""
    from ray_jobs.cluster.session import ray_session
    from ray_jobs.trainingrequest import open_request

    with ray_session(num_cpus=max(4, len(os.sched_getaffinity(0)))):
        from ray_jobs.fit.fit import launch_on_ray

        print(READY)
        for number, rate in enumerate(setting.rates):
            work = open_request(
                [setting.root / "segformer.yaml"],
                data=DataSpec.from_location(setting.root / "shards"),
                runs=out / str(number),
                runtime_file=setting.root / "runtime.yaml",
                overrides=[f"{ADDRESS}={rate}"],
                phases=None,
            )
            work.train(launch_on_ray)
            print(ENDED)


def run_way(name: str, setting: Setting) -> Timed:
    """Run a way in a temporary folder."""
    with tempfile.TemporaryDirectory(dir=setting.root) as out:
        return WAYS[name](setting, Path(out))


def check_figures(found: Mapping[str, Sequence[Timed]]) -> None:
    """Exit unless all trainings of all ways reached the same metrics."""
    first = next(iter(found.values()))[0].found
    for name, rounds in found.items():
        for one in rounds:
            if one.found != first:
                sys.exit(f"{name}: got metrics {one.found}; expected {first}, as in the other ways.")


def report(found: Mapping[str, Sequence[Timed]], *, trials: int) -> None:
    """Print the table."""
    wall = {name: [one.wall for one in rounds] for name, rounds in found.items()}
    lines = [Line(f"{name}, all", Spread.of(wall[name]), "s") for name in found]
    for name in ("sweep", "one process"):
        rounds = found[name]
        lines += [
            Line(f"{name}, until Ray has started", Spread.of(one.start for one in rounds), "s"),
            Line(f"{name}, a training", Spread.of(one.training / trials for one in rounds), "s"),
            Line(f"{name}, after the last", Spread.of(one.end for one in rounds), "s"),
        ]
    training = {name: [one.training for one in found[name]] for name in ("sweep", "one process")}
    lines += [
        Line("sweep : n commands", Spread.of_ratios(wall["sweep"], wall["n commands"]), "x", GOAL),
        Line("sweep : one process", Spread.of_ratios(wall["sweep"], wall["one process"]), "x", GOAL),
        Line(
            "the same without start and end",
            Spread.of_ratios(training["sweep"], training["one process"]),
            "x",
        ),
    ]
    show(f"{trials} trainings", lines)


def _found(setting: Setting, out: Path) -> tuple[float, ...]:
    runs = [RunDirectory(out / str(number), name="segformer") for number in range(len(setting.rates))]
    return tuple(run.phases()["S0"].metrics[METRIC] for run in runs)


def _timed(
    lines: Sequence[tuple[float, str]], *, ready: float, last: float, found: tuple[float, ...]
) -> Timed:
    wall = lines[-1][0]
    return Timed(wall, start=ready, end=wall - last, found=found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help="steps of a training")
    parser.add_argument("--quick", action="store_true", help="run one short round, as a test")
    parser.add_argument("--runs-in", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rates", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runs_in:
        train_in_one_process(Setting(options.root, options.rates), options.runs_in)
        return
    rounds, trials, steps = (1, 2, 20) if options.quick else (options.rounds, options.trials, options.steps)
    with tempfile.TemporaryDirectory(prefix="sweeps-") as folder:
        setting = prepare(Path(folder), trials=trials, steps=steps)
        found = interleaved(
            {name: partial(run_way, name, setting) for name in WAYS}, rounds=rounds, dropped=0
        )
    check_figures(found)
    print(f"{rounds} rounds, {steps} steps a training, equal metrics in every training.")
    report(found, trials=trials)


if __name__ == "__main__":
    main()
