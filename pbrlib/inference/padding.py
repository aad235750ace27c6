"""Padding of textures to multiples of a network's stride."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def pad_to_stride(
    x: Float[Tensor, "n c h w"], *, stride: int, margin: int, tileable: bool
) -> Float[Tensor, "n c p q"]:
    """Pad to multiples of ``stride``, by ``margin`` at the top and left and at least ``margin`` elsewhere.

    Padding is circular for a tileable texture, else mirrored without repeating the border pixel; a small
    texture is repeated as often as needed. The origin of the texture is at ``(margin, margin)``.
    """
    rows, columns = (
        _positions(size, stride=stride, margin=margin, tileable=tileable).to(x.device)
        for size in x.shape[-2:]
    )
    return x[..., rows[:, None], columns]


def mirror_signs(size: int, *, stride: int, margin: int) -> Float[Tensor, " p"]:
    """Return -1 where mirrored padding shows the texture reversed, +1 elsewhere."""
    position = _unwrapped(size, stride=stride, margin=margin)
    return torch.where(position.remainder(_period(size)) < size, 1.0, -1.0)


def _positions(size: int, *, stride: int, margin: int, tileable: bool) -> Tensor:
    """Return for each padded pixel the index of its source pixel in the texture."""
    position = _unwrapped(size, stride=stride, margin=margin)
    if tileable:
        return position.remainder(size)
    folded = position.remainder(_period(size))
    return torch.minimum(folded, _period(size) - folded)


def _unwrapped(size: int, *, stride: int, margin: int) -> Tensor:
    padded = -(-(size + 2 * margin) // stride) * stride
    return torch.arange(padded) - margin


def _period(size: int) -> int:
    return max(2 * (size - 1), 1)
