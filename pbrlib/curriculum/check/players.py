"""Checks the players of a phase against the task, their networks and the length of the phase."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from torch import nn

from pbrlib.curriculum.mistakes import Mistake, suggestion
from pbrlib.curriculum.spec import PhaseSpec, PlayerSpec
from pbrlib.errors import ConfigError
from pbrlib.losses.lossspec import LossSpec
from pbrlib.maps import MAPS
from pbrlib.optim.groups import parameter_groups
from pbrlib.optim.optimizerspec import OptimizerSpec
from pbrlib.optim.schedules import check_schedule
from pbrlib.tasks.taskspec import TaskSpec, target_map

NOMINAL_STEPS = 100
"""Assumed steps per epoch if neither the data nor the phase determine the number."""


def player_mistakes(
    address: str, phase: PhaseSpec, task: TaskSpec, networks: Mapping[str, nn.Module]
) -> Iterator[Mistake]:
    """Yield the mistakes in the players of a phase; ``networks`` are the task's networks by player."""
    misnamed = list(_names(address, phase, task, networks))
    yield from misnamed
    known = [player for player in phase.by_player() if player.name is None or player.name in networks]
    if misnamed and phase.players is None:
        return
    for player in known:
        place = player.within(address)
        yield from _loss(f"{place}.loss", player.spec.loss, task)
        epochs = phase.epochs - player.spec.start_epoch
        if epochs < 1:
            yield Mistake(
                f"{place}.start_epoch",
                f"got {player.spec.start_epoch} in a phase of {phase.epochs} epochs; expected at most "
                f"{phase.epochs - 1}. Set a smaller start_epoch, or remove the player.",
            )
            continue
        yield from _optimizer(
            place,
            player.spec,
            networks[player.name_in(networks)],
            epochs=epochs,
            steps_per_epoch=phase.steps_per_epoch or NOMINAL_STEPS,
        )
    if known and all(player.spec.start_epoch for player in known):
        yield Mistake(
            f"{address}.players",
            "got a start_epoch for every player; expected at least one player that trains from the first "
            "step. Remove start_epoch from one player.",
        )


def _names(address: str, phase: PhaseSpec, task: TaskSpec, known: Collection[str]) -> Iterator[Mistake]:
    """Yield mistakes if the players of the phase are not those of the task."""
    if len(known) == 1 and phase.players is not None:
        yield Mistake(
            f"{address}.players",
            f"got {', '.join(phase.players)}; expected none, since {task.kind} has one player. Write its "
            "optimizer, schedule and loss in the phase itself.",
        )
    elif len(known) > 1 and phase.players is None:
        yield Mistake(
            address,
            f"got one player; expected {', '.join(known)}, those of {task.kind}. Write optimizer, schedule "
            "and loss of each below players.",
        )
    elif phase.players is not None:
        for name in phase.players:
            if name not in known:
                yield Mistake(
                    f"{address}.players.{name}",
                    f"got {name}; expected a player of {task.kind}. {suggestion(name, known)}",
                )
        if missing := [name for name in known if name not in phase.players]:
            yield Mistake(
                f"{address}.players",
                f"got no {', '.join(missing)}; expected {', '.join(known)}. Give each its optimizer, "
                "schedule and loss.",
            )


def _loss(address: str, loss: LossSpec, task: TaskSpec) -> Iterator[Mistake]:
    target = MAPS[target_map(task)]
    fitting = [name for name, term in LossSpec.term_types().items() if term.applies_to(target)]
    for name in loss.terms():
        if name not in fitting:
            yield Mistake(
                f"{address}.{name}",
                f"got {name} for {task.kind}; expected one of {', '.join(sorted(fitting))}. Remove the term.",
            )


_RULE = re.compile(r"^optimizer\.groups\.([^.:]+)")


def _optimizer(
    address: str, player: PlayerSpec, network: nn.Module, *, epochs: int, steps_per_epoch: int
) -> Iterator[Mistake]:
    """Yield the mistakes in optimizer and schedule; checks every rule, even after a wrong one."""
    spec: OptimizerSpec = player.optimizer
    while True:
        try:
            groups = parameter_groups(network, spec)
        except ConfigError as error:
            yield _within(address, error)
            rule = _RULE.match(str(error))
            if rule is None or rule[1] not in spec.groups:
                return
            rest = {name: group for name, group in spec.groups.items() if name != rule[1]}
            spec = spec.model_copy(update={"groups": rest})
        else:
            break
    if spec is not player.optimizer:
        return
    try:
        check_schedule(
            player.schedule,
            groups=groups,
            reference_lr=spec.lr,
            total_steps=steps_per_epoch * epochs,
            steps_per_epoch=steps_per_epoch,
        )
    except ConfigError as error:
        yield _within(address, error)


def _within(address: str, error: ConfigError) -> Mistake:
    """Convert an error about a part of a phase to a mistake with the full address."""
    part, _, message = str(error).partition(": ")
    return Mistake(f"{address}.{part}", message)
