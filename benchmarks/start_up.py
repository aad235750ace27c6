"""Measure how long each part of a phase's start-up takes, from its launch to its first batch.

    python benchmarks/start_up.py [--rounds 5] [--quick]

Each round is a ``pbr train`` with its own Ray: three phases of a few steps, one after another, with two
workers each. The stages of a start are read from the time sheet of the phase. The first phase includes what
is started once for each command, such as the processes that Ray keeps, so it has a separate table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from smallset import write_small_set
from timing import EQUAL_PRIORITY, Line, Spread, show

PARTS = {
    "launched": "Ray Train's controller",
    "workers": "processes of the workers, process group",
    "program": "imports of the workers",
    "networks": "networks, validation textures, journal",
    "first batch": "stream of batches",
}
"""The part of a start-up by the line of the time sheet with which it begins."""

ENDING = "end of the fit, after the last checkpoint"
TOTAL = "total start-up"

CURRICULUM = """
name: started
task:
  kind: segmentation
  model: {{kind: segformer, backbone: custom, hidden_sizes: [8, 8, 16, 16], depths: [1, 1, 1, 1],
          num_heads: [1, 1, 2, 2], decoder_width: 16}}
phases:
{phases}
"""

PHASE = """  {name}:
    {donor}epochs: 1
    steps_per_epoch: 4
    crop: 64
    batch: 4
    data: {{generated: 1.0}}
    optimizer: {{lr: 1.0e-3}}
    schedule: {{kind: constant}}
    loss: {{cross_entropy: 1.0}}
"""

NAMES = ("S0", "S1", "S2")


def write_files(folder: Path) -> list[Path]:
    """Write materials to ``FOLDER/shards``; return the paths of the curriculum and the runtime file."""
    write_small_set(folder / "shards")
    donors = ["", *(f"starts_from: {name}\n    " for name in NAMES)]
    phases = "".join(PHASE.format(name=name, donor=donor) for name, donor in zip(NAMES, donors, strict=False))
    texts = {"curriculum": CURRICULUM.format(phases=phases), "runtime": "workers: 2\ndata_cpus: 1.0\n"}
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return [folder / f"{name}.yaml" for name in texts]


def parts_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the seconds of each part of a start-up, of its total and of the end, from a time sheet."""
    named = [(line.get("stage", line["kind"]), line["at"]) for line in lines]
    spent = {PARTS[name]: after - at for (name, at), (_, after) in pairwise(named) if name in PARTS}
    (_, last_step), (_, ended) = named[-2:]
    return {**spent, TOTAL: sum(spent.values()), ENDING: ended - last_step}


def run(shards: str, files: Sequence[Path], runs: Path) -> tuple[float, list[dict[str, float]]]:
    """Return the seconds of the complete command, and of the parts of each phase's start-up."""
    curriculum, runtime = files
    places = ["--data", shards, "--runs", str(runs), "--runtime", str(runtime)]
    began = time.perf_counter()
    command = [sys.executable, "-P", "-m", "ray_jobs", "train", str(curriculum), *places]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    sheets = [next((runs / "started").glob(f"{name}-*")) / "time.jsonl" for name in NAMES]
    return seconds, [parts_of(list(map(json.loads, sheet.read_text().splitlines()))) for sheet in sheets]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="run one round, as a test")
    options = parser.parse_args()
    os.environ.update(EQUAL_PRIORITY)
    with tempfile.TemporaryDirectory(prefix="start-up-") as folder:
        files = write_files(Path(folder))
        rounds = 1 if options.quick else options.rounds
        shards = str(Path(folder, "shards"))
        found = [run(shards, files, Path(folder, f"runs-{number}")) for number in range(rounds)]
    report(found)


def report(found: Sequence[tuple[float, Sequence[Mapping[str, float]]]]) -> None:
    first = [phases[0] for _, phases in found]
    later = [phase for _, phases in found for phase in phases[1:]]
    for title, starts in (("The first phase of a command", first), ("Later phases", later)):
        show(title, [Line(name, Spread.of(one[name] for one in starts), "s") for name in starts[0]])
    show("The complete command", [Line("three phases", Spread.of(seconds for seconds, _ in found), "s")])


if __name__ == "__main__":
    main()
