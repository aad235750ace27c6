"""The parts of a checkpoint: weights and optimizer of each player.

Two verbs read one: ``restore`` continues the same phase and is strict; ``load_weights`` begins from the
network of one player alone, and is as strict about it. What learned something else is the matter of
`pbrlib.train.checkpoint.warmstart`. Whoever reads a file of a checkpoint finds its place here.
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
from pbrlib.train.checkpoint.optimizerfile import put_optimizer, read_optimizer
from pbrlib.train.checkpoint.state import OPTIMIZER, WEIGHTS, State, read_state, write_state
from pbrlib.train.checkpoint.sums import compared, sum_of, unreadable


@dataclass(frozen=True)
class Learned:
    """What a checkpoint holds of a player."""

    network: nn.Module
    optimizer: torch.optim.Optimizer


def save(folder: Path, *, state: State, learned: Mapping[str, Learned]) -> None:
    """Writes a checkpoint; raises CheckpointError, and leaves nothing, when it cannot be written."""
    try:
        files = [name for player, one in learned.items() for name in _save_player(folder, state, player, one)]
        # All files were just written, so this reads them from memory.
        write_state(folder, replace(state, files={name: sum_of(folder / name) for name in files}))
    except (OSError, RuntimeError, SafetensorError) as error:
        # Each writer has its own error for a full disk: OSError, torch's RuntimeError, SafetensorError.
        shutil.rmtree(folder, ignore_errors=True)
        raise outage_or(CheckpointError, error)(
            f"{folder}: the checkpoint of step {state.step} could not be written ({error}). "
            "Free space there or choose another --runs; the same command resumes."
        ) from error


def _save_player(folder: Path, state: State, player: str, learned: Learned) -> tuple[str, str]:
    """Writes the files of a player and returns their names in the checkpoint."""
    weights, optimizer = state.file_of(player, WEIGHTS), state.file_of(player, OPTIMIZER)
    (folder / weights).parent.mkdir(parents=True, exist_ok=True)
    tensors = learned.network.state_dict().items()
    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors}, folder / weights)
    torch.save(learned.optimizer.state_dict(), folder / optimizer)
    return weights, optimizer


def player_in(state: State, wanted: str | None = None, *, place: Path) -> str:
    """The name of the player of a checkpoint that ``wanted`` means: that of this name, or the only one.

    ``place`` is the folder of the checkpoint. Raises CheckpointError, naming them, where it holds several and
    none of this name.
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
    """Where the weights of a player lie; None is the only player of a checkpoint."""
    state = state or read_state(folder)
    return folder / state.file_of(player_in(state, player, place=folder), WEIGHTS)


def checked_weights(
    folder: Path, *, state: State | None = None, player: str | None = None
) -> AbstractContextManager[Path]:
    """The weights of a player as a file of this machine, for a block, once its sum is right.

    Old formats have no sums. ``state`` is that of the checkpoint, for callers that have read it. Raises
    DamagedCheckpointError.
    """
    state = state or read_state(folder)
    return _checked(folder, state.file_of(player_in(state, player, place=folder), WEIGHTS), state=state)


def _checked(folder: Path, name: str, *, state: State) -> AbstractContextManager[Path]:
    return compared(folder / name, wanted=state.files.get(name))


def read_weights(folder: Path, *, state: State | None = None, player: str | None = None) -> dict[str, Tensor]:
    """The tensors of a player's network by name; raises CheckpointError when they cannot be read."""
    state = state or read_state(folder)
    with checked_weights(folder, state=state, player=player) as here:
        try:
            weights: dict[str, Tensor] = load_file(here)
        except (OSError, SafetensorError) as error:
            raise unreadable(weights_file(folder, state=state, player=player), error) from error
    return weights


def _read_optimizer(folder: Path, *, state: State, player: str) -> dict[str, Any]:
    name = state.file_of(player, OPTIMIZER)
    with _checked(folder, name, state=state) as here:
        try:
            kept: dict[str, Any] = read_optimizer(here)
        except (OSError, ValueError) as error:
            raise unreadable(folder / name, error) from error
    return kept


def verify(folder: Path) -> None:
    """Reads a whole checkpoint; raises DamagedCheckpointError naming the first file that is not right."""
    state = read_state(folder)
    for player in state.players:
        read_weights(folder, state=state, player=player)
        _read_optimizer(folder, state=state, player=player)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; raises CheckpointError when they cannot be read."""
    try:
        with storage.fetched(file) as here:
            weights: dict[str, Tensor] = load_file(here)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}). Use another checkpoint.") from error
    return weights


def load_weights(folder: Path, network: nn.Module, *, player: str | None = None) -> None:
    """Loads a player's network, every tensor of it; raises CheckpointError for another architecture."""
    put_weights(read_weights(folder, player=player), network, place=folder)


def put_weights(weights: Mapping[str, Tensor], network: nn.Module, *, place: Path) -> None:
    """Puts tensors into a network, every one; raises CheckpointError where they are another architecture's.

    ``place`` is where they come from.
    """
    check_weights(weights, network, place=place)
    network.load_state_dict(weights)


def check_weights(weights: Mapping[str, Tensor], network: nn.Module, *, place: Path) -> None:
    """Raises CheckpointError unless tensors are those of a network, which may lie on the meta device."""
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
    """Continues a phase: networks, optimizers and cursor; strict about everything.

    Nothing is put in before all of it is read and its weights are known to fit.
    """
    state = read_state(folder)
    if state.fingerprint != fingerprint:
        raise CheckpointError(
            f"{folder}: belongs to fingerprint {state.fingerprint[:8]}, this phase is {fingerprint[:8]}. "
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
        put_weights(weights, learned[wanted].network, place=folder)
        try:
            put_optimizer(kept, learned[wanted].optimizer)
        except ValueError as error:
            raise CheckpointError(
                f"{folder / state.file_of(player, OPTIMIZER)}: not the state of this optimizer ({error}). "
                "Remove this checkpoint."
            ) from error
    return state
