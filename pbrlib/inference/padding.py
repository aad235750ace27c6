"""Textures of any size through networks with a stride: pad, run, crop back."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def pad_to_stride(
    x: Float[Tensor, "n c h w"], *, stride: int, margin: int, tileable: bool
) -> Float[Tensor, "n c p q"]:
    """Pads to multiples of ``stride``, by ``margin`` at the top and left and at least that elsewhere.

    Circular where the texture tiles, mirrored without repeating the border elsewhere; a small texture is
    repeated as often as it takes. The origin of the texture lies at ``(margin, margin)``.
    """
    rows, columns = (
        _positions(size, stride=stride, margin=margin, tileable=tileable).to(x.device)
        for size in x.shape[-2:]
    )
    return x[..., rows[:, None], columns]


def mirror_signs(size: int, *, stride: int, margin: int) -> Float[Tensor, " p"]:
    """-1 where mirrored padding shows the texture reversed, +1 elsewhere."""
    position = _unwrapped(size, stride=stride, margin=margin)
    return torch.where(position.remainder(_period(size)) < size, 1.0, -1.0)


def _positions(size: int, *, stride: int, margin: int, tileable: bool) -> Tensor:
    """For each padded pixel the pixel of the texture that it shows."""
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
