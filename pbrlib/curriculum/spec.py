"""A run, declared whole: what is learned, and the phases that teach it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PositiveFloat, StringConstraints, field_validator, model_validator

from pbrlib.data.augment.pipeline import AugmentSpec
from pbrlib.data.draws.balance import BalanceSpec
from pbrlib.data.draws.mosaic import MosaicSpec
from pbrlib.losses.lossspec import LossSpec
from pbrlib.optim.optimizerspec import OptimizerSpec
from pbrlib.optim.schedules import ScheduleSpec
from pbrlib.spec import Spec
from pbrlib.tasks.taskspec import TaskSpec
from pbrlib.train.record.rundirectory import MODEL
from pbrlib.train.runtimespec import Selection

Slug: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
PhaseName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
Share: TypeAlias = Annotated[float, Field(gt=0)]

_REFERENCE = re.compile(r"^(?P<curriculum>[a-z0-9][a-z0-9_-]*)(?:\.(?P<phase>[A-Za-z][A-Za-z0-9_-]*))?$")


class GateSpec(Spec):
    """What a phase must reach for the ladder to go on, beside a phase before it.

    The error is the family's own (1 - mIoU, or L1) over whole validation textures of one source. A gate
    decides on what follows and changes nothing of the phase, so it is no part of its fingerprint.

    Attributes:
        against: The phase compared with; None is the one before in the curriculum.
        ratios: For each source the largest allowed share of that phase's error.
        window: The last validations of each phase whose mean is compared; all of them where there are fewer.
    """

    against: str | None = None
    ratios: Mapping[str, PositiveFloat] = Field(min_length=1)
    window: int = Field(ge=1)


class BatchScale(Spec):
    """Larger batches for large machines, all phases alike.

    Attributes:
        factor: Multiplies every batch.
        learning_rate: How every rate follows: not at all, with the root of the factor, or in proportion.
    """

    factor: int = Field(ge=1)
    learning_rate: Literal["none", "sqrt", "linear"]

    @property
    def rate_factor(self) -> float:
        """What multiplies every learning rate."""
        powers = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}
        return float(self.factor ** powers[self.learning_rate])


class PhaseSpec(Spec):
    """One stage of training: where it starts, what it sees, how it learns.

    Attributes:
        starts_from: None (fresh weights), an earlier phase of this curriculum, ``other.PHASE`` or ``other``
            (its last phase) for a curriculum in the same runs directory, or a path to a checkpoint.
        epochs: An epoch is as many draws as there are usable training textures, in whole batches.
        crop: Side of the square window, in pixels.
        batch: Samples per optimizer step over all workers together.
        data: Share of each source in the draws; written in any proportion, kept with sum 1.
        balance: What counters the rarity of classes.
        mosaic: Which draws are put together from several textures; None is none.
        augment: What happens to a batch on the device.
        optimizer: Rates and groups of parameters.
        schedule: How the rates change with the steps.
        loss: Weights and settings of the loss terms.
        select: The validation metric that names the best checkpoint; by default the task's own.
        segment_steps: Steps between two validations, each with a checkpoint; None is one epoch.
        steps_per_epoch: Bounds an epoch to that many steps whatever the number of textures, so that a
            smoke run costs the same on any shard set.
        grad_clip: Largest norm of the gradient.
        plateau: Ends the phase at the first validation after that many epochs in which the selection metric
            has not improved; None goes on to the last epoch.
        gate: What the phase must reach for the next one to start.
    """

    starts_from: str | None = None
    epochs: int = Field(ge=1)
    crop: int = Field(ge=16)
    batch: int = Field(ge=1)
    data: Mapping[str, Share] = Field(min_length=1)
    balance: BalanceSpec = BalanceSpec()
    mosaic: MosaicSpec | None = None
    augment: AugmentSpec = AugmentSpec()
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    loss: LossSpec
    select: Selection
    segment_steps: int | None = Field(default=None, ge=1)
    steps_per_epoch: int | None = Field(default=None, ge=1)
    grad_clip: float = Field(default=1.0, gt=0)
    plateau: int | None = Field(default=None, ge=1)
    gate: GateSpec | None = None

    @field_validator("data")
    @classmethod
    def _shares_sum_to_one(cls, data: Mapping[str, float]) -> Mapping[str, float]:
        """Also sorts the sources: their order in a file must not change what is drawn."""
        total = sum(data.values())
        scale = 1.0 if abs(total - 1.0) < 1e-9 else total
        return {name: data[name] / scale for name in sorted(data)}


class Curriculum(Spec):
    """The phases of one task in order; the name is the folder of the run.

    Batches and rates stand as for ``batch_scale`` 1; `pbrlib.curriculum.scale.scaled` applies it.
    """

    name: Slug
    seed: int = Field(default=0, ge=0)
    batch_scale: BatchScale | None = None
    task: TaskSpec
    phases: Mapping[PhaseName, PhaseSpec] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _select_by_task(cls, data: Any) -> Any:
        """A phase that names no metric is judged by its task's default one."""
        if not isinstance(data, Mapping) or not isinstance(data.get("phases"), Mapping):
            return data
        task = data.get("task")
        kind = task.get("kind") if isinstance(task, Mapping) else getattr(task, "kind", None)
        return {
            **data,
            "phases": {
                name: {"select": default_select(str(kind)), **phase} if isinstance(phase, Mapping) else phase
                for name, phase in data["phases"].items()
            },
        }

    @field_validator("name")
    @classmethod
    def _leaves_room_for_the_model(cls, name: str) -> str:
        if name == MODEL:
            raise ValueError(f"{name} is the folder that a finished ladder leaves. Take another name.")
        return name

    def earlier(self, phase: str) -> tuple[str, ...]:
        """The names of the phases before one."""
        names = list(self.phases)
        return tuple(names[: names.index(phase)])


