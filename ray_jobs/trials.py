"""A sweep's trials on Ray Tune: each is the very fit of a single run, in a folder of its own."""

from __future__ import annotations

import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.util.placement_group import PlacementGroup

from pbrlib.curriculum.draws import phase_plan
from pbrlib.curriculum.run import PhaseJob, carry_out
from pbrlib.curriculum.search import Params
from pbrlib.curriculum.study import Configuration, Outcome, SweepStudy
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import PbrError
from pbrlib.train.runs import FinishedPhase, write_atomically
from ray_jobs.fit import launch_on_ray, pbr_error_in
from ray_jobs.sweep import Sweep

OUTCOME = "outcome.json"
"""How a trial ended, left by itself: its process may be gone before anybody asks."""

NEXT_TO_NOTHING = {"memory": 1.0}
"""What a trial's own process holds, in bytes: it only waits for its fit. Tune takes no empty demand, and a
share of a CPU would keep the last fit that a cluster has room for from being placed."""

_QUIET = {
    # Ctrl-C is an interrupt, as everywhere; Tune would end quietly, as if it were done.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The study is the record; Tune's own files of every trial are nobody's.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Its newer output prints tables at any verbosity.
    "RAY_AIR_NEW_OUTPUT": "0",
}

Announce = Callable[[Configuration], None]


class _ToTheSweep(TuneReportCallback):
    """Passes the reports of a fit on, with a handle of what would outlive a trial that is stopped."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Runs in the controller of the fit, an actor."""
        own = ray.get_runtime_context().current_actor
        controller = ray.cloudpickle.dumps(own).hex()  # type: ignore[no-untyped-call]
        super().after_report(run_context, [{**metrics[0], "controller": controller}], checkpoint)


def release(report: Mapping[str, Any]) -> None:
    """Ends the fit of a trial whose process Tune ends, and gives its place back, by what it reported last.

    Train's own cleaner asks the state API, which needs a dashboard and no second Ray on the machine.
    """
    if "controller" not in report:
        return
    # First the controller: it would start its workers anew in another place.
    ray.kill(ray.cloudpickle.loads(bytes.fromhex(report["controller"])))
    group = ray.PlacementGroupID(bytes.fromhex(report["placement_group"]))
    ray.util.remove_placement_group(PlacementGroup(group))


def train_trial(config: Mapping[str, Any]) -> None:
    """What Tune runs: the fit of a single run, whose reports go to the sweep too."""
    job: PhaseJob = config["job"]
    callbacks = [_ToTheSweep()]
    started = time.monotonic()

    def launch(job: PhaseJob) -> Path:
        return launch_on_ray(job, callbacks=callbacks)

    try:
        done = carry_out(job, launch)
    except RayActorError:
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
    write_atomically(folder / OUTCOME, json.dumps(asdict(outcome)))


def left_outcome(folder: Path) -> Outcome | None:
    """What a trial says of its end; None where it has not ended by itself."""
    path = folder / OUTCOME
    if not path.is_file():
        return None
    entry = json.loads(path.read_text())
    return Outcome(**{**entry, "values": tuple(entry["values"])})


