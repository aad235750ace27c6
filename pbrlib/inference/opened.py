"""Opens networks of checkpoints, frozen and in eval mode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from pydantic import ValidationError
from torch import Tensor

from pbrlib.errors import CheckpointError
from pbrlib.models.build import AnyNetwork, build_network, build_on_meta
from pbrlib.models.roles import DECLARATION_ADAPTER, NetworkDeclaration, without_pretrained
from pbrlib.train.checkpoint.players import check_weights, load_checked_weights, player_in, read_weights
from pbrlib.train.checkpoint.state import read_state

Opened: TypeAlias = tuple[NetworkDeclaration, AnyNetwork]
"""A network and its declaration."""


def open_network(folder: Path, *, device: torch.device, player: str | None = None) -> Opened:
    """Open the network of a checkpoint, frozen and in eval mode; ``player`` chooses one of several.

    Raises CheckpointError if the weights do not fit the declaration.
    """
    declared, weights = read_declaration(folder, player=player), read_weights(folder, player=player)
    return frozen_network(declared, weights, place=folder, device=device)


def frozen_network(
    declared: NetworkDeclaration, weights: Mapping[str, Tensor], *, place: Path, device: torch.device
) -> Opened:
    """Build a declared network with given weights, frozen and in eval mode.

    Raises CheckpointError, naming ``place``, if the weights do not fit.
    """
    declared = without_pretrained(declared)
    # A damaged declaration can ask for more memory than there is, so the weights are checked before building.
    check_weights(weights, build_on_meta(declared), place=place)
    network = build_network(declared)
    load_checked_weights(weights, network, place=place)
    return declared, network.to(device).eval().requires_grad_(False)


def read_declaration(folder: Path, *, player: str | None = None) -> NetworkDeclaration:
    """Read the declaration of a checkpoint's network; ``player`` chooses one of several.

    Raises CheckpointError if the declaration is not valid.
    """
    state = read_state(folder)
    declared = state.players[player_in(state, player, place=folder)]
    try:
        return DECLARATION_ADAPTER.validate_python(declared)
    except ValidationError as error:
        raise CheckpointError(
            f"{folder}: got a declaration that is not valid ({error}); expected a known network. "
            "Use the version of pbr that wrote it."
        ) from error
