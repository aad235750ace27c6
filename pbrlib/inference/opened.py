"""Networks out of checkpoints: frozen and in eval mode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from pydantic import ValidationError
from torch import Tensor

from pbrlib.errors import CheckpointError
from pbrlib.models.build import AnyNetwork, build_network, network_on_meta
from pbrlib.models.roles import DECLARED, Declared, without_donor
from pbrlib.train.checkpoint.state import check_weights, put_weights, read_state, read_weights

Opened: TypeAlias = tuple[Declared, AnyNetwork]
"""A network with what it was declared as."""


def open_network(folder: Path, *, device: torch.device) -> Opened:
    """The network of a checkpoint, frozen and in eval mode; raises CheckpointError when it does not fit."""
    return frozen_network(declared_network(folder), read_weights(folder), place=folder, device=device)


def frozen_network(
    declared: Declared, weights: Mapping[str, Tensor], *, place: Path, device: torch.device
) -> Opened:
    """A declared network with weights that come from ``place``, frozen and in eval mode.

    Raises CheckpointError when they do not fit.
    """
    declared = without_donor(declared)
    # A few bytes can declare more than any memory holds, so the weights must fit before anything is built.
    check_weights(weights, network_on_meta(declared), place=place)
    network = build_network(declared)
    put_weights(weights, network, place=place)
    return declared, network.to(device).eval().requires_grad_(False)


def declared_network(folder: Path) -> Declared:
    """What network a checkpoint holds; raises CheckpointError when it declares none."""
    state = read_state(folder)
    try:
        return DECLARED.validate_python(state.network)
    except ValidationError as error:
        raise CheckpointError(f"{folder}: declares no network that this program knows ({error}).") from error