class StudySearcher(Searcher):
    """Hands Tune what the study proposes, and the study what became of it.

    What an interrupted command left running comes first: it goes on from its checkpoint.
    """

    def __init__(self, study: SweepStudy, sweep: Sweep, *, announce: Announce) -> None:
        super().__init__()
        self._study, self._sweep, self._announce = study, sweep, announce
        self._waiting = deque[tuple[int, Params, int]]()
        self._running: dict[str, tuple[int, int]] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self.stopped: dict[str, dict[str, Any]] = {}
        for configuration in study.unfinished():
            self._queue(configuration)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune saves its searcher, and the study alone is the state of a sweep."""
        return {}

    def number_of(self, trial_id: str) -> int:
        """The configuration of a running trial."""
        return self._running[trial_id][0]

    def suggest(self, trial_id: str) -> Any:
        """The next repeat of a configuration that can be run."""
        while True:
            if not self._waiting:
                configuration = self._study.ask()
                if configuration is None:
                    return Searcher.FINISHED
                self._queue(configuration)
            number, params, repeat = self._waiting.popleft()
            left = left_outcome(self._sweep.folder(number, repeat))
            if left is not None:
                self._end(number, repeat, left)
                continue
            try:
                job = self._sweep.job(number, params, repeat)
            except PbrError as error:
                self._end(number, repeat, Outcome("failed", reason=str(error)))
                continue
            self._running[trial_id] = (number, repeat)
            objectives = [one.metric for one in self._sweep.search.spec.objectives]
            length = None if self._study.spec.asha is None else _length(job)
            return {
                "job": job,
                "objectives": objectives,
                "number": number,
                "repeat": repeat,
                "length": length,
            }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps the last report, by which a trial can be cleared away."""
        self._last[trial_id] = result

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Notes the end of a trial; one that was neither ended nor stopped stays running, to be resumed."""
        number, repeat = self._running.pop(trial_id)
        last = self._last.pop(trial_id, {})
        outcome = left_outcome(self._sweep.folder(number, repeat))
        if outcome is None:
            release(self.stopped.get(trial_id, last))
        if (stop := self.stopped.pop(trial_id, None)) is not None:
            first = self._sweep.search.spec.objectives[0].metric
            outcome = Outcome(
                "stopped",
                values=(stop[first],),
                seconds=stop.get("time_total_s", 0.0),
                step=int(stop["step"]),
            )
        elif outcome is None and error:
            outcome = Outcome("failed", reason="its process died. Ray's logs say more: ray list actors.")
        if outcome is not None:
            self._end(number, repeat, outcome)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is in its file."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the study is in its file."""

    def _queue(self, configuration: Configuration) -> None:
        for repeat in range(self._study.spec.repeats):
            if repeat not in configuration.outcomes:
                self._waiting.append((configuration.number, configuration.params, repeat))

    def _end(self, number: int, repeat: int, outcome: Outcome) -> None:
        self._announce(self._study.end(number, repeat=repeat, outcome=outcome))


class StudyScheduler(FIFOScheduler):
    """Asks the study's pruner after each validation."""

    def __init__(self, study: SweepStudy, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._study, self._searcher = study, searcher

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as the searcher."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stops a trial that ASHA drops."""
        first = self._study.spec.objectives[0].metric
        if self._study.spec.asha is None or first not in result:
            return self.CONTINUE
        number, length = self._searcher.number_of(trial.trial_id), trial.config["length"]
        validation = math.ceil(result["step"] / length["segment_steps"])
        drop = self._study.should_stop(number, value=result[first], validation=validation)
        # At its last validation a trial has cost what it costs: it is finished, not stopped.
        if not drop or result["step"] >= length["total_steps"]:
            return self.CONTINUE
        self._searcher.stopped[trial.trial_id] = result
        return self.STOP


def run_trials(study: SweepStudy, sweep: Sweep, *, room: int, announce: Announce) -> None:
    """Runs trials until the study wants no more, or its time is over.

    Args:
        study: Of the sweep.
        sweep: What its trials train.
        room: How many at once.
        announce: Told of every configuration of which a repeat has ended.
    """
    os.environ.update(_QUIET)
    spec = sweep.search.spec
    searcher = StudySearcher(study, sweep, announce=announce)
    scheduler = StudyScheduler(study, searcher)
    attempts = len(list((sweep.out / "tune").glob("attempt-*")))
    tuner = tune.Tuner(
        tune.with_resources(train_trial, NEXT_TO_NOTHING),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=spec.size * spec.repeats,
            max_concurrent_trials=room,
            time_budget_s=None if spec.limits.hours is None else spec.limits.hours * 3600,
            trial_name_creator=lambda trial: _name(sweep, trial.config),
            trial_dirname_creator=lambda trial: f"{trial.config['number']:04d}-{trial.config['repeat']}",
        ),
        run_config=tune.RunConfig(
            name=f"attempt-{attempts + 1}", storage_path=str(sweep.out / "tune"), verbose=0
        ),
    )
    tuner.fit()


def _length(job: PhaseJob) -> dict[str, int]:
    """Steps of a trial, and between two of its validations."""
    plan = phase_plan(job.curriculum, job.phase, ShardSet.open(job.shards).rows)
    segment = job.curriculum.phases[job.phase].segment_steps or plan.steps_per_epoch
    return {"total_steps": plan.total_steps, "segment_steps": segment}


def _name(sweep: Sweep, config: Mapping[str, Any]) -> str:
    repeats = f".{config['repeat']}" if sweep.search.spec.repeats > 1 else ""
    return f"{sweep.title} {config['number']}{repeats}"
