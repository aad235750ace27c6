"""The differentiable all-reduce of the losses; no other module of the losses communicates between ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


class _AllReduceSum(torch.autograd.Function):
    """All-reduces by summation, in the forward and in the backward pass.

    Each rank computes the same loss from the same sums, so the backward sum multiplies every gradient by the
    number of ranks. DDP's mean over the ranks removes this factor exactly. ``torch.distributed.nn`` has the
    same function, but is deprecated.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


_stand_in: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar("stand_in", default=None)


@contextmanager
def summed_by(stand_in: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the all-reduce by ``stand_in`` inside the block, to replay a step in a single process."""
    before = _stand_in.set(stand_in)
    try:
        yield
    finally:
        _stand_in.reset(before)


def all_reduce_sum(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Sum ``x`` over all ranks, differentiably; return ``x`` itself in a single process.

    This is a collective: every rank must call it with the same shape.
    """
    if (stand_in := _stand_in.get()) is not None:
        return stand_in(x)
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    total: Tensor = _AllReduceSum.apply(x)
    return total
