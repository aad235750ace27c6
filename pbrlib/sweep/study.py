"""The state of a sweep: an Optuna study in a file of the sweep's folder."""

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

    ``values`` are the objectives in their order, at the best checkpoint; ``reason`` says why it failed.
    """

    state: Literal["finished", "failed", "stopped"]
    values: tuple[float, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    step: int = 0


@dataclass(frozen=True)
class Configuration:
    """One point of the search with what became of it; ``outcomes`` by the number of the repeat.

    The baseline has the values of the curriculum as it is.
    """

    number: int
    params: Params
    state: Literal["running", "finished", "failed", "stopped"]
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    is_baseline: bool = False

    @property
    def label(self) -> str:
        """Its number, and whether it is the curriculum as it is."""
        return f"{self.number} (baseline)" if self.is_baseline else str(self.number)

    @property
    def reason(self) -> str:
        """The reason of a failure; empty without one."""
        return next((one.reason for one in self.outcomes.values() if one.state == "failed"), "")

    def values(self, objective: int) -> list[float]:
        """One objective, for each repeat that has it."""
        return [one.values[objective] for one in self.outcomes.values() if len(one.values) > objective]


class SweepStudy:
    """Proposes configurations and keeps what became of them; one process writes it.

    Opened again it goes on: what is finished stays so, what was running is handed out again. ``overrides``
    changed the curriculum of every trial, beside what is searched.
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
            directions=["maximize" if one.mode == "max" else "minimize" for one in spec.objectives],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.set_metric_names([one.metric for one in spec.objectives])
        waiting: list[Params] = spec.grid() if spec.sampler.kind == "grid" else []
        if baseline is not None and (not waiting or baseline in waiting):
            waiting = [baseline, *(one for one in waiting if one != baseline)]
        for params in waiting[len(self._trials()) :]:
            attributes = {_BASELINE: True} if params == baseline else None
            self.study.enqueue_trial(dict(params), user_attrs=attributes)

    @classmethod
    def begin(cls, folder: Path, search: Search, *, about: Mapping[str, str]) -> SweepStudy:
        """Opens the study of a search, a new one where there is none.

        Args:
            folder: Of the sweep.
            search: What is searched.
            about: What else the figures depend on: shards, precision.

        Raises:
            ConfigError: The folder holds another sweep.
        """
        now = _identity(search, about)
        path = folder / SWEEP
        if path.exists():
            known = json.loads(path.read_text())
            if known["identity"] != now["identity"]:
                differing = [key for key in now["parts"] if now["parts"][key] != known["parts"].get(key)]
                raise ConfigError(
                    f"{folder}: holds a sweep of {known['search']} with other {', '.join(differing)}. "
                    "Give another --out, or the files as they were; num_trials and limits may change."
                )
        storage.write_atomic(path, json.dumps(now, indent=1))
        return cls(
            folder,
            spec=search.spec,
            name=search.name,
            overrides=search.overrides,
            baseline=present_values(search),
            epochs=now["epochs"],
        )

    @classmethod
    def open(cls, folder: Path) -> SweepStudy:
        """An existing sweep; raises ConfigError where there is none."""
        path = folder / SWEEP
        if not path.is_file() or not (folder / STUDY).is_file():
            raise ConfigError(f"{folder}: not the folder of a sweep. Give the --out of a pbr tune.")
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
        """What was handed out and has not ended, the oldest first."""
        return [one for one in self.configurations() if one.state == "running"]

    def ask(self) -> Configuration | None:
        """A new configuration; None when there have been as many as the search wants."""
        handed = [one for one in self._trials() if one.state != TrialState.WAITING]
        if len(handed) >= self.spec.size:
            return None
        # By the number of draws, so that a sweep that was interrupted does not draw the same ones again.
        self.study.sampler = _sampler(self.spec, drawn=len(handed))
        trial = self.study.ask()
        params = {name: _suggest(trial, name, one) for name, one in self.spec.space.items()}
        return Configuration(trial.number, params, "running", is_baseline=_BASELINE in trial.user_attrs)

    def should_stop(self, number: int, *, value: float, validation: int) -> bool:
        """Notes the first objective after so many validations; whether ASHA stops the trial there."""
        if self.spec.asha is None:
            return False
        trial = Trial(self.study, self._trials()[number]._trial_id)
        if validation not in self._trials()[number].intermediate_values:
            trial.report(value, validation)
        return trial.should_prune()

    def end(self, number: int, *, repeat: int, outcome: Outcome) -> Configuration:
        """Notes how one repeat ended; with the last of them the configuration ends."""
        frozen = self._trials()[number]
        Trial(self.study, frozen._trial_id).set_user_attr(f"repeat {repeat}", json.dumps(asdict(outcome)))
        configuration = self.configurations()[number]
        if len(configuration.outcomes) == self.spec.repeats:
            self._tell(configuration)
        return self.configurations()[number]

    def configurations(self) -> list[Configuration]:
        """All that were handed out, in their order."""
        return [_configuration(one) for one in self._trials() if one.state != TrialState.WAITING]

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _tell(self, configuration: Configuration) -> None:
        states = {one.state for one in configuration.outcomes.values()}
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
