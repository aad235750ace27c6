"""Measure the CPU seconds of commands that need no tensor, from the start of Python to its end.

    python benchmarks/command_cpu.py [--rounds 3]

Each command runs in a new process, in a folder with one run that has not started to train. The last command
plans a valid curriculum. It builds networks on the meta device, so it has to import torch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
LIMIT_S = 1.0
"""The CPU seconds that a command without tensors may take at most."""

ANSWERS = (
    "--help",
    "--version",
    "trian",
    "doctor",
    "prepare --help",
    "prepare none --out shards",
    "shards inspect none",
    "plan none.yaml",
    "plan misspelled.yaml",
    "augment-preview none --phase S0",
    "rehearse none.yaml --data none --runs runs",
    "train none.yaml --data none --runs runs",
    "train misspelled.yaml --data none --runs runs",
    "runs runs",
    "runs list runs",
    "runs show runs/segformer",
    "runs prune runs",
    "runs compare runs/none runs/segformer",
    "debug-step none",
    "report none",
    "submit -- train none.yaml --data s3://b/shards --runs s3://b/runs",
    "tune none.yaml --data none --runs runs --out sweep",
    "tune apply none --to none.yaml",
    "evaluate none --data none",
    "convert none none out",
    "score none --index none --materials none",
    "bake none --out out",
)
"""Commands that print a list, a help text or an error about a missing file."""

COMPUTES = ("plan segformer.yaml",)


def write_files(folder: Path) -> None:
    """Write the files that the commands name."""
    smoke = ROOT / "configs" / "smoke" / "segformer.yaml"
    run = folder / "runs" / "segformer"
    run.mkdir(parents=True)
    shutil.copy(smoke, run / "curriculum.yaml")
    shutil.copy(smoke, folder / "segformer.yaml")
    (folder / "misspelled.yaml").write_text(smoke.read_text().replace("epochs:", "epoch:"))


def cpu_seconds(arguments: Sequence[str], *, folder: Path) -> float:
    """Return the user and system time of one command, including its children."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ray_jobs", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime


def measure(folder: Path, *, rounds: int) -> Iterator[tuple[str, float]]:
    """Yield each command with the minimum of its CPU seconds over all rounds."""
    for command in (*ANSWERS, *COMPUTES):
        yield command, min(cpu_seconds(command.split(), folder=folder) for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    table = Table("pbr ...", f"CPU seconds, minimum of {rounds}")
    slow = 0
    with tempfile.TemporaryDirectory(prefix="pbr-") as folder:
        write_files(Path(folder))
        for command, seconds in measure(Path(folder), rounds=rounds):
            over = seconds > LIMIT_S and command not in COMPUTES
            slow += over
            table.add_row(command, f"{seconds:.2f}", style="red" if over else None)
    Console(width=120).print(table)
    if slow:
        sys.exit(f"{slow} commands that need no tensor took more than {LIMIT_S:g} s of CPU.")


if __name__ == "__main__":
    main()
