"""A network that judges in the turn of another player and learns nothing by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class Judge:
    """A network as other players ask it: gradients pass through it to its input, and none reach it.

    It is no module, so that a module which holds one neither owns its parameters nor shows them to DDP. It
    asks the network itself, not what DDP wraps, whose hooks belong to the network's own turns.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __call__(self, *given: Any) -> Any:
        """The network's answer."""
        with held(self._network):
            return self._network(*given)


@contextmanager
def held(network: nn.Module) -> Iterator[None]:
    """Takes the parameters of a network out of the gradients of what is computed in the block."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
