"""Train one trial of a sweep like a single run, in its own folder, and record its outcome.

The process of a trial imports this module before it requests its resources, so imports stay few.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pbrlib import storage
from pbrlib.curriculum.run import PhaseJob, carry_out
from pbrlib.sweep.study import Outcome
from pbrlib.train.record.rundirectory import FinishedPhase
from ray_jobs.fit.failures import pbr_error_in
from ray_jobs.fit.fit import LostControllerError, launch_on_ray
from ray_jobs.fit.placement import SweepReportCallback

OUTCOME = "outcome.json"
"""The file in which a trial writes its outcome, because its process may end before the sweep reads it."""


def train_trial(config: Mapping[str, Any]) -> None:
    """Train the phase of one trial and report its metrics to the sweep; Ray Tune's trainable."""
    job: PhaseJob = config["job"]
    callbacks = [SweepReportCallback()]
    started = time.monotonic()

    def launch(job: PhaseJob) -> Path:
        return launch_on_ray(job, callbacks=callbacks)

    try:
        done = carry_out(job, launch)
    except LostControllerError:
        # A stop, an interrupt or a lost node ended the fit from outside, so the trial has no outcome.
        raise
    except Exception as error:
        pbr_error = pbr_error_in(error)
        reason = str(pbr_error) if pbr_error is not None else f"{type(error).__name__}: {error}"
        _write_outcome(job.runs, Outcome("failed", reason=reason, seconds=time.monotonic() - started))
        raise
    _write_outcome(job.runs, _finished(done, config["objectives"]))


def _finished(done: FinishedPhase, objectives: list[str]) -> Outcome:
    missing = [name for name in objectives if name not in done.metrics]
    if missing:
        return Outcome("failed", reason=f"{', '.join(missing)} was not measured.", seconds=done.seconds)
    values = tuple(done.metrics[name] for name in objectives)
    return Outcome("finished", values=values, seconds=done.seconds, step=done.step)


def _write_outcome(folder: Path, outcome: Outcome) -> None:
    storage.write_atomic(folder / OUTCOME, json.dumps(asdict(outcome)))


def read_outcome(folder: Path) -> Outcome | None:
    """Return the outcome that a trial wrote; None where it wrote none."""
    path = folder / OUTCOME
    if not path.is_file():
        return None
    entry = json.loads(path.read_text())
    return Outcome(**{**entry, "values": tuple(entry["values"])})
