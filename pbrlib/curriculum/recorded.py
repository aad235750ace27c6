"""Reads from the folder of a run the records of a phase that a replay of its steps needs."""

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
    """Return the phase that is meant where none is named: the one with a step that was not finite."""
    phases = [*curriculum.phases]
    failed = [phase for phase in phases if any(run.glob(f"{phase}-*/{FAILED_STEP}/{STEP}"))]
    if len(failed) == 1 or len(phases) == 1:
        return (failed or phases)[0]
    what = f"{', '.join(failed)} have" if failed else "none of its phases has"
    raise ConfigError(
        f"{run}: {what} a step that was not finite. Name one of {', '.join(phases)}: --phase P."
    )


def newest_environment(run: Path, phase: str) -> dict[str, Any]:
    """Return the newest record of what a phase was trained on; raises ConfigError where there is none."""
    files = sorted(run.glob(f"{phase}-*/{ENVIRONMENT}"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise ConfigError(
            f"{run}: phase {phase} has not begun to train, so there is no step of it to replay."
        )
    try:
        known = json.loads(files[-1].read_text())
        if not isinstance(known, dict):
            raise ValueError("no mapping")
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{files[-1]}: cannot be read ({error}). Train a step more; it is renewed."
        ) from error
    return known


def recorded_workers(known: Mapping[str, Any], *, run: Path) -> int:
    """Return the number of ranks that took the steps; raises ConfigError where it is not recorded."""
    workers = known.get("workers")
    if not isinstance(workers, int) or workers < 1:
        raise ConfigError(
            f"{run}: does not say how many workers the phase was trained on (workers: {workers!r} in its "
            f"{ENVIRONMENT}), and a replay takes as many. Train a step more; it is renewed."
        )
    return workers


def recorded_runtime(known: Mapping[str, Any], *, run: Path, phase: str, device: str | None) -> RuntimeSpec:
    """Return the recorded runtime as one process can follow it."""
    try:
        spec = RuntimeSpec.model_validate(known.get("runtime", {}))
    except ValidationError as error:
        raise ConfigError(f"{run}: phase {phase} was trained by another version of pbr ({error}).") from error
    # Compiling changes rounding and hides the layers; a replay in one process needs no tracker.
    plain = {"compile": False, "trackers": (), "record_batches": False, "profile_steps": 0}
    return spec.model_copy(update={**plain, "device": device or spec.device})
