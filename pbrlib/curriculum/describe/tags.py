"""Collects the hyperparameters of a phase as plain values, for TensorBoard and tables."""

from __future__ import annotations

from collections.abc import Mapping

from pbrlib.curriculum.describe.phrases import phrases
from pbrlib.curriculum.spec import Curriculum, PhasePlayer
from pbrlib.models.build import AnyNetwork
from pbrlib.optim.groups import frozen_prefixes, parameter_groups, stage_of

Tag = str | int | float


def tags_of(curriculum: Curriculum, phase: str, *, networks: Mapping[str, AnyNetwork]) -> dict[str, Tag]:
    """Return the tags of a phase of a scaled curriculum.

    ``networks`` are by player, and may be on the meta device. ``freeze_depth`` is the number of fully frozen
    encoder stages, ``rate/GROUP`` is a peak learning rate. With several players, the names contain the
    player: ``loss/PLAYER``, ``rate/PLAYER/GROUP``.
    """
    spec = curriculum.phases[phase]
    own: dict[str, Tag] = {}
    rates: dict[str, Tag] = {}
    for player in spec.by_player():
        network = networks[player.name_in(networks)]
        own |= _learning(player, network)
        rates |= _rates(player, network)
    tags: dict[str, Tag] = {
        "curriculum": curriculum.name,
        "phase": phase,
        "task": curriculum.task.kind,
        "resolution": spec.crop,
        "model": ", ".join(dict.fromkeys(network.label for network in networks.values())),
        "mix": ", ".join(f"{name} {share:.3g}" for name, share in spec.data.items()),
        "augmentation": ", ".join(phrases(spec.augment)) or "none",
        **own,
        "batch": spec.batch,
        "epochs": spec.epochs,
        "seed": curriculum.seed,
        "starts_from": spec.starts_from or "fresh weights",
    }
    return {**tags, **rates}


def _learning(player: PhasePlayer, network: AnyNetwork) -> dict[str, Tag]:
    """Return the tags of one player: optimizer, schedule, loss and frozen parts."""
    optimizer = player.spec.optimizer
    frozen = frozen_prefixes(network, optimizer)
    tags: dict[str, Tag] = {
        "freeze_depth": _num_frozen_stages(network, frozen),
        "frozen": ", ".join(frozen) or "nothing",
        "optimizer": optimizer.kind,
        "weight_decay": optimizer.weight_decay,
        "layer_decay": optimizer.layer_decay or 1.0,
        "schedule": player.spec.schedule.describe(),
        "loss": player.spec.loss.formula(),
    }
    if player.name is None:
        return tags
    return {
        f"{name}/{player.name}": tag for name, tag in {**tags, "start_epoch": player.spec.start_epoch}.items()
    }


def _rates(player: PhasePlayer, network: AnyNetwork) -> dict[str, Tag]:
    prefix = "" if player.name is None else f"{player.name}/"
    groups = parameter_groups(network, player.spec.optimizer)
    return {f"rate/{prefix}{group.name}": group.lr for group in groups if not group.frozen}


def _num_frozen_stages(network: AnyNetwork, prefixes: tuple[str, ...]) -> int:
    """Return the number of encoder stages with only frozen parameters."""
    is_trained: dict[int, bool] = {}
    for name, _ in network.named_parameters():
        stage = stage_of(name)
        if stage is not None:
            frozen = any(name.startswith(f"{prefix}.") for prefix in prefixes)
            is_trained[stage] = is_trained.get(stage, False) or not frozen
    return sum(not trained for trained in is_trained.values())
