"""Metrics as sums and counts until the last moment, so that uneven shares of a set give exact means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self, TypeAlias, assert_never

import torch
import torch.distributed as dist
from jaxtyping import Float, Integer
from torch import Tensor

from pbrlib.maps import CLASSES

Number: TypeAlias = Tensor | float | int


class Kind(StrEnum):
    """How the sums of a metric become its value."""

    MEAN = "mean"
    ROOT_MEAN = "root_mean"
    IOU = "iou"


@dataclass(frozen=True, order=True)
class Slot:
    """A metric by name, how its value is made, and how many numbers it sums."""

    name: str
    kind: Kind
    size: int


@dataclass
class Sums:
    """Additive metrics by name; float64 tensors on the device where they were made.

    Names state split, source, map and unit: ``val/all/albedo/l1``.
    """

    _values: dict[Slot, Tensor] = field(default_factory=dict)

    def add_mean(self, name: str, total: Number, count: Number) -> None:
        """Adds to a mean: ``total / count`` in the end."""
        self._add_pair(name, Kind.MEAN, total, count)

    def add_root_mean(self, name: str, total: Number, count: Number) -> None:
        """Adds to the root of a mean, e.g. squared errors to an RMSE: ``sqrt(total / count)`` in the end."""
        self._add_pair(name, Kind.ROOT_MEAN, total, count)

    def add_confusion(self, name: str, matrix: Integer[Tensor, "k k"]) -> None:
        """Adds pixel counts by (true class, predicted class): IoU per class and their mean in the end."""
        self._add(Slot(name, Kind.IOU, matrix.numel()), matrix.flatten().double())

    def merge(self, other: Sums) -> None:
        """Adds everything that another holds."""
        for slot, value in other._values.items():
            self._add(slot, value)

    def under(self, prefix: str) -> Self:
        """The same sums with ``prefix/`` before every name."""
        return type(self)(
            {replace(slot, name=f"{prefix}/{slot.name}"): v for slot, v in self._values.items()}
        )

    def layout(self) -> tuple[Slot, ...]:
        """What this holds, sorted by name."""
        return tuple(sorted(self._values))

    def flat(self, layout: Sequence[Slot] | None = None) -> Float[Tensor, " numbers"]:
        """All numbers in the order of a layout (its own by default), zeros for what it does not hold."""
        slots = self.layout() if layout is None else layout
        device = next((value.device for value in self._values.values()), torch.device("cpu"))
        parts = [
            self._values[slot].to(device)
            if slot in self._values
            else torch.zeros(slot.size, dtype=torch.float64, device=device)
            for slot in slots
        ]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    @classmethod
    def load(cls, flat: Float[Tensor, " numbers"], *, layout: Sequence[Slot]) -> Sums:
        """The reverse of :meth:`flat`."""
        parts = torch.split(flat, [slot.size for slot in layout])
        return cls(dict(zip(layout, parts, strict=True)))

    def reduce(self, all_reduce: Callable[[Tensor], Tensor]) -> Sums:
        """The sums over all ranks: one exchange of names, since a rank may lack some, and one all-reduce."""
        layout = self.layout()
        if dist.is_available() and dist.is_initialized():
            layouts: list[tuple[Slot, ...]] = [()] * dist.get_world_size()
            dist.all_gather_object(layouts, layout)
            layout = tuple(sorted({slot for slots in layouts for slot in slots}))
        return self.load(all_reduce(self.flat(layout)), layout=layout) if layout else Sums()

    def results(self) -> dict[str, float]:
        """The values, sorted by name; a metric that nothing counted for is absent."""
        found: dict[str, float] = {}
        for slot in self.layout():
            found.update(_values(slot, self._values[slot].cpu()))
        return dict(sorted(found.items()))

    def _add_pair(self, name: str, kind: Kind, total: Number, count: Number) -> None:
        pair = [torch.as_tensor(number).detach().double() for number in (total, count)]
        device = pair[0].device
        self._add(Slot(name, kind, 2), torch.stack([number.to(device) for number in pair]))

    def _add(self, slot: Slot, value: Tensor) -> None:
        held = self._values.get(slot)
        self._values[slot] = value if held is None else held + value.to(held.device)


def _values(slot: Slot, sums: Tensor) -> dict[str, float]:
    match slot.kind:
        case Kind.MEAN | Kind.ROOT_MEAN:
            total, count = sums.tolist()
            if count == 0:
                return {}
            mean = total / count
            return {slot.name: mean if slot.kind is Kind.MEAN else mean**0.5}
        case Kind.IOU:
            return _iou_values(slot.name, sums)
        case _:
            assert_never(slot.kind)


def _iou_values(name: str, sums: Tensor) -> dict[str, float]:
    """``name/iou/<class>`` and their mean ``name/miou``, over the classes that the truth holds.

    A class that is only predicted has no IoU of its own: its false pixels cost the true classes theirs,
    and the set of classes in the mean does not depend on the prediction.
    """
    classes = round(len(sums) ** 0.5)
    matrix = sums.view(classes, classes)
    hit, true, predicted = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)
    iou = (hit / (true + predicted - hit)).tolist()
    names = CLASSES if classes == len(CLASSES) else [str(number) for number in range(classes)]
    present = {f"{name}/iou/{names[c]}": iou[c] for c in range(classes) if true[c] > 0}
    if not present:
        return {}
    return {**present, f"{name}/miou": sum(present.values()) / len(present)}
