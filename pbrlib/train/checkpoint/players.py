"""Reads and writes checkpoints: weights and optimizer state of each player.

``restore`` continues the same phase from all parts; ``load_weights`` starts from the network of one player.
Both require that everything fits. Weights of another role are loaded by `pbrlib.train.checkpoint.warmstart`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pbrlib import storage
from pbrlib.errors import CheckpointError, outage_or
from pbrlib.train.checkpoint.optimizerfile import load_optimizer_state, read_optimizer
from pbrlib.train.checkpoint.state import OPTIMIZER, WEIGHTS, State, read_state, write_state
from pbrlib.train.checkpoint.sums import checksum_of, read_error, verified_file


@dataclass(frozen=True)
class Learned:
    """A player's network and optimizer, which a checkpoint stores."""

    network: nn.Module
    optimizer: torch.optim.Optimizer


def save(folder: Path, *, state: State, learned: Mapping[str, Learned]) -> None:
    """Write a checkpoint; on failure remove the folder and raise CheckpointError."""
    try:
        files = [name for player, one in learned.items() for name in _save_player(folder, state, player, one)]
        # The files were just written, so the checksums are computed from the page cache.
        write_state(folder, replace(state, files={name: checksum_of(folder / name) for name in files}))
    except (OSError, RuntimeError, SafetensorError) as error:
        # The error of a full disk depends on the writer: OSError, torch's RuntimeError, SafetensorError.
        shutil.rmtree(folder, ignore_errors=True)
        raise outage_or(CheckpointError, error)(
            f"{folder}: the checkpoint of step {state.step} could not be written ({error}). "
            "Free space there or choose another --runs; the same command resumes."
        ) from error


def _save_player(folder: Path, state: State, player: str, learned: Learned) -> tuple[str, str]:
    """Write the files of a player and return their names in the checkpoint."""
    weights, optimizer = state.file_of(player, WEIGHTS), state.file_of(player, OPTIMIZER)
    (folder / weights).parent.mkdir(parents=True, exist_ok=True)
    tensors = learned.network.state_dict().items()
    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors}, folder / weights)
    torch.save(learned.optimizer.state_dict(), folder / optimizer)
    return weights, optimizer


def player_in(state: State, wanted: str | None = None, *, place: Path) -> str:
    """Return the player of a checkpoint with the name ``wanted``, or the only player.

    ``place`` is the folder of the checkpoint. Raises CheckpointError if it has several players and none has
    this name.
    """
    if wanted is not None and wanted in state.players:
        return wanted
    if len(state.players) == 1:
        return next(iter(state.players))
    raise CheckpointError(
        f"{place}: got the networks {', '.join(state.players) or 'of nobody'}; expected "
        f"{wanted or 'one network'}. Name a checkpoint that holds it."
    )


def weights_file(folder: Path, *, state: State | None = None, player: str | None = None) -> Path:
    """Return the path of a player's weights; None means the only player of a checkpoint."""
    state = state or read_state(folder)
    return folder / state.file_of(player_in(state, player, place=folder), WEIGHTS)


def checked_weights(
    folder: Path, *, state: State | None = None, player: str | None = None
) -> AbstractContextManager[Path]:
    """Provide a player's weights as a local file for the block, after verifying its checksum.

    Old formats have no checksums. ``state`` is the checkpoint's state, if the caller has read it already.
    Raises DamagedCheckpointError.
    """
    state = state or read_state(folder)
    return _checked(folder, state.file_of(player_in(state, player, place=folder), WEIGHTS), state=state)


def _checked(folder: Path, name: str, *, state: State) -> AbstractContextManager[Path]:
    return verified_file(folder / name, wanted=state.files.get(name))


