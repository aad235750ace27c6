"""Textures of any size through networks with a stride: pad, run, crop back."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def pad_to_stride(
    x: Float[Tensor, "n c h w"], *, stride: int, margin: int, tileable: bool
) -> tuple[Float[Tensor, "n c p q"], tuple[int, int]]:
    """Pads by at least ``margin`` on every side to multiples of ``stride``; gives the offset of the origin.

    Circular where the texture tiles, mirrored elsewhere. A margin larger than the texture is cut to it.
    """
    height, width = x.shape[-2:]
    top, bottom = _sides(height, stride=stride, margin=margin)
    left, right = _sides(width, stride=stride, margin=margin)
    mode = "circular" if tileable else "reflect"
    padded = x
    # One call pads by less than the side itself, so a small texture takes several.
    while top or bottom or left or right:
        limit_y, limit_x = padded.shape[-2] - 1, padded.shape[-1] - 1
        now = (min(left, limit_x), min(right, limit_x), min(top, limit_y), min(bottom, limit_y))
        padded = F.pad(padded, now, mode=mode)
        left, right, top, bottom = left - now[0], right - now[1], top - now[2], bottom - now[3]
    return padded, (
        _sides(height, stride=stride, margin=margin)[0],
        _sides(width, stride=stride, margin=margin)[0],
    )


def _sides(size: int, *, stride: int, margin: int) -> tuple[int, int]:
    total = -(-(size + 2 * margin) // stride) * stride
    return margin, total - size - margin
