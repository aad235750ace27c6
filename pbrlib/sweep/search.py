"""Specs of a sweep: phase, search space, sampler, objectives and budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias, TypeGuard

from pydantic import Field, PositiveFloat, model_validator

from pbrlib.curriculum.spec import Curriculum
from pbrlib.spec import Spec

Value: TypeAlias = bool | int | float | str | None
"""A value at an address; each value of a mapping has its own address."""

Params: TypeAlias = Mapping[str, Value]
"""One configuration of a sweep: address -> value."""


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Range(Spec):
    low: float
    high: float

    @model_validator(mode="after")
    def _is_a_range(self) -> _Range:
        if not self.low < self.high:
            raise ValueError(f"got {self.low:g} to {self.high:g}; expected low < high. Swap the values.")
        return self

    def ends(self) -> tuple[Value, ...]:
        """Return the values of the range that are checked before the sweep: both ends."""
        return (self.low, self.high)

    def contains(self, value: object) -> bool:
        """Return whether a value is in the distribution."""
        return _is_number(value) and self.low <= value <= self.high


class UniformSpec(_Range):
    """A number from ``low`` to ``high``, uniformly distributed."""

    kind: Literal["uniform"]


class LogUniformSpec(_Range):
    """A number from ``low`` to ``high``, log-uniformly distributed."""

    kind: Literal["loguniform"]
    low: PositiveFloat


class QUniformSpec(_Range):
    """The numbers from ``low`` to ``high`` in steps of ``step``."""

    kind: Literal["quniform"]
    step: PositiveFloat

    @model_validator(mode="after")
    def _ends_on_a_step(self) -> QUniformSpec:
        steps = (self.high - self.low) / self.step
        if abs(steps - round(steps)) > 1e-6:
            reached = self.low + math.floor(steps) * self.step
            raise ValueError(
                f"got high: {self.high:g}; expected low plus a multiple of {self.step:g}. Set {reached:g}."
            )
        return self

    def contains(self, value: object) -> bool:
        """Return whether a value is in the distribution."""
        return super().contains(value) and _is_number(value) and self._is_on_a_step(value)

    def _is_on_a_step(self, value: float) -> bool:
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-8


class RandIntSpec(Spec):
    """The whole numbers from ``low`` to ``high``, both included."""

    kind: Literal["randint"]
    low: int
    high: int

    @model_validator(mode="after")
    def _is_a_range(self) -> RandIntSpec:
        if not self.low < self.high:
            raise ValueError(f"got {self.low} to {self.high}; expected low < high. Swap the values.")
        return self

    def ends(self) -> tuple[Value, ...]:
        """Return the values of the range that are checked before the sweep: both ends."""
        return (self.low, self.high)

    def contains(self, value: object) -> bool:
        """Return whether a value is in the distribution."""
        return _is_number(value) and isinstance(value, int) and self.low <= value <= self.high


class _Listed(Spec):
    values: Sequence[Value] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> _Listed:
        if len(set(map(repr, self.values))) < len(self.values):
            raise ValueError("got a value twice; expected different values. Remove one.")
        return self

    def ends(self) -> tuple[Value, ...]:
        """Return the values that are checked before the sweep: all of them."""
        return tuple(self.values)

    def contains(self, value: object) -> bool:
        """Return whether a value is in the distribution."""
        return any(
            value == known and isinstance(value, bool) == isinstance(known, bool) for known in self.values
        )


class ChoiceSpec(_Listed):
    """One of ``values``, unordered and with equal probability."""

    kind: Literal["choice"]


class GridSpec(_Listed):
    """All ``values``, for the grid sampler, which tries every combination of all addresses."""

    kind: Literal["grid"]


Distribution: TypeAlias = Annotated[
    UniformSpec | LogUniformSpec | QUniformSpec | RandIntSpec | ChoiceSpec | GridSpec,
    Field(discriminator="kind"),
]


class RandomSamplerSpec(Spec):
    """Random search: every configuration is drawn independently."""

    kind: Literal["random"]


class GridSamplerSpec(Spec):
    """Grid search: every configuration of the grid, in order."""

    kind: Literal["grid"]


class TpeSamplerSpec(Spec):
    """Optuna's tree-structured Parzen estimator, after ``startup`` random configurations."""

    kind: Literal["tpe"]
    startup: int = Field(default=10, ge=1)


