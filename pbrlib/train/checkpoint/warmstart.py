"""Beginning from the weights of a network that learned something else: what fits is taken, the rest named.

The other verb than `pbrlib.train.checkpoint.players.restore`, which continues and is strict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from pbrlib.errors import CheckpointError
from pbrlib.models.blocks import adapt_input_channels
from pbrlib.train.checkpoint.players import read_weights

Sizes: TypeAlias = Mapping[str, torch.Size]
"""Shape of every tensor of a network by name."""


@dataclass(frozen=True)
class Ends:
    """The ends of a network, where another one that learned something else may differ from it.

    Attributes:
        stem: The weights of the convolutions that read the input.
        channels: What their input channels mean, each once; equal names are equal meanings.
        head: The tensors that give the answer.
    """

    stem: tuple[str, ...]
    channels: tuple[str, ...]
    head: tuple[str, ...]


@dataclass(frozen=True)
class WarmStart:
    """What became of a donor's weights.

    Attributes:
        donor: Its checkpoint.
        taken: Number of tensors taken whole.
        stem: Tensors of which only some channels were taken.
        new_channels: Their channels that the donor lacks, drawn anew.
        unused_channels: The donor's channels that nothing reads any more.
        fresh: Tensors that keep the values the network was built with.
    """

    donor: str
    taken: int
    stem: tuple[str, ...]
    new_channels: tuple[str, ...]
    unused_channels: tuple[str, ...]
    fresh: tuple[str, ...]


def sizes_of(network: nn.Module) -> Sizes:
    """The shapes of a network, which may lie on the meta device."""
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def misfits(donor: Sizes, wanted: Sizes, *, own: Ends, theirs: Sequence[str]) -> list[str]:
    """Why a network cannot begin from a donor whose input channels mean ``theirs``; empty where it can.

    Only the head, and the stem's number of input channels, may differ.
    """
    between = {name for name in wanted if name not in own.head}
    problems = [f"{name} is missing" for name in between - donor.keys()]
    problems += [f"{name} is not part of the network" for name in donor.keys() - wanted.keys()]
    for name in between & donor.keys():
        came, needed = tuple(donor[name]), tuple(wanted[name])
        if name in own.stem:
            came, needed = _without_inputs(came), _without_inputs(needed)
        if came != needed:
            problems.append(f"{name} is {tuple(donor[name])}, the network's is {tuple(wanted[name])}")
        elif name in own.stem and donor[name][1] != len(theirs):
            problems.append(f"{name} reads {donor[name][1]} channels, declared are {len(theirs)}")
    return sorted(problems)


def warm_start(
    folder: Path,
    network: nn.Module,
    *,
    own: Ends,
    theirs: Sequence[str],
    seed: int,
    player: str | None = None,
) -> WarmStart:
    """Gives a network the weights of one that learned something else, as far as they mean the same.

    Every tensor of equal name and shape is taken. The stem takes the donor's weights for the channels that
    both read, and kaiming normal for those that the donor lacks; the head stays as the network was built.

    Args:
        folder: The donor's checkpoint.
        network: Freshly built; untouched where the donor is refused.
        own: Its ends.
        theirs: What the donor's input channels mean.
        seed: Draws the channels that the donor lacks.
        player: Whose network the donor's checkpoint holds; None is its only one.

    Raises:
        CheckpointError: The checkpoint cannot be read, or anything but the ends differs.
    """
    weights, wanted = read_weights(folder, player=player), network.state_dict()
    sizes = {name: tensor.shape for name, tensor in weights.items()}
    problems = misfits(sizes, sizes_of(network), own=own, theirs=theirs)
    if problems:
        raise CheckpointError(
            f"{folder}: a network of other sizes ({len(problems)} differences: {'; '.join(problems[:3])}). "
            "Give both models the same sizes, or leave starts_from out."
        )
    sources = [theirs.index(name) if name in theirs else None for name in own.channels]
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {name: weights[name] for name in wanted if name not in own.head}
    for name in own.stem:
        state[name] = adapt_input_channels(weights[name], sources, generator=generator)
    network.load_state_dict({**state, **{name: wanted[name] for name in own.head}})
    return WarmStart(
        donor=str(folder),
        taken=len(state) - len(own.stem),
        stem=own.stem,
        new_channels=tuple(name for name in own.channels if name not in theirs),
        unused_channels=tuple(name for name in theirs if name not in own.channels),
        fresh=own.head,
    )


def _without_inputs(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:1] + shape[2:]
