"""Checks references to trained weights: whether they will exist and whether they fit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pbrlib.curriculum.mistakes import Mistake, raise_mistakes, suggestion
from pbrlib.curriculum.references import CheckpointPath, OtherCurriculum, OwnPhase, parse_donor
from pbrlib.curriculum.spec import Curriculum
from pbrlib.tasks.start import declared_by, differences
from pbrlib.tasks.taskspec import TaskSpec
from pbrlib.train.checkpoint.state import is_complete


def donor_mistakes(
    address: str,
    reference: str,
    *,
    own: Curriculum | None,
    earlier: tuple[str, ...],
    known: Mapping[str, Curriculum],
) -> Iterator[Mistake]:
    """Yield the mistakes in a reference to trained weights.

    Args:
        address: The address of the reference in the curriculum.
        reference: The reference as written.
        own: The curriculum whose phase starts from the weights; None for a frozen network.
        earlier: The phases of ``own`` before that phase.
        known: The other curricula of the same command, by name.
    """
    own_phases = tuple(own.phases) if own is not None else ()
    match parse_donor(reference, own_phases=own_phases):
        case OwnPhase(phase):
            if phase not in earlier:
                yield Mistake(
                    address,
                    f"got {phase}; expected an earlier phase ({', '.join(earlier) or 'there is none'}). "
                    "Set an earlier phase, change the order, or remove starts_from.",
                )
        case OtherCurriculum(name, phase) if own is not None and name == own.name:
            yield Mistake(
                address,
                f"got {reference!r}, the curriculum itself; expected a phase without its name. "
                f"Write {phase or 'the name of an earlier phase'}.",
            )
        case OtherCurriculum(name, phase):
            if name not in known:
                return
            if phase is not None and phase not in known[name].phases:
                yield Mistake(
                    address,
                    f"got {reference!r}; expected a phase of {name}. {suggestion(phase, known[name].phases)}",
                )
            if own is not None:
                yield from _fit(address, name, donor=known[name].task, own=own.task)
        case CheckpointPath(path) if "://" not in path and not is_complete(Path(path)):
            yield Mistake(
                address,
                f"got {path!r}; expected an earlier phase, a curriculum or the folder of a checkpoint. "
                f"{suggestion(path, earlier)}".rstrip(),
            )


def require_lpips_weights(curriculum: Curriculum, *, place: str, running: Collection[str]) -> None:
    """Raise ConfigError if the LPIPS weights of a phase that will run do not exist.

    The weights are not downloaded. The check runs before the first phase, so that no time is lost.
    """
    mistakes = []
    players = ((name, player) for name in running for player in curriculum.phases[name].by_player())
    for name, player in players:
        lpips = player.spec.loss.lpips
        if lpips is not None and lpips.backbone != "random" and not Path(lpips.backbone).is_file():
            mistakes.append(
                Mistake(
                    f"{player.within(f'phases.{name}')}.loss.lpips.backbone",
                    f"got {lpips.backbone}, which does not exist; expected the weights of {lpips.net} from "
                    "torchvision. Copy them there, or remove lpips.",
                )
            )
    raise_mistakes(place, mistakes)


def _fit(address: str, name: str, *, donor: TaskSpec, own: TaskSpec) -> Iterator[Mistake]:
    """Yield a mistake if the weights of another curriculum do not fit; both use the same conditioning."""
    found = differences(*(declared_by(task, condition_channels=1) for task in (donor, own)))
    if found:
        yield Mistake(
            address,
            f"got {name}, whose network has {len(found)} differences ({found[0]}); expected a network of the "
            "same sizes. Set the same sizes in both task.model, or remove starts_from.",
        )
