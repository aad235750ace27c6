"""Where a network's weights come from when a phase begins: as they are, or as far as another role's fit."""

from __future__ import annotations

from pathlib import Path

from pbrlib.errors import CheckpointError
from pbrlib.inference.opened import read_declaration
from pbrlib.models.build import build_on_meta
from pbrlib.models.network import Network
from pbrlib.models.roles import MapDeclaration, NetworkDeclaration, SegmentationDeclaration
from pbrlib.tasks.maps import MapTask, map_network
from pbrlib.tasks.segmentation import SegmentationTask
from pbrlib.tasks.taskspec import SegmentationSpec, TaskSpec
from pbrlib.train.checkpoint.players import load_weights
from pbrlib.train.checkpoint.warmstart import Ends, WarmStart, misfits, sizes_of, warm_start


def declared_by(task: TaskSpec, *, condition_channels: int) -> NetworkDeclaration:
    """The network of a task whose conditioning has that many channels."""
    if isinstance(task, SegmentationSpec):
        return SegmentationDeclaration(model=task.model, merge=task.merge)
    return map_network(task, condition_channels=condition_channels)


def differences(donor: NetworkDeclaration, own: NetworkDeclaration) -> list[str]:
    """Why a network cannot begin from a donor, found without weights; empty where it can."""
    if donor.role != own.role and not _both_maps(donor, own):
        return [f"a network for {donor.role} has nothing in common with one for {own.role}"]
    theirs, ours = build_on_meta(donor), build_on_meta(own)
    if donor.role != own.role:
        return misfits(sizes_of(theirs), sizes_of(ours), own=_ends(ours, own), theirs=donor.channels)
    nothing_differs = Ends(stem=(), channels=(), head=())
    return misfits(sizes_of(theirs), sizes_of(ours), own=nothing_differs, theirs=())


def renewed(donor: NetworkDeclaration, own: NetworkDeclaration) -> dict[str, tuple[str, ...]]:
    """What a network does not take from a donor that fits: by name its input channels and its tensors.

    Empty where both have the same role.
    """
    if donor.role == own.role or not _both_maps(donor, own):
        return {}
    new = tuple(name for name in own.channels if name not in donor.channels)
    return {"channels": new, "tensors": build_on_meta(own).head_names}


def check_start(folder: Path, task: TaskSpec, *, place: str) -> None:
    """Raises CheckpointError, of ``place``, when a task cannot begin from a checkpoint; reads no weights."""
    donor = read_declaration(folder)
    # What conditions the network comes from elsewhere and is not known yet.
    found = differences(donor, declared_by(task, condition_channels=donor.condition_channels or 1))
    if found:
        raise CheckpointError(
            f"{place}: {folder} is of another architecture ({len(found)} differences: {found[0]}). "
            "Give both models the same sizes, or name another donor."
        )


def start_from(folder: Path, task: SegmentationTask | MapTask, *, seed: int) -> WarmStart | None:
    """Gives a task's fresh network the weights of a checkpoint.

    One of the same role is loaded whole (None); of one for another map all is taken that means the same
    here, see `pbrlib.train.checkpoint.warmstart.warm_start`. ``seed`` draws what the donor lacks.

    Raises:
        CheckpointError: It cannot be read or does not fit.
    """
    role = task.declared.role
    donor = read_declaration(folder, player=role)
    if donor.role == role:
        load_weights(folder, task.network, player=role)
        return None
    if not _both_maps(donor, task.declared):
        raise CheckpointError(
            f"{folder}: holds a network for {donor.role}, from which one for {task.declared.role} cannot "
            "begin. Name another donor, or leave starts_from out."
        )
    own = _ends(task.network, task.declared)
    return warm_start(folder, task.network, own=own, theirs=donor.channels, seed=seed, player=role)


def _both_maps(one: NetworkDeclaration, other: NetworkDeclaration) -> bool:
    return isinstance(one, MapDeclaration) and isinstance(other, MapDeclaration)


def _ends(network: Network, declared: NetworkDeclaration) -> Ends:
    return Ends(stem=network.stem_names, channels=declared.channels, head=network.head_names)
