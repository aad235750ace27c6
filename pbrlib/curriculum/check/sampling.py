"""Checks the sampling settings of a phase against the known classes and its sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pbrlib.curriculum.mistakes import Mistake, suggestion
from pbrlib.curriculum.spec import PhaseSpec
from pbrlib.data.draws.drawspec import BalanceSpec
from pbrlib.maps import CLASSES
from pbrlib.tasks.taskspec import TaskSpec, merged_classes


def merge_mistakes(task: TaskSpec) -> Iterator[Mistake]:
    """Yield a mistake for each name in ``task.merge`` that is not a class."""
    for source, target in merged_classes(task).items():
        for address, name in (("task.merge", source), (f"task.merge.{source}", target)):
            if name not in CLASSES:
                yield Mistake(address, f"got {name!r}; expected a class. {suggestion(name, CLASSES)}")


def balance_mistakes(address: str, balance: BalanceSpec, task: TaskSpec) -> Iterator[Mistake]:
    """Yield mistakes for unknown classes and for settings that the task does not support."""
    merge = merged_classes(task)
    for name in balance.minority or ():
        yield from _class(f"{address}.minority", name, merge)
    for name in balance.mask_dropout or ():
        yield from _class(f"{address}.mask_dropout", name, merge)
    if balance.mask_dropout and task.kind != "segmentation":
        yield Mistake(
            f"{address}.mask_dropout",
            f"got mask_dropout for {task.kind}; expected segmentation, which has class labels. Remove it.",
        )


def mosaic_mistakes(address: str, phase: PhaseSpec) -> Iterator[Mistake]:
    """Yield mistakes for mosaic sources that the phase does not use, and for shares above 1 in total."""
    spec = phase.mosaic
    if spec is None:
        return
    for name in spec.sources:
        if name not in phase.data:
            yield Mistake(
                f"{address}.sources",
                f"got {name!r}; expected a source in the data of the phase. {suggestion(name, phase.data)}",
            )
    total = spec.two + spec.four + (phase.balance.minority_tiles or 0.0)
    if total > 1.0 + 1e-9:
        yield Mistake(
            address,
            f"got {total:g} for two, four and balance.minority_tiles together; expected at most 1, since a "
            "draw is either a mosaic or a minority tile. Lower one of them.",
        )


def _class(address: str, name: str, merge: Mapping[str, str]) -> Iterator[Mistake]:
    if name not in CLASSES:
        yield Mistake(address, f"got {name!r}; expected a class. {suggestion(name, CLASSES)}")
    elif name in merge:
        yield Mistake(
            address,
            f"got {name}, which is merged into {merge[name]}; expected a class with pixels. Remove {name}.",
        )