def default_select(kind: str) -> Selection:
    """The metric that judges a task: mean IoU for segmentation, the mean absolute error for a map."""
    if kind == "segmentation":
        return Selection(metric="val/all/segmentation/miou", mode="max")
    return Selection(metric=f"val/all/{kind}/l1", mode="min")


@dataclass(frozen=True)
class OwnPhase:
    """Starting weights from an earlier phase of the same curriculum."""

    phase: str


@dataclass(frozen=True)
class OtherCurriculum:
    """Weights from a curriculum in the same runs directory; phase None is its last one."""

    curriculum: str
    phase: str | None


@dataclass(frozen=True)
class CheckpointPath:
    """Weights from a checkpoint folder anywhere."""

    path: str


Donor: TypeAlias = OwnPhase | OtherCurriculum | CheckpointPath


def parse_donor(reference: str, *, own_phases: tuple[str, ...] = ()) -> Donor:
    """Reads ``starts_from`` or the name of a frozen network.

    A phase of the same curriculum goes first, then ``other`` and ``other.PHASE``; anything else is a path
    (write ``./name`` for a folder whose name looks like a curriculum's).
    """
    if reference in own_phases:
        return OwnPhase(reference)
    match = _REFERENCE.match(reference)
    if match is None:
        return CheckpointPath(reference)
    return OtherCurriculum(match["curriculum"], match["phase"])


def frozen_networks(task: TaskSpec) -> dict[str, str]:
    """The trained networks that a task holds frozen: field of the task -> reference."""
    return {name: getattr(task, name) for name in ("segformer", "albedo") if hasattr(task, name)}


def plain(value: Any) -> Any:
    """A spec as plain mappings, lists and values, with defaults; what is None by default is left out.

    So a term or option that a later version adds, and nobody sets, changes neither the resolved file nor
    a fingerprint.
    """
    if isinstance(value, Spec):
        fields = (
            (name, field.default, getattr(value, name)) for name, field in type(value).model_fields.items()
        )
        return {
            name: plain(entry) for name, default, entry in fields if not (entry is None and default is None)
        }
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value
