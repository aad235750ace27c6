"""Trains the golden cases and says what came out; writes it down with ``python -m tests.golden.record``.

``golden.json`` holds for every phase the hashes of its batches, what it logged, and the hashes of its final
weights; ``golden.safetensors`` holds the weights themselves. Raw batches (the integers that a rank is given)
are the same everywhere; all that follows them is floating-point and exact on one kind of machine only.

Record anew only when a change is meant to train something else, and say so in its commit.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pbrlib.curriculum.config.load import dump_yaml, load_curriculum, parse_curriculum
from pbrlib.curriculum.fingerprint import outside_donors, phase_fingerprints
from pbrlib.curriculum.run import PhaseJob, carry_out, launch_local, resolve
from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.plan import DrawPlan
from pbrlib.data.shards.reader import ShardSet
from pbrlib.train.runtime import LocalRuntime
from pbrlib.train.runtimespec import RuntimeSpec
from tests.gloo import run_ranks
from tests.golden.cases import CASES, Case, make_shards
from tests.train.test_ranks import rank_main

GOLDEN = Path(__file__).with_name("golden.json")
WEIGHTS = GOLDEN.with_suffix(".safetensors")
REPOSITORY = GOLDEN.parents[2]
SHIPPED = ("configs/real", "configs/rev7", "configs/smoke")
COMPUTING = ("kornia", "lpips", "numpy", "pytorch-msssim", "torchvision", "transformers")
INSTRUCTIONS = ("DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")
CPU = ("vendor_id", "cpu family", "model", "model name", "stepping", "cache size", "flags")


@dataclass(frozen=True)
class Trained:
    """The result of one phase: its lines of ``golden.json``, and its weights in one row, by name."""

    figures: dict[str, Any]
    weights: Tensor


class Stopped(BaseException):
    """Ends a run as a kill would: nothing catches it."""


def train_cases(folder: Path) -> dict[str, Trained]:
    """Trains all cases below a folder; ``CURRICULUM.PHASE`` -> what it came to."""
    shards, runs, threads = make_shards(folder / "shards"), folder / "runs", torch.get_num_threads()
    trained, together = {}, {}
    # Validation textures are baked before the loop sets its threads, and their number decides the rounding.
    torch.set_num_threads(1)
    try:
        for case in CASES:
            for job in _jobs(case, shards=shards, runs=runs):
                if case.ranks > 1:
                    together[job.curriculum.name] = job
                else:
                    trained[_name(job)] = _came_to(job, [_train(job, stop_before=case.stop_before)])
    finally:
        torch.set_num_threads(threads)
    return trained | _train_on_ranks(together, folder)


def shipped_curricula() -> dict[str, Any]:
    """Return the fingerprints of the phases and the resolved YAML of every shipped curriculum."""
    files = sorted(file for folder in SHIPPED for file in (REPOSITORY / folder).rglob("*.yaml"))
    return {
        str(file.relative_to(REPOSITORY)): _curriculum(file)
        for file in files
        if "\nphases:" in file.read_text()
    }


def this_machine() -> dict[str, Any]:
    """Return the properties of the machine that determine the rounding of a training on one thread."""
    lines = [platform.machine(), platform.processor()]
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        lines = [line for line in first if line.partition(":")[0].strip() in CPU]
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), lines[0]
    )
    return {
        "cpu": model,
        "cpu_sha256": _digest("\n".join(lines)),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "environment": {name: os.environ[name] for name in INSTRUCTIONS if name in os.environ},
        "torch": torch.__version__,
        "libraries": {name: importlib.metadata.version(name) for name in COMPUTING},
    }


@contextmanager
def recorded_batches(*, stop_before: int | None = None) -> Iterator[dict[str, list[str]]]:
    """Inside the block notes every raw batch; directory of a phase -> ``STEP HASH``, in order."""
    seen: dict[str, list[str]] = {}
    whole = LocalRuntime.batches

    def batches(
        self: LocalRuntime, plan: DrawPlan, *, maps: Sequence[str], first_step: int
    ) -> Iterator[RawBatch]:
        for step, raw in enumerate(whole(self, plan, maps=maps, first_step=first_step), start=first_step):
            if step == stop_before:
                raise Stopped
            seen.setdefault(str(self.directory), []).append(f"{step} {_raw_hash(raw)}")
            yield raw

    with patch.object(LocalRuntime, "batches", batches):
        yield seen


def _jobs(case: Case, *, shards: ShardSet, runs: Path) -> Iterator[PhaseJob]:
    """The phases of a case, each resolved when those before it are trained."""
    curriculum = parse_curriculum(json.dumps(case.curriculum))
    runtime = RuntimeSpec(workers=case.ranks, batch_per_device=case.batch_per_device, record_batches=True)
    for phase in curriculum.phases:
        yield resolve(curriculum, phase, shards=shards, runs=runs, runtime=runtime)


def _train(job: PhaseJob, *, stop_before: int | None) -> list[str]:
    """Trains a phase in this process, in two attempts where one is stopped; gives its raw batches."""
    raw: list[str] = []
    if stop_before is not None:
        with recorded_batches(stop_before=stop_before) as seen, suppress(Stopped):
            carry_out(job, launch_local)
        raw += seen[str(job.directory)]
    with recorded_batches() as seen:
        carry_out(job, launch_local)
    return raw + seen[str(job.directory)]


def _train_on_ranks(jobs: dict[str, PhaseJob], folder: Path) -> dict[str, Trained]:
    """Trains phases on two processes, all in one pair."""
    run_ranks(_rank, jobs, folder)
    seen = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    return {_name(job): _came_to(job, [rank[str(job.directory)] for rank in seen]) for job in jobs.values()}


def _rank(rank: int, jobs: dict[str, PhaseJob], folder: Path) -> None:
    with recorded_batches() as seen:
        rank_main(rank, jobs, folder)
    (folder / f"{rank}.json").write_text(json.dumps(seen))


def _name(job: PhaseJob) -> str:
    return f"{job.curriculum.name}.{job.phase}"


def _came_to(job: PhaseJob, raw: list[list[str]]) -> Trained:
    """Reads what a finished phase left in its folder; ``raw`` are the raw batches of every rank."""
    newest = max(job.directory.glob("checkpoint_*"))
    (file,) = newest.rglob("*.safetensors")
    weights = dict(sorted(load_file(file).items()))
    records = [file.read_text() for file in sorted(job.directory.glob("batches-rank*.jsonl"))]
    figures = {
        "raw": raw,
        "augmented": [[_augmented(json.loads(line)) for line in text.splitlines()] for text in records],
        "logged": list(_logged(job.directory / "metrics.jsonl")),
        "weights": {name: _tensor_hash(tensor) for name, tensor in weights.items()},
    }
    return Trained(figures, torch.cat([tensor.flatten().float() for tensor in weights.values()]))


def _logged(journal: Path) -> Iterator[dict[str, Any]]:
    """Losses, rates and validation metrics at the ends of segments; between them only slow steps log."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    ends = {line["step"] for line in lines if line["kind"] == "validation"}
    for line in lines:
        kept = {name: x for name, x in line.items() if name.startswith(("train/", "rate/", "val/"))}
        if kept and line["step"] in ends:
            yield {"step": line["step"], **kept}


