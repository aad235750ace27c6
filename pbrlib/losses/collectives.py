"""The one place where losses talk to other ranks."""

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
    """Sum over the ranks in both directions.

    Each rank computes the same loss from the same sums, so the backward sum counts every gradient once
    per rank; the mean that DDP takes over the ranks divides that factor away again, exactly.
    ``torch.distributed.nn`` had this function, and is deprecated.
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
    """Inside the block ``stand_in`` gives the sums over ranks: of a step that is replayed without them."""
    before = _stand_in.set(stand_in)
    try:
        yield
    finally:
        _stand_in.reset(before)


def all_reduce_sum(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The sum of ``x`` over all ranks, differentiable; ``x`` itself in a single process.

    A collective: every rank has to call it, with the same shape.
    """
    if (stand_in := _stand_in.get()) is not None:
        return stand_in(x)
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    total: Tensor = _AllReduceSum.apply(x)
    return total
