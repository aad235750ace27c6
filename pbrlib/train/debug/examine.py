"""Examines one step sample by sample and layer by layer, to find values that are not finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pbrlib.data.draws.batch import Batch
from pbrlib.train.learner import Learner


@dataclass(frozen=True)
class Range:
    """The smallest and largest finite value of a tensor, and the number of values that are not finite."""

    least: float
    most: float
    broken: int

    def __str__(self) -> str:
        """Format the range for display."""
        odd = f", {self.broken} not finite" if self.broken else ""
        return f"{self.least:.4g} to {self.most:.4g}{odd}"


@dataclass(frozen=True)
class SampleReport:
    """One sample of the step: its loss terms computed alone, and the value ranges of inputs and outputs."""

    rank: int
    id: str
    terms: Mapping[str, float]
    ranges: Mapping[str, Range]


@dataclass(frozen=True)
class GroupReport:
    """An optimizer group: its gradient norm before clipping, and the tensors that are not finite."""

    name: str
    rate: float
    norm: float
    broken_weights: Sequence[str]
    broken_gradients: Sequence[str]


def range_of(x: Tensor) -> Range:
    """Compute the value range of a tensor."""
    values = x.detach().float()
    finite = values[values.isfinite()]
    if not finite.numel():
        return Range(float("nan"), float("nan"), values.numel())
    return Range(float(finite.min()), float(finite.max()), values.numel() - finite.numel())


@contextmanager
def broken_layers(network: nn.Module) -> Iterator[list[str]]:
    """Collect the layers whose output is not finite while the block runs, in the order of execution."""
    found: list[str] = []

    def make_hook(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not all(bool(x.isfinite().all()) for x in _tensors(output)) and name not in found:
                found.append(name)

        return hook

    leaves = [(name, child) for name, child in network.named_modules() if not any(child.children())]
    handles = [child.register_forward_hook(make_hook(name)) for name, child in leaves]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def examine_groups(learner: Learner) -> list[GroupReport]:
    """Examine every optimizer group with the current gradients of its parameters."""
    names = {parameter: name for name, parameter in learner.player.network.named_parameters()}
    found = []
    for group in learner.optimizer.param_groups:
        own = [parameter for parameter in group["params"] if parameter.grad is not None]
        squares = torch.stack([parameter.grad.norm() for parameter in own]) if own else torch.zeros(1)
        found.append(
            GroupReport(
                group["name"],
                float(group["lr"]),
                float(squares.norm()),
                [names[parameter] for parameter in group["params"] if not bool(parameter.isfinite().all())],
                [names[parameter] for parameter in own if not bool(parameter.grad.isfinite().all())],
            )
        )
    return found


def ranges_of(batch: Batch, number: int) -> dict[str, Range]:
    """Compute the value ranges of the maps of one sample of a batch."""
    return {name: range_of(x[number]) for name, x in sorted(batch.maps.items())}


def select_sample(value: Any, number: int) -> Any:
    """Select one sample of a dataclass of batched tensors; None values are kept."""
    assert is_dataclass(value)
    parts = {part.name: getattr(value, part.name) for part in fields(value)}
    cut = {
        name: part[number : number + 1] if isinstance(part, Tensor) else part for name, part in parts.items()
    }
    return replace(value, **cut)  # type: ignore[type-var]


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _tensors(value)
