"""One trial: the very fit of a single run, in a folder of its own, and how it ended.

The process of a trial imports this module, and waits for little else before it asks for its place.
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
from ray_jobs.fit.placement import ToTheSweep

OUTCOME = "outcome.json"
"""How a trial ended, left by itself: its process may be gone before anybody asks."""


def train_trial(config: Mapping[str, Any]) -> None:
    """What Tune runs: the fit of a single run, whose reports go to the sweep too."""
    job: PhaseJob = config["job"]
    callbacks = [ToTheSweep()]
    started = time.monotonic()

    def launch(job: PhaseJob) -> Path:
        return launch_on_ray(job, callbacks=callbacks)

    try:
        done = carry_out(job, launch)
    except LostControllerError:
        # The fit was ended from outside, by a stop, an interrupt or a lost node: no end of its own.
        raise
    except Exception as error:
        mistake = pbr_error_in(error)
        reason = str(mistake) if mistake is not None else f"{type(error).__name__}: {error}"
        _leave(job.runs, Outcome("failed", reason=reason, seconds=time.monotonic() - started))
        raise
    _leave(job.runs, _finished(done, config["objectives"]))


def _finished(done: FinishedPhase, objectives: list[str]) -> Outcome:
    missing = [name for name in objectives if name not in done.metrics]
    if missing:
        return Outcome("failed", reason=f"{', '.join(missing)} was not measured.", seconds=done.seconds)
    values = tuple(done.metrics[name] for name in objectives)
    return Outcome("finished", values=values, seconds=done.seconds, step=done.step)


def _leave(folder: Path, outcome: Outcome) -> None:
    storage.write_atomic(folder / OUTCOME, json.dumps(asdict(outcome)))


def read_outcome(folder: Path) -> Outcome | None:
    """What a trial says of its end; None where it has not ended by itself."""
    path = folder / OUTCOME
    if not path.is_file():
        return None
    entry = json.loads(path.read_text())
    return Outcome(**{**entry, "values": tuple(entry["values"])})
