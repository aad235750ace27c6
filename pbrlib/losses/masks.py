"""Masks of the pixels, neighbour pairs and windows that a loss term averages over."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, UInt8
from torch import Tensor

SEAM_PX = 3
"""Pixels on each side of a mosaic's seam that terms over neighbouring pixels ignore."""


def pairs(valid: Bool[Tensor, "n 1 h w"]) -> tuple[Tensor, Tensor]:
    """Return where both pixels of a forward difference are valid, along x and along y."""
    return valid[..., :, 1:] & valid[..., :, :-1], valid[..., 1:, :] & valid[..., :-1, :]


def windows(valid: Bool[Tensor, "n 1 h w"]) -> Bool[Tensor, "n 1 h w"]:
    """Return where the whole 3 x 3 window is valid; pixels beyond the border count as valid."""
    return F.max_pool2d((~valid).float(), 3, stride=1, padding=1) == 0


def seams(regions: UInt8[Tensor, "n 1 h w"]) -> Bool[Tensor, "n 1 h w"]:
    """Return the band along every seam: pixels at most three pixels away from another region."""
    numbers = regions.float()
    side = 2 * SEAM_PX + 1
    highest = F.max_pool2d(numbers, side, stride=1, padding=SEAM_PX)
    lowest = -F.max_pool2d(-numbers, side, stride=1, padding=SEAM_PX)
    return highest != lowest
