"""Runs directories made of files alone: phases that look as if they had trained."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pbrlib.curriculum.config.load import dump_yaml, parse_curriculum
from pbrlib.train.checkpoint.state import STATE, State, Validated, write_state
from pbrlib.train.record.journal import METRICS
from pbrlib.train.record.rundirectory import FinishedPhase, RunDirectory, phase_folder
from tests.conftest import ALBEDO

L1 = "val/all/albedo/l1"
NOW = 2_000_000_000.0


def albedo_of(*phases: str, name: str = "albedo", **changes: str) -> str:
    """A curriculum of phases that begin from each other, as text; changes are of its words."""
    head, body = ALBEDO.replace("name: albedo", f"name: {name}").split("  A1:\n")
    texts = []
    for number, phase in enumerate(phases):
        start = f"    starts_from: {phases[number - 1]}\n" if number else ""
        texts.append(f"  {phase}:\n{start}{body}")
    text = head + "".join(texts)
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def declare(runs: Path, text: str) -> Path:
    """The folder of a run with its curriculum."""
    curriculum = parse_curriculum(text)
    path = runs / curriculum.name
    path.mkdir(parents=True, exist_ok=True)
    (path / "curriculum.yaml").write_text(dump_yaml(curriculum))
    return path


def phase(
    run: Path,
    name: str,
    *,
    fingerprint: str,
    errors: Mapping[int, float],
    age_s: float,
    total: int = 8,
    frozen: Mapping[str, str] | None = None,
) -> Path:
    """A phase's folder with a journal, and a checkpoint for every validation."""
    folder = run / phase_folder(name, fingerprint=fingerprint)
    folder.mkdir(parents=True)
    lines = []
    for step, error in errors.items():
        known = {"phase": name, "total_steps": total, "train/loss": 2 * error, "rate/base": 1e-3}
        lines.append({"kind": "step", "step": step, **known, "samples_per_s": 5.0})
        lines.append({"kind": "validation", "step": step, L1: error})
        metrics = {L1: error}
        state = State(name, fingerprint, step, total, metrics, {}, frozen=frozen or {})
        checkpoint = folder / f"checkpoint_{step:08d}"
        checkpoint.mkdir()
        write_state(checkpoint, state)
        (checkpoint / "model.safetensors").write_bytes(b"w" * 1000)
    (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for file in folder.rglob("*"):
        os.utime(file, (NOW - age_s, NOW - age_s))
    return folder


def finish(run: Path, folder: Path, *, fingerprint: str, order: tuple[str, ...], **known: object) -> None:
    """Enters the phase of a folder into the record, its least error the best."""
    name = folder.name.rpartition("-")[0]
    states = [json.loads((one / STATE).read_text()) for one in sorted(folder.glob("checkpoint_*"))]
    best = min(states, key=lambda state: state["metrics"][L1])
    RunDirectory(run.parent, name=run.name).finish(
        name,
        FinishedPhase(
            fingerprint=fingerprint,
            checkpoint=f"{folder.name}/checkpoint_{best['step']:08d}",
            step=best["step"],
            metrics=best["metrics"],
            seconds=61.0,
            history=tuple(Validated(state["step"], state["metrics"]) for state in states),
            **known,  # type: ignore[arg-type]
        ),
        order=order,
    )


def write_ladder(
    runs: Path, *, state: str, age_s: float, curriculum: str = "albedo", phase: str = "A1"
) -> None:
    """Write ``ladder.json`` as a command that trains one phase does."""
    from datetime import UTC, datetime

    stamp = datetime.fromtimestamp(NOW - age_s, UTC).isoformat().replace("+00:00", "Z")
    rung = {"curriculum": curriculum, "phase": phase, "state": state, "metric": L1, "mode": "min"}
    rung["error"] = "the disk is full" if state == "stopped" else None
    (runs / "ladder.json").write_text(json.dumps({"updated": stamp, "phases": [rung]}))
