"""Warm start from a network with another role: copies the weights that fit and reports the others.

In contrast, `pbrlib.train.checkpoint.players.restore` continues a phase and requires that everything fits.
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
    """The input and output tensors of a network, in which a donor of another role may differ.

    Attributes:
        stem: The weights of the convolutions that read the input.
        channels: Unique names of the input channels; equal names have equal meanings.
        head: The tensors of the head, which computes the logits.
    """

    stem: tuple[str, ...]
    channels: tuple[str, ...]
    head: tuple[str, ...]


@dataclass(frozen=True)
class WarmStart:
    """The result of a warm start: which weights of the donor were copied.

    Attributes:
        donor: The donor's checkpoint.
        taken: Number of tensors that were copied completely.
        stem: Tensors of which only some input channels were copied.
        new_channels: Input channels that the donor lacks; their weights are initialised randomly.
        unused_channels: Input channels of the donor that the network does not have.
        fresh: Tensors that keep their initial values.
    """

    donor: str
    taken: int
    stem: tuple[str, ...]
    new_channels: tuple[str, ...]
    unused_channels: tuple[str, ...]
    fresh: tuple[str, ...]


def sizes_of(network: nn.Module) -> Sizes:
    """Return the shapes of a network's tensors by name; the network may be on the meta device."""
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def misfits(donor: Sizes, wanted: Sizes, *, own: Ends, theirs: Sequence[str]) -> list[str]:
    """Return why a network cannot start from a donor with the input channels ``theirs``; empty if it can.

    Only the head and the number of the stem's input channels may differ.
    """
    between = {name for name in wanted if name not in own.head}
    problems = [f"{name} is missing" for name in between - donor.keys()]
    problems += [f"{name} is not part of the network" for name in donor.keys() - wanted.keys()]
    for name in between & donor.keys():
        found, needed = tuple(donor[name]), tuple(wanted[name])
        if name in own.stem:
            found, needed = _without_inputs(found), _without_inputs(needed)
        if found != needed:
            problems.append(f"{name} is {tuple(donor[name])}, the network's is {tuple(wanted[name])}")
        elif name in own.stem and donor[name][1] != len(theirs):
            problems.append(f"{name} reads {donor[name][1]} channels, but its declaration has {len(theirs)}")
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
    """Copy the matching weights of a donor with another role into a network.

    Every tensor of equal name and shape is copied. The stem copies the donor's weights for common input
    channels and draws the others from kaiming normal; the head keeps its initial values.

    Args:
        folder: The donor's checkpoint.
        network: A newly built network; unchanged if the donor does not fit.
        own: The ends of the network.
        theirs: Names of the donor's input channels.
        seed: Draws the channels that the donor lacks.
        player: The player of the donor's checkpoint; None means the only one.

    Raises:
        CheckpointError: The checkpoint cannot be read, or tensors other than the ends differ.
    """
    weights, wanted = read_weights(folder, player=player), network.state_dict()
    sizes = {name: tensor.shape for name, tensor in weights.items()}
    problems = misfits(sizes, sizes_of(network), own=own, theirs=theirs)
    if problems:
        raise CheckpointError(
            f"{folder}: got a network of other sizes ({len(problems)} differences: "
            f"{'; '.join(problems[:3])}); expected the same sizes. Give both models the same sizes, or leave "
            "starts_from out."
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
