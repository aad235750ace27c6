"""Networks out of checkpoints: frozen and in eval mode."""

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
from pbrlib.train.checkpoint.players import check_weights, player_in, put_weights, read_weights
from pbrlib.train.checkpoint.state import read_state

Opened: TypeAlias = tuple[NetworkDeclaration, AnyNetwork]
"""A network with what it was declared as."""


def open_network(folder: Path, *, device: torch.device, player: str | None = None) -> Opened:
    """The network of a checkpoint, frozen and in eval mode; of several that of a ``player``.

    Raises CheckpointError when it does not fit.
    """
    declared, weights = read_declaration(folder, player=player), read_weights(folder, player=player)
    return frozen_network(declared, weights, place=folder, device=device)


def frozen_network(
    declared: NetworkDeclaration, weights: Mapping[str, Tensor], *, place: Path, device: torch.device
) -> Opened:
    """A declared network with weights that come from ``place``, frozen and in eval mode.

    Raises CheckpointError when they do not fit.
    """
    declared = without_pretrained(declared)
    # A few bytes can declare more than any memory holds, so the weights must fit before anything is built.
    check_weights(weights, build_on_meta(declared), place=place)
    network = build_network(declared)
    put_weights(weights, network, place=place)
    return declared, network.to(device).eval().requires_grad_(False)


def read_declaration(folder: Path, *, player: str | None = None) -> NetworkDeclaration:
    """What network a checkpoint holds, of several that of a ``player``.

    Raises CheckpointError when it declares none.
    """
    state = read_state(folder)
    declared = state.players[player_in(state, player, place=folder)]
    try:
        return DECLARATION_ADAPTER.validate_python(declared)
    except ValidationError as error:
        raise CheckpointError(f"{folder}: declares no network that this program knows ({error}).") from error