def _augmented(line: dict[str, Any]) -> str:
    return f"{line['step']} {_digest(json.dumps(line['samples']))}"


def _raw_hash(raw: RawBatch) -> str:
    tensors = {f"map {name}": x for name, x in raw.maps.items()}
    tensors |= {f"present {name}": x for name, x in raw.present.items()}
    tensors |= {"seeds": raw.seeds, "classes": raw.classes}
    layouts = None if raw.layouts is None else [int(layout) for layout in raw.layouts]
    hashes = {name: _tensor_hash(x) for name, x in sorted(tensors.items())}
    return _digest(json.dumps([hashes, raw.ids, layouts]))


def _tensor_hash(x: Tensor) -> str:
    content = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return _digest(f"{x.dtype} {tuple(x.shape)} {hashlib.sha256(content).hexdigest()}")


def _curriculum(file: Path) -> dict[str, Any]:
    curriculum = load_curriculum(file)
    fingerprints = phase_fingerprints(
        curriculum,
        shards=_digest("shards"),
        precision="fp32",
        micro_batches=dict.fromkeys(curriculum.phases, 1),
        donors={reference: _digest(reference) for reference in outside_donors(curriculum)},
    )
    return {"phases": fingerprints, "yaml": _digest(dump_yaml(curriculum))}


def _digest(text: str) -> str:
    """The first quarter of a SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> None:
    """Trains everything and overwrites the two files."""
    with tempfile.TemporaryDirectory() as folder:
        trained = train_cases(Path(folder))
    git = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    golden = {
        "command": "python -m tests.golden.record",
        "commit": subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip(),
        "machine": this_machine(),
        "curricula": shipped_curricula(),
        "trained": {name: one.figures for name, one in trained.items()},
    }
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    save_file({name: one.weights for name, one in trained.items()}, WEIGHTS)
    sys.stdout.write(f"{len(trained)} phases, {len(golden['curricula'])} curricula: {GOLDEN}\n")


if __name__ == "__main__":
    main()
