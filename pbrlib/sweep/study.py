"""Keeps the state of a sweep in an Optuna study, in a file of the sweep's folder."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, assert_never

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from pbrlib import storage
from pbrlib.curriculum.spec import plain
from pbrlib.errors import ConfigError
from pbrlib.seeds import mix
from pbrlib.sweep.search import Distribution, Params, SearchSpec
from pbrlib.sweep.searchfile import Search, present_values

STUDY, SWEEP = "study.db", "sweep.json"
_BASELINE = "baseline"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one repeat of a configuration.

    ``values`` are the objectives at the best checkpoint, in order. ``reason`` is the reason of a failure.
    """

    state: Literal["finished", "failed", "stopped"]
    values: tuple[float, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    step: int = 0


@dataclass(frozen=True)
class Configuration:
    """One configuration of the search with its state; ``outcomes`` are by the number of the repeat.

    The baseline has the values of the unchanged curriculum.
    """

    number: int
    params: Params
    state: Literal["running", "finished", "failed", "stopped"]
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    is_baseline: bool = False

    @property
    def label(self) -> str:
        """The number of the configuration, marked if it is the baseline."""
        return f"{self.number} (baseline)" if self.is_baseline else str(self.number)

    @property
    def reason(self) -> str:
        """The reason of a failure; empty without one."""
        return next((outcome.reason for outcome in self.outcomes.values() if outcome.state == "failed"), "")

    def values(self, objective: int) -> list[float]:
        """Return the values of one objective in the repeats that have it."""
        return [
            outcome.values[objective] for outcome in self.outcomes.values() if len(outcome.values) > objective
        ]


class SweepStudy:
    """Proposes configurations and stores their outcomes; only one process may write.

    A reopened study continues: finished trials are kept, and trials that were running are started again.
    ``overrides`` are the overrides of the curriculum of every trial.
    """

    def __init__(
        self,
        folder: Path,
        *,
        spec: SearchSpec,
        name: str,
        overrides: Sequence[str],
        baseline: Params | None = None,
        epochs: int | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.spec, self.folder, self.overrides, self.epochs = spec, folder, overrides, epochs
        folder.mkdir(parents=True, exist_ok=True)
        self.study = optuna.create_study(
            storage=f"sqlite:///{(folder / STUDY).resolve()}",
            study_name=name,
            sampler=_sampler(spec, drawn=0),
            pruner=_pruner(spec),
            directions=[
                "maximize" if objective.mode == "max" else "minimize" for objective in spec.objectives
            ],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.set_metric_names([objective.metric for objective in spec.objectives])
        waiting: list[Params] = spec.grid() if spec.sampler.kind == "grid" else []
        if baseline is not None and (not waiting or baseline in waiting):
            waiting = [baseline, *(params for params in waiting if params != baseline)]
        for params in waiting[len(self._trials()) :]:
            attributes = {_BASELINE: True} if params == baseline else None
            self.study.enqueue_trial(dict(params), user_attrs=attributes)

    @classmethod
    def begin(cls, folder: Path, search: Search, *, about: Mapping[str, str]) -> SweepStudy:
        """Open the study of a search; create it if it does not exist.

        Args:
            folder: The folder of the sweep.
            search: The search.
            about: Everything else that the results depend on: shards, precision.

        Raises:
            ConfigError: The folder has another sweep.
        """
        current = _identity(search, about)
        path = folder / SWEEP
        if path.exists():
            known = json.loads(path.read_text())
            if known["identity"] != current["identity"]:
                parts = current["parts"]
                differing = [key for key in parts if parts[key] != known["parts"].get(key)]
                raise ConfigError(
                    f"{folder}: got a sweep of {known['search']} with other {', '.join(differing)}; "
                    "expected the same sweep, of which only num_trials and limits may change. Give another "
                    "--out, or the previous files."
                )
        storage.write_atomic(path, json.dumps(current, indent=1))
        return cls(
            folder,
            spec=search.spec,
            name=search.name,
            overrides=search.overrides,
            baseline=present_values(search),
            epochs=current["epochs"],
        )

    @classmethod
    def open(cls, folder: Path) -> SweepStudy:
        """Open an existing sweep; raises ConfigError if there is none."""
        path = folder / SWEEP
        if not path.is_file() or not (folder / STUDY).is_file():
            raise ConfigError(
                f"{folder}: got a folder without a sweep; expected the folder of a sweep. Give the "
                "--out of pbr tune."
            )
        about: dict[str, Any] = json.loads(path.read_text())
        spec = SearchSpec.model_validate(about["spec"])
        return cls(
            folder,
            spec=spec,
            name=about["search"],
            overrides=about["overrides"],
            epochs=about.get("epochs"),
        )

    def unfinished(self) -> list[Configuration]:
        """Return the configurations that were started and have not ended, the oldest first."""
        return [found for found in self.configurations() if found.state == "running"]

    def ask(self) -> Configuration | None:
        """Return a new configuration; None if the number of configurations is reached."""
        started = [trial for trial in self._trials() if trial.state != TrialState.WAITING]
        if len(started) >= self.spec.size:
            return None
        # Seeded by the number of draws, so that a resumed sweep does not repeat earlier configurations.
        self.study.sampler = _sampler(self.spec, drawn=len(started))
        trial = self.study.ask()
        params = {name: _suggest(trial, name, distribution) for name, distribution in self.spec.space.items()}
        return Configuration(trial.number, params, "running", is_baseline=_BASELINE in trial.user_attrs)

    def should_stop(self, number: int, *, value: float, validation: int) -> bool:
        """Record the first objective of a validation; returns whether ASHA stops the trial."""
        if self.spec.asha is None:
            return False
        trial = Trial(self.study, self._trials()[number]._trial_id)
        if validation not in self._trials()[number].intermediate_values:
            trial.report(value, validation)
        return trial.should_prune()

    def end(self, number: int, *, repeat: int, outcome: Outcome) -> Configuration:
        """Record the outcome of one repeat; the last repeat ends the configuration."""
        frozen = self._trials()[number]
        Trial(self.study, frozen._trial_id).set_user_attr(f"repeat {repeat}", json.dumps(asdict(outcome)))
        configuration = self.configurations()[number]
        if len(configuration.outcomes) == self.spec.repeats:
            self._report(configuration)
        return self.configurations()[number]

    def configurations(self) -> list[Configuration]:
        """Return all configurations that were started, in order."""
        return [_configuration(trial) for trial in self._trials() if trial.state != TrialState.WAITING]

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _report(self, configuration: Configuration) -> None:
        states = {outcome.state for outcome in configuration.outcomes.values()}
        if "failed" in states:
            self.study.tell(configuration.number, state=TrialState.FAIL)
        elif "stopped" in states:
            self.study.tell(configuration.number, state=TrialState.PRUNED)
        else:
            means = [
                sum(values) / len(values)
                for values in (configuration.values(place) for place in range(len(self.spec.objectives)))
            ]
            self.study.tell(configuration.number, means)


def _identity(search: Search, about: Mapping[str, str]) -> dict[str, Any]:
    spec = plain(search.spec)
    fixed = {key: value for key, value in spec.items() if key not in ("num_trials", "limits")}
    curriculum = plain(search.curriculum)
    parts = {
        name: hashlib.sha256(json.dumps(part, sort_keys=False).encode()).hexdigest()
        for name, part in {"search": fixed, "curriculum": curriculum, **about}.items()
    }
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return {
        "search": search.name,
        "identity": identity,
        "parts": parts,
        "curriculum": str(search.curriculum_file),
        "overrides": list(search.overrides),
        "epochs": search.curriculum.phases[search.spec.phase].epochs,
        "spec": spec,
    }


def _configuration(frozen: FrozenTrial) -> Configuration:
    states: dict[TrialState, Literal["running", "finished", "failed", "stopped"]] = {
        TrialState.RUNNING: "running",
        TrialState.COMPLETE: "finished",
        TrialState.FAIL: "failed",
        TrialState.PRUNED: "stopped",
    }
    outcomes = {}
    for key, text in sorted(frozen.user_attrs.items()):
        if key.startswith("repeat "):
            entry = json.loads(text)
            entry["values"] = tuple(entry["values"])
            outcomes[int(key.removeprefix("repeat "))] = Outcome(**entry)
    return Configuration(
        frozen.number,
        dict(frozen.params),
        states[frozen.state],
        dict(sorted(outcomes.items())),
        is_baseline=_BASELINE in frozen.user_attrs,
    )


def _sampler(spec: SearchSpec, *, drawn: int) -> optuna.samplers.BaseSampler:
    sampler, seed = spec.sampler, mix(spec.seed, "configuration", drawn) % 2**32
    match sampler.kind:
        case "random" | "grid":
            return optuna.samplers.RandomSampler(seed=seed)
        case "tpe":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=sampler.startup, constant_liar=True, multivariate=True
                )
        case "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=sampler.population)
        case _:
            assert_never(sampler.kind)


def _pruner(spec: SearchSpec) -> optuna.pruners.BasePruner:
    if spec.asha is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=spec.asha.grace, reduction_factor=spec.asha.reduction
    )


def _suggest(trial: Trial, address: str, distribution: Distribution) -> Any:
    match distribution.kind:
        case "uniform":
            return trial.suggest_float(address, distribution.low, distribution.high)
        case "loguniform":
            return trial.suggest_float(address, distribution.low, distribution.high, log=True)
        case "quniform":
            return trial.suggest_float(address, distribution.low, distribution.high, step=distribution.step)
        case "randint":
            return trial.suggest_int(address, distribution.low, distribution.high)
        case "choice" | "grid":
            return trial.suggest_categorical(address, list(distribution.values))
        case _:
            assert_never(distribution.kind)
