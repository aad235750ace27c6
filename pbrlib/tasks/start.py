"""Initial weights of a phase: all weights of a donor with the same role, or the matching ones of another."""

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
    """Return the declaration of a task's network, given the number of conditioning channels."""
    if isinstance(task, SegmentationSpec):
        return SegmentationDeclaration(model=task.model, merge=task.merge)
    return map_network(task, condition_channels=condition_channels)


def differences(donor: NetworkDeclaration, own: NetworkDeclaration) -> list[str]:
    """Return why a network cannot start from a donor; empty if it can. No weights are read."""
    if donor.role != own.role and not _both_maps(donor, own):
        return [f"got a network for {donor.role}; expected one for {own.role}"]
    theirs, ours = build_on_meta(donor), build_on_meta(own)
    if donor.role != own.role:
        return misfits(sizes_of(theirs), sizes_of(ours), own=_ends(ours, own), theirs=donor.channels)
    nothing_differs = Ends(stem=(), channels=(), head=())
    return misfits(sizes_of(theirs), sizes_of(ours), own=nothing_differs, theirs=())


def renewed(donor: NetworkDeclaration, own: NetworkDeclaration) -> dict[str, tuple[str, ...]]:
    """Return the input channels and tensors of a network that are initialised anew instead of copied.

    The result is empty if donor and network have the same role.
    """
    if donor.role == own.role or not _both_maps(donor, own):
        return {}
    new = tuple(name for name in own.channels if name not in donor.channels)
    return {"channels": new, "tensors": build_on_meta(own).head_names}


def check_start(folder: Path, task: TaskSpec, *, place: str) -> None:
    """Raise CheckpointError, naming ``place``, if a task cannot start from a checkpoint; reads no weights."""
    donor = read_declaration(folder)
    # The conditioning network is not known yet, so the donor's number of channels is assumed.
    found = differences(donor, declared_by(task, condition_channels=donor.condition_channels or 1))
    if found:
        raise CheckpointError(
            f"{place}: got {folder}, which has another architecture ({len(found)} differences: {found[0]}); "
            "expected the same sizes. Give both models the same sizes, or use another donor."
        )


def start_from(folder: Path, task: SegmentationTask | MapTask, *, seed: int) -> WarmStart | None:
    """Load the weights of a checkpoint into a task's new network.

    A checkpoint of the same role is loaded completely, and the result is None. From a checkpoint of another
    map, `pbrlib.train.checkpoint.warmstart.warm_start` copies the matching weights; ``seed`` draws the
    channels that the donor lacks.

    Raises:
        CheckpointError: The checkpoint cannot be read, or its network does not fit.
    """
    role = task.declared.role
    donor = read_declaration(folder, player=role)
    if donor.role == role:
        load_weights(folder, task.network, player=role)
        return None
    if not _both_maps(donor, task.declared):
        raise CheckpointError(
            f"{folder}: got a network for {donor.role}; expected one for {task.declared.role} or another map."
            " Use another donor, or leave starts_from out."
        )
    own = _ends(task.network, task.declared)
    return warm_start(folder, task.network, own=own, theirs=donor.channels, seed=seed, player=role)


def _both_maps(one: NetworkDeclaration, other: NetworkDeclaration) -> bool:
    return isinstance(one, MapDeclaration) and isinstance(other, MapDeclaration)


def _ends(network: Network, declared: NetworkDeclaration) -> Ends:
    return Ends(stem=network.stem_names, channels=declared.channels, head=network.head_names)
