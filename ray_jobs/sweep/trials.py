"""Run the trials of a sweep on Ray Tune."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from pbrlib.curriculum.draws import phase_plan
from pbrlib.curriculum.run import PhaseJob
from pbrlib.data.shards.union import open_data
from pbrlib.errors import PbrError
from pbrlib.sweep.search import Params
from pbrlib.sweep.study import Configuration, Outcome, SweepStudy
from pbrlib.train.record.codestate import note_command
from ray_jobs.fit.placement import read_placement, release
from ray_jobs.sweep.sweepjobs import Sweep
from ray_jobs.sweep.trial import read_outcome, train_trial

TRIAL_RESOURCES = {"memory": 1.0}
"""Resources of a trial's own process, which only waits for its fit: one byte of memory. Tune needs a demand,
and a share of a CPU could prevent the placement of the last fit that the cluster has room for."""

_QUIET = {
    # Ctrl-C has to raise KeyboardInterrupt; Tune would return as if the sweep had finished.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The study is the record; nobody reads the log files that Tune writes for each trial.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The newer output of Tune prints tables at any verbosity.
    "RAY_AIR_NEW_OUTPUT": "0",
}

Announce = Callable[[Configuration], None]


class StudySearcher(Searcher):
    """Pass the proposals of the study to Tune, and the outcomes of the trials to the study.

    Trials that an interrupted command left unfinished come first; they resume from their checkpoints.
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
        """Return no state: Tune pickles its searcher, but only the study is the state of a sweep."""
        return {}

    def number_of(self, trial_id: str) -> int:
        """Return the number of the configuration of a running trial."""
        return self._running[trial_id][0]

    def suggest(self, trial_id: str) -> Any:
        """Return the next repeat of a configuration that can be run; FINISHED if there is none."""
        while True:
            if not self._waiting:
                configuration = self._study.ask()
                if configuration is None:
                    return Searcher.FINISHED
                self._queue(configuration)
            number, params, repeat = self._waiting.popleft()
            earlier = read_outcome(self._sweep.folder(number, repeat))
            if earlier is not None:
                self._end(number, repeat, earlier)
                continue
            try:
                job = self._sweep.job(number, params, repeat)
            except PbrError as error:
                self._end(number, repeat, Outcome("failed", reason=str(error)))
                continue
            note_command(job.directory)  # the trial runs in a process of Ray, which has another command line
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
        """Keep the last report of a trial, which names the resources to release at its end."""
        self._last[trial_id] = result

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record the outcome of a trial; a trial without an outcome stays unfinished and can be resumed."""
        number, repeat = self._running.pop(trial_id)
        last = self._last.pop(trial_id, {})
        outcome = read_outcome(self._sweep.folder(number, repeat))
        if outcome is None:
            release(self.stopped.get(trial_id, last) or read_placement(self._sweep.folder(number, repeat)))
        if (stop := self.stopped.pop(trial_id, None)) is not None:
            first = self._sweep.search.spec.objectives[0].metric
            outcome = Outcome(
                "stopped",
                values=(stop[first],),
                seconds=stop.get("time_total_s", 0.0),
                step=int(stop["step"]),
            )
        elif outcome is None and error:
            outcome = Outcome("failed", reason="its process died. See Ray's logs: ray list actors.")
        if outcome is not None:
            self._end(number, repeat, outcome)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study is in its file."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the study is in its file."""

    def _queue(self, configuration: Configuration) -> None:
        for repeat in range(self._study.spec.repeats):
            if repeat not in configuration.outcomes:
                self._waiting.append((configuration.number, configuration.params, repeat))

    def _end(self, number: int, repeat: int, outcome: Outcome) -> None:
        self._announce(self._study.end(number, repeat=repeat, outcome=outcome))


class StudyScheduler(FIFOScheduler):
    """Ask the study's pruner after each validation whether the trial should stop."""

    def __init__(self, study: SweepStudy, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._study, self._searcher = study, searcher

    def __getstate__(self) -> dict[str, Any]:
        """Return no state, as `StudySearcher` does."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a trial that ASHA prunes."""
        first = self._study.spec.objectives[0].metric
        if self._study.spec.asha is None or first not in result:
            return self.CONTINUE
        number, length = self._searcher.number_of(trial.trial_id), trial.config["length"]
        validation = math.ceil(result["step"] / length["segment_steps"])
        prune = self._study.should_stop(number, value=result[first], validation=validation)
        # A trial at its last validation has no cost left to save: it finishes.
        if not prune or result["step"] >= length["total_steps"]:
            return self.CONTINUE
        self._searcher.stopped[trial.trial_id] = result
        return self.STOP


def run_trials(study: SweepStudy, sweep: Sweep, *, room: int, announce: Announce) -> None:
    """Run trials until the study proposes none, or until its time limit.

    Args:
        study: Study of the sweep.
        sweep: Search, data and machines of the trials.
        room: Number of trials at once.
        announce: Called with the configuration when one of its repeats has ended.
    """
    os.environ.update(_QUIET)
    # The reason of a failure is in the line of its trial; Tune would add a traceback of its own code.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    spec = sweep.search.spec
    searcher = StudySearcher(study, sweep, announce=announce)
    scheduler = StudyScheduler(study, searcher)
    attempts = len(list((sweep.out / "tune").glob("attempt-*")))
    tuner = tune.Tuner(
        tune.with_resources(train_trial, TRIAL_RESOURCES),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=spec.size * spec.repeats,
            max_concurrent_trials=room,
            # A reused process does not repeat its imports. After a stopped trial it would first have to end
            # the fit, and Tune fails the next trial if that takes more than two seconds.
            reuse_actors=spec.asha is None,
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
    """Return the steps of a trial, and those between two validations."""
    shards = open_data(job.data, on_bad_sample=job.runtime.on_bad_sample)
    plan = phase_plan(job.curriculum, job.phase, shards.rows)
    segment = job.curriculum.phases[job.phase].segment_steps or plan.steps_per_epoch
    return {"total_steps": plan.total_steps, "segment_steps": segment}


def _name(sweep: Sweep, config: Mapping[str, Any]) -> str:
    repeats = f".{config['repeat']}" if sweep.search.spec.repeats > 1 else ""
    return f"{sweep.title} {config['number']}{repeats}"