class NsgaSamplerSpec(Spec):
    """Optuna's NSGA-II for several objectives."""

    kind: Literal["nsga2"]
    population: int = Field(default=20, ge=2)


Sampler: TypeAlias = Annotated[
    RandomSamplerSpec | GridSamplerSpec | TpeSamplerSpec | NsgaSamplerSpec, Field(discriminator="kind")
]


class Objective(Spec):
    """A validation metric and whether it is minimised or maximised."""

    metric: str
    mode: Literal["min", "max"]


class AshaSpec(Spec):
    """Asynchronous successive halving (Li et al. 2020), by Optuna's pruner, on the first objective.

    Attributes:
        grace: Number of validations before a trial can be stopped.
        reduction: At each rung, one of this many trials continues; the next rung is later by this factor.
    """

    grace: int = Field(default=1, ge=1)
    reduction: int = Field(default=3, ge=2)


class LimitsSpec(Spec):
    """The budget of a sweep.

    Attributes:
        hours: Hours after which all trials are stopped; the same command resumes them. None is unlimited.
        parallel: Maximum number of parallel trials; None is limited only by the resources of the cluster.
    """

    hours: PositiveFloat | None = None
    parallel: int | None = Field(default=None, ge=1)


class SearchSpec(Spec):
    """One sweep over one phase.

    Attributes:
        curriculum: File of the curriculum, relative to the search file.
        phase: The phase that is trained, with its donors.
        space: Address in the curriculum -> distribution of its values.
        objectives: The metrics to optimise; several give a Pareto front.
        sampler: The algorithm that proposes configurations.
        asha: Stops bad trials early; None disables this.
        num_trials: Number of configurations; None is the full grid, for the grid sampler only.
        repeats: Number of seeds per configuration; configurations are ranked by the mean over seeds.
        seed: Seed of the sampler. The repeats use the seed of the curriculum and the following ones.
        limits: Time and number of parallel trials.
    """

    curriculum: str
    phase: str
    space: Mapping[str, Distribution] = Field(min_length=1)
    objectives: Sequence[Objective] = Field(min_length=1)
    sampler: Sampler = RandomSamplerSpec(kind="random")
    asha: AshaSpec | None = None
    num_trials: int | None = Field(default=None, ge=1)
    repeats: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    limits: LimitsSpec = LimitsSpec()

    def grid(self) -> list[Params]:
        """Return all configurations of the grid; the values of the last address change fastest."""
        listed = {name: spec.values for name, spec in self.space.items() if isinstance(spec, GridSpec)}
        return [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]

    def corners(self) -> Iterator[Params]:
        """Yield configurations in which every address has each of its ends or values at least once."""
        ends = {name: distribution.ends() for name, distribution in self.space.items()}
        for number in range(max(map(len, ends.values()))):
            yield {name: values[min(number, len(values) - 1)] for name, values in ends.items()}

    @property
    def size(self) -> int:
        """Number of configurations to try."""
        return self.num_trials if self.num_trials is not None else len(self.grid())


def overrides_of(params: Params) -> list[str]:
    """Return a configuration as arguments of ``--set``."""
    import yaml

    return [f"{address}={_scalar(yaml.safe_dump(value))}" for address, value in params.items()]


def _scalar(text: str) -> str:
    return text.removesuffix("\n...\n").strip()


def without_gates(curriculum: Curriculum) -> Curriculum:
    """Return the curriculum without gates, since a sweep compares its trials with each other instead."""
    phases = {name: phase.model_copy(update={"gate": None}) for name, phase in curriculum.phases.items()}
    return curriculum.model_copy(update={"phases": phases})
