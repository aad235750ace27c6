"""Metrics as sums and counts, divided only at the end, so that unequal shares of a set give exact means."""

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
    """The formula that turns the sums of a metric into its value."""

    MEAN = "mean"
    ROOT_MEAN = "root_mean"
    IOU = "iou"


@dataclass(frozen=True, order=True)
class Slot:
    """A metric's name, its formula, and how many numbers it sums."""

    name: str
    kind: Kind
    size: int


@dataclass
class Sums:
    """Additive metrics by name; float64 tensors on the device of their first value.

    Names state split, source, map and unit: ``val/all/albedo/l1``.
    """

    _values: dict[Slot, Tensor] = field(default_factory=dict)

    def add_mean(self, name: str, total: Number, count: Number) -> None:
        """Add to a mean, whose result is ``total / count``."""
        self._add_pair(name, Kind.MEAN, total, count)

    def add_root_mean(self, name: str, total: Number, count: Number) -> None:
        """Add to the root of a mean (e.g. squared errors to an RMSE), with result ``sqrt(total / count)``."""
        self._add_pair(name, Kind.ROOT_MEAN, total, count)

    def add_confusion(self, name: str, matrix: Integer[Tensor, "k k"]) -> None:
        """Add pixel counts by (true class, predicted class); the results are class IoUs and their mean."""
        self._add(Slot(name, Kind.IOU, matrix.numel()), matrix.flatten().double())

    def merge(self, other: Sums) -> None:
        """Add all metrics of another object."""
        for slot, value in other._values.items():
            self._add(slot, value)

    def under(self, prefix: str) -> Self:
        """Return the same sums with ``prefix/`` before every name."""
        return type(self)(
            {replace(slot, name=f"{prefix}/{slot.name}"): v for slot, v in self._values.items()}
        )

    def layout(self) -> tuple[Slot, ...]:
        """Return the metrics' slots, sorted by name."""
        return tuple(sorted(self._values))

    def flat(self, layout: Sequence[Slot] | None = None) -> Float[Tensor, " numbers"]:
        """Return all numbers in the order of a layout (default: its own), with zeros for missing metrics."""
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
        """Rebuild sums from the result of :meth:`flat`."""
        parts = torch.split(flat, [slot.size for slot in layout])
        return cls(dict(zip(layout, parts, strict=True)))

    def reduce(self, all_reduce: Callable[[Tensor], Tensor]) -> Sums:
        """Sum over all ranks by one gather of the layouts, since they may differ, and one all-reduce."""
        layout = self.layout()
        if dist.is_available() and dist.is_initialized():
            layouts: list[tuple[Slot, ...]] = [()] * dist.get_world_size()
            dist.all_gather_object(layouts, layout)
            layout = tuple(sorted({slot for slots in layouts for slot in slots}))
        return self.load(all_reduce(self.flat(layout)), layout=layout) if layout else Sums()

    def results(self) -> dict[str, float]:
        """Return the values, sorted by name; a metric with a count of 0 is absent."""
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
    """Return ``name/iou/<class>`` and their mean ``name/miou``, over the classes in the ground truth.

    A class that is only predicted has no IoU: its false pixels lower the IoU of the true classes, and the set
    of averaged classes does not depend on the prediction.
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
