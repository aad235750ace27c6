"""Uses a player's network in the turn of another player without training it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class Judge:
    """A network for other players: gradients flow through it to its input, not to its parameters.

    This class is no ``nn.Module``, so a module that has one as an attribute does not own its parameters or
    pass them to DDP. It calls the network without DDP, whose hooks belong to the network's own turns.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __call__(self, *given: Any) -> Any:
        """Return the network's output."""
        with frozen_parameters(self._network):
            return self._network(*given)


@contextmanager
def frozen_parameters(network: nn.Module) -> Iterator[None]:
    """Exclude the parameters of a network from the gradients of computations in the block."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
