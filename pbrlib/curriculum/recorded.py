"""Reads the records of a phase that are needed to replay a step: phase, environment, workers, runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pbrlib.curriculum.spec import Curriculum
from pbrlib.errors import ConfigError
from pbrlib.train.failedstep import FAILED_STEP, STEP
from pbrlib.train.record.environment import ENVIRONMENT
from pbrlib.train.runtimespec import RuntimeSpec


def phase_to_replay(curriculum: Curriculum, run: Path) -> str:
    """Return the phase with a step that was not finite; raises ConfigError unless exactly one has it."""
    phases = [*curriculum.phases]
    failed = [phase for phase in phases if any(run.glob(f"{phase}-*/{FAILED_STEP}/{STEP}"))]
    if len(failed) == 1 or len(phases) == 1:
        return (failed or phases)[0]
    raise ConfigError(
        f"{run}: got {', '.join(failed) or 'no phase'} with a step that was not finite; expected one phase. "
        f"Give one of {', '.join(phases)} with --phase."
    )


def newest_environment(run: Path, phase: str) -> dict[str, Any]:
    """Return the newest recorded environment of a phase; raises ConfigError if there is none."""
    files = sorted(run.glob(f"{phase}-*/{ENVIRONMENT}"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise ConfigError(
            f"{run}: got no {ENVIRONMENT} of phase {phase}; expected a phase that has trained some steps. "
            "Train it first."
        )
    try:
        known = json.loads(files[-1].read_text())
        if not isinstance(known, dict):
            raise ValueError("not a mapping")
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{files[-1]}: cannot be read ({error}). Resume the training, which writes the file again."
        ) from error
    return known


def recorded_workers(known: Mapping[str, Any], *, run: Path) -> int:
    """Return the recorded number of workers; raises ConfigError if it is not recorded."""
    workers = known.get("workers")
    if not isinstance(workers, int) or workers < 1:
        raise ConfigError(
            f"{run}: got workers: {workers!r} in {ENVIRONMENT}; expected the number of workers. "
            "Resume the training, which writes the file again."
        )
    return workers


def recorded_runtime(known: Mapping[str, Any], *, run: Path, phase: str, device: str | None) -> RuntimeSpec:
    """Return the recorded runtime, changed for a replay in one process."""
    try:
        spec = RuntimeSpec.model_validate(known.get("runtime", {}))
    except ValidationError as error:
        raise ConfigError(
            f"{run}: got the runtime of another version of pbr for phase {phase} ({error}). Use that version."
        ) from error
    # Compilation changes the rounding and hides the layers; trackers would log the replay as a run.
    plain = {"compile": False, "trackers": (), "record_batches": False, "profile_steps": 0}
    return spec.model_copy(update={**plain, "device": device or spec.device})