def read_weights(folder: Path, *, state: State | None = None, player: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a player's network by name; raises CheckpointError if they cannot be read."""
    state = state or read_state(folder)
    with checked_weights(folder, state=state, player=player) as here:
        try:
            weights: dict[str, Tensor] = load_file(here)
        except (OSError, SafetensorError) as error:
            raise read_error(weights_file(folder, state=state, player=player), error) from error
    return weights


def _read_optimizer(folder: Path, *, state: State, player: str) -> dict[str, Any]:
    name = state.file_of(player, OPTIMIZER)
    with _checked(folder, name, state=state) as here:
        try:
            kept: dict[str, Any] = read_optimizer(here)
        except (OSError, ValueError) as error:
            raise read_error(folder / name, error) from error
    return kept


def verify(folder: Path) -> None:
    """Read a whole checkpoint; raises DamagedCheckpointError with the first damaged file."""
    state = read_state(folder)
    for player in state.players:
        read_weights(folder, state=state, player=player)
        _read_optimizer(folder, state=state, player=player)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name; raises CheckpointError if they cannot be read."""
    try:
        with storage.fetched(file) as here:
            weights: dict[str, Tensor] = load_file(here)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}). Use another checkpoint.") from error
    return weights


def load_weights(folder: Path, network: nn.Module, *, player: str | None = None) -> None:
    """Load all tensors of a player's network; raises CheckpointError for another architecture."""
    load_checked_weights(read_weights(folder, player=player), network, place=folder)


def load_checked_weights(weights: Mapping[str, Tensor], network: nn.Module, *, place: Path) -> None:
    """Load all tensors into a network; raises CheckpointError if they are of another architecture.

    ``place`` is the source of the tensors, for the error.
    """
    check_weights(weights, network, place=place)
    network.load_state_dict(weights)


def check_weights(weights: Mapping[str, Tensor], network: nn.Module, *, place: Path) -> None:
    """Raise CheckpointError unless tensors fit a network, which may be on the meta device."""
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted.keys() - weights.keys()]
    problems += [f"{name} is not part of the network" for name in weights.keys() - wanted.keys()]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, the network's is {tuple(wanted[name].shape)}"
        for name in wanted.keys() & weights.keys()
        if weights[name].shape != wanted[name].shape
    ]
    problems += [
        f"{name} is of {weights[name].dtype}, the network's of {wanted[name].dtype}"
        for name in wanted.keys() & weights.keys()
        if weights[name].is_floating_point() != wanted[name].is_floating_point()
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:3])
        raise CheckpointError(
            f"{place}: a checkpoint of another architecture ({len(problems)} differences: {shown}). "
            "Give the model the sizes it was trained with, or start from another checkpoint."
        )


def restore(folder: Path, *, fingerprint: str, learned: Mapping[str, Learned]) -> State:
    """Restore networks, optimizers and step of a phase from a checkpoint; everything must fit.

    Nothing is loaded before all files are read and all weights are checked.
    """
    state = read_state(folder)
    if state.fingerprint != fingerprint:
        raise CheckpointError(
            f"{folder}: got fingerprint {state.fingerprint[:8]}; expected this phase's, {fingerprint[:8]}. "
            "Use another --runs, or remove the folder."
        )
    if len(state.players) != len(learned):
        raise CheckpointError(
            f"{folder}: got the players {', '.join(state.players)}; expected {', '.join(learned)}. "
            "Use another --runs, or remove the folder."
        )
    read = {}
    for wanted, own in learned.items():
        player = player_in(state, wanted, place=folder)
        weights = read_weights(folder, state=state, player=player)
        read[wanted] = weights, _read_optimizer(folder, state=state, player=player), player
        check_weights(weights, own.network, place=folder)
    for wanted, (weights, kept, player) in read.items():
        load_checked_weights(weights, learned[wanted].network, place=folder)
        try:
            load_optimizer_state(kept, learned[wanted].optimizer)
        except ValueError as error:
            raise CheckpointError(
                f"{folder / state.file_of(player, OPTIMIZER)}: not the state of this optimizer ({error}). "
                "Remove this checkpoint."
            ) from error
    return state
