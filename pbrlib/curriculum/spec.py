"""Specs of a curriculum: its task, and its phases with players, gates and batch scale."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    Field,
    PositiveFloat,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.draws.drawspec import BalanceSpec, MosaicSpec
from pbrlib.losses.lossspec import LossSpec
from pbrlib.optim.optimizerspec import OptimizerSpec
from pbrlib.optim.schedules import ScheduleSpec
from pbrlib.spec import Spec
from pbrlib.tasks.taskspec import TaskSpec
from pbrlib.train.record.rundirectory import MODEL
from pbrlib.train.runtimespec import Selection

Slug: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)]
PhaseName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=100)]
Share: TypeAlias = Annotated[float, Field(gt=0)]


class GateSpec(Spec):
    """The condition, relative to an earlier phase, that a phase must meet for training to continue.

    The compared error is 1 - mIoU or L1 over the validation textures of one source. A gate does not change
    the training of its phase, so it is not part of the fingerprint.

    Attributes:
        against: The phase to compare with; None is the previous phase.
        ratios: The maximum ratio of the errors of both phases, by source.
        window: Number of last validations of each phase whose mean is compared; all if there are fewer.
    """

    against: str | None = None
    ratios: Mapping[str, PositiveFloat] = Field(min_length=1)
    window: int = Field(ge=1)


class BatchScale(Spec):
    """A factor on the batches of all phases, for large machines.

    Attributes:
        factor: The factor on every batch.
        learning_rate: How learning rates are scaled: not at all, by the square root, or linearly.
    """

    factor: int = Field(ge=1)
    learning_rate: Literal["none", "sqrt", "linear"]

    @property
    def rate_factor(self) -> float:
        """The factor on every learning rate."""
        powers = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}
        return float(self.factor ** powers[self.learning_rate])


class PlayerSpec(Spec):
    """Spec of one player of a phase: optimizer, schedule and loss.

    Attributes:
        optimizer: Optimizer with learning rates and parameter groups.
        schedule: Schedule of the learning rates over the steps in which the player trains.
        loss: Weights and settings of the loss terms.
        grad_clip: Maximum norm of the gradient; None is that of the phase.
        start_epoch: The first epoch in which the player trains.
    """

    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    loss: LossSpec
    grad_clip: float | None = Field(default=None, gt=0)
    start_epoch: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class PhasePlayer:
    """A player of a phase with its name; the name is None if optimizer and loss are in the phase itself."""

    name: str | None
    spec: PlayerSpec
    grad_clip: float

    def within(self, address: str) -> str:
        """Return the address of the player's settings, given the address of the phase."""
        return address if self.name is None else f"{address}.players.{self.name}"

    def labelled(self, text: str) -> str:
        """Return a text about the player, prefixed by its name if there are several."""
        return text if self.name is None else f"{self.name}: {text}"

    def name_in(self, known: Collection[str]) -> str:
        """Return the name of the player in the task."""
        return self.name if self.name is not None else next(iter(known))


