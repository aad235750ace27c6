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
"""A value of an address; a mapping is set value by value, each by its own address."""

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
            raise ValueError(f"{self.low:g} to {self.high:g} is no range. Give low < high.")
        return self

    def ends(self) -> tuple[Value, ...]:
        """The values at which a range is checked."""
        return (self.low, self.high)

    def holds(self, value: object) -> bool:
        """Whether a value may be drawn."""
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
            raise ValueError(f"steps of {self.step:g} do not reach {self.high:g}. Give high: {reached:g}.")
        return self

    def holds(self, value: object) -> bool:
        """Whether a value may be drawn."""
        return super().holds(value) and _is_number(value) and self._is_on_a_step(value)

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
            raise ValueError(f"{self.low} to {self.high} is no range. Give low < high.")
        return self

    def ends(self) -> tuple[Value, ...]:
        """The values at which a range is checked."""
        return (self.low, self.high)

    def holds(self, value: object) -> bool:
        """Whether a value may be drawn."""
        return _is_number(value) and isinstance(value, int) and self.low <= value <= self.high


class _Listed(Spec):
    values: Sequence[Value] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> _Listed:
        if len(set(map(repr, self.values))) < len(self.values):
            raise ValueError("a value stands twice. Keep one.")
        return self

    def ends(self) -> tuple[Value, ...]:
        """All values: each is checked."""
        return tuple(self.values)

    def holds(self, value: object) -> bool:
        """Whether a value may be drawn."""
        return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.values)


class ChoiceSpec(_Listed):
    """One of ``values``, unordered and with equal probability."""

    kind: Literal["choice"]


class GridSpec(_Listed):
    """Every one of ``values``: the grid sampler visits the product of all addresses."""

    kind: Literal["grid"]


Distribution: TypeAlias = Annotated[
    UniformSpec | LogUniformSpec | QUniformSpec | RandIntSpec | ChoiceSpec | GridSpec,
    Field(discriminator="kind"),
]


class RandomSamplerSpec(Spec):
    """Random search: every configuration is drawn independently."""

    kind: Literal["random"]


class GridSamplerSpec(Spec):
    """Every configuration of the grid, in its order."""

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
        grace: Validations that every trial may see.
        reduction: Of the trials at a rung one in so many goes on; the next rung is that much further.
    """

    grace: int = Field(default=1, ge=1)
    reduction: int = Field(default=3, ge=2)


class LimitsSpec(Spec):
    """The budget of a sweep.

    Attributes:
        hours: After so long no trial goes on; the same command resumes. None is without end.
        parallel: Trials at once; fewer where the cluster has less room. None is as many as there is room for.
    """

    hours: PositiveFloat | None = None
    parallel: int | None = Field(default=None, ge=1)


class SearchSpec(Spec):
    """One sweep over one phase.

    Attributes:
        curriculum: Its file, from the folder of the search file on.
        phase: The one that is trained, from the donors that it names.
        space: Address in the curriculum -> where its values come from.
        objectives: One, or several for a front of them.
        sampler: Who proposes configurations.
        asha: Stops the worse trials early; None lets all go on to their end.
        num_trials: Configurations; None is the whole grid, for the grid sampler alone.
        repeats: Seeds that each configuration is trained with; the mean over them ranks.
        seed: Of the sampler. The networks have the seed of the curriculum and those after it.
        limits: Time and trials at once.
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
        """All configurations of a space that is listed whole, the last address turning fastest."""
        listed = {name: one.values for name, one in self.space.items() if isinstance(one, GridSpec)}
        return [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]

    def corners(self) -> Iterator[Params]:
        """Configurations in which every address takes each of its ends or values at least once."""
        ends = {name: one.ends() for name, one in self.space.items()}
        for number in range(max(map(len, ends.values()))):
            yield {name: values[min(number, len(values) - 1)] for name, values in ends.items()}

    @property
    def size(self) -> int:
        """Number of configurations to try."""
        return self.num_trials if self.num_trials is not None else len(self.grid())


def overrides_of(params: Params) -> list[str]:
    """A configuration as ``--set`` takes it."""
    import yaml

    return [f"{address}={_scalar(yaml.safe_dump(value))}" for address, value in params.items()]


def _scalar(text: str) -> str:
    return text.removesuffix("\n...\n").strip()


def without_gates(curriculum: Curriculum) -> Curriculum:
    """A sweep compares trials with each other; whether one passes a gate is for the run that follows."""
    phases = {name: phase.model_copy(update={"gate": None}) for name, phase in curriculum.phases.items()}
    return curriculum.model_copy(update={"phases": phases})