class PhaseSpec(Spec):
    """Spec of one phase: initial weights, data and players.

    Attributes:
        starts_from: None (fresh weights), an earlier phase of this curriculum, ``other.PHASE`` or ``other``
            (its last phase) for a curriculum in the same runs directory, or a path to a checkpoint.
        epochs: Number of epochs; an epoch has one draw per usable training texture, in full batches.
        crop: Side of the square crop, in pixels.
        batch: Samples per optimizer step, over all workers.
        data: Share of each source in the draws; normalised to sum 1.
        balance: Measures against rare classes: class weights, minority tiles, mask dropout.
        mosaic: Share of the draws composed of several textures; None disables mosaics.
        augment: Augmentation of a batch on the device.
        players: Spec of each player by name, for a task with several players.
        optimizer: Optimizer with learning rates and parameter groups, for a task with one player.
        schedule: Schedule of the learning rates, for a task with one player.
        loss: Weights and settings of the loss terms, for a task with one player.
        select: The validation metric that selects the best checkpoint; the default depends on the task.
        segment_steps: Steps between two validations, each with a checkpoint; None is one epoch.
        steps_per_epoch: Fixed number of steps per epoch, independent of the number of textures, for short
            test runs of equal cost.
        grad_clip: Maximum norm of the gradient.
        plateau: Number of epochs without a better selection metric after which the phase ends; None disables
            this.
        gate: The condition under which the next phase starts.
    """

    starts_from: str | None = None
    epochs: int = Field(ge=1)
    crop: int = Field(ge=16)
    batch: int = Field(ge=1)
    data: Mapping[str, Share] = Field(min_length=1)
    balance: BalanceSpec = BalanceSpec()
    mosaic: MosaicSpec | None = None
    augment: AugmentSpec = AugmentSpec()
    players: Mapping[Slug, PlayerSpec] | None = Field(default=None, min_length=1)
    optimizer: OptimizerSpec | None = Field(default=None, validate_default=True)
    schedule: ScheduleSpec | None = Field(default=None, validate_default=True)
    loss: LossSpec | None = Field(default=None, validate_default=True)
    select: Selection
    segment_steps: int | None = Field(default=None, ge=1)
    steps_per_epoch: int | None = Field(default=None, ge=1)
    grad_clip: float = Field(default=1.0, gt=0)
    plateau: int | None = Field(default=None, ge=1)
    gate: GateSpec | None = None

    @field_validator("optimizer", "schedule", "loss")
    @classmethod
    def _in_one_form(cls, value: Spec | None, info: ValidationInfo) -> Spec | None:
        """Check that optimizer, schedule and loss are either in the phase itself or below ``players``."""
        if "players" not in info.data:  # players is invalid, and its own error is reported
            return value
        has_players = info.data["players"] is not None
        if value is None and not has_players:
            raise ValueError(
                "missing; expected optimizer, schedule and loss, or players. Set it, or set players."
            )
        if value is not None and has_players:
            raise ValueError(
                f"got {info.field_name} and players; expected only one of them. Write "
                f"players.NAME.{info.field_name}."
            )
        return value

    @field_validator("data")
    @classmethod
    def _shares_sum_to_one(cls, data: Mapping[str, float]) -> Mapping[str, float]:
        """Validate the shares and sort the sources, so that their order does not change the draws."""
        total = sum(data.values())
        scale = 1.0 if abs(total - 1.0) < 1e-9 else total
        return {name: data[name] / scale for name in sorted(data)}

    def by_player(self) -> tuple[PhasePlayer, ...]:
        """Return the players of the phase, in either form of declaration."""
        if self.players is None:
            return (PhasePlayer(None, self._flat(), self.grad_clip),)
        return tuple(
            PhasePlayer(name, spec, self.grad_clip if spec.grad_clip is None else spec.grad_clip)
            for name, spec in self.players.items()
        )

    def with_each_player(self, change: Callable[[PlayerSpec], PlayerSpec]) -> PhaseSpec:
        """Return the phase with every player changed, in the same form of declaration."""
        if self.players is not None:
            return self.model_copy(
                update={"players": {name: change(spec) for name, spec in self.players.items()}}
            )
        changed = change(self._flat())
        return self.model_copy(
            update={"optimizer": changed.optimizer, "schedule": changed.schedule, "loss": changed.loss}
        )

    def _flat(self) -> PlayerSpec:
        assert self.optimizer is not None and self.schedule is not None and self.loss is not None
        return PlayerSpec(optimizer=self.optimizer, schedule=self.schedule, loss=self.loss)


class Curriculum(Spec):
    """Spec of a curriculum: a task and its phases in order; the name is the folder of the run.

    Batches and rates are those before ``batch_scale``, which `pbrlib.curriculum.scale.scaled` applies.
    """

    name: Slug
    seed: int = Field(default=0, ge=0)
    batch_scale: BatchScale | None = None
    task: TaskSpec
    phases: Mapping[PhaseName, PhaseSpec] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _select_by_task(cls, data: Any) -> Any:
        """Set the task's default selection metric in phases without one."""
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
    def _is_not_reserved(cls, name: str) -> str:
        if name == MODEL:
            raise ValueError(
                f"got {name}, the folder of the trained networks; expected another name. Rename the "
                "curriculum."
            )
        return name

    def earlier(self, phase: str) -> tuple[str, ...]:
        """Return the names of the phases before a phase."""
        names = list(self.phases)
        return tuple(names[: names.index(phase)])


def default_select(kind: str) -> Selection:
    """Return a task's default selection metric: mean IoU for segmentation, mean absolute error for a map."""
    if kind == "segmentation":
        return Selection(metric="val/all/segmentation/miou", mode="max")
    return Selection(metric=f"val/all/{kind}/l1", mode="min")


def plain(value: Any) -> Any:
    """Convert a spec to plain mappings, lists and values with defaults; fields with default None are omitted.

    A new optional field of a later version therefore changes neither resolved files nor fingerprints,
    unless it is set.
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
