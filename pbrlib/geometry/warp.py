"""Applies small elastic warps to pictures; normal vectors are rotated with the surface.

Each pixel of a warped picture has the value of the original at the pixel's position plus its displacement.
The displacement is 0 at the border, so that no pixel outside of the picture is needed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from pbrlib.geometry.fields import difference

NODES = 4
"""Movable control points per side; with the fixed border points, their distance is a fifth of the side."""


def smooth_displacement(
    nodes: Float[Tensor, "n 2 g g"], *, size: tuple[int, int]
) -> Float[Tensor, "n 2 h w"]:
    """Interpolate displacements (columns, rows) in pixels between ``nodes``; they are 0 at the border.

    Args:
        nodes: Displacements at the inner control points of a regular grid over the picture.
        size: Height and width of the picture.
    """
    grid = F.pad(nodes, (1, 1, 1, 1))
    return F.interpolate(grid, size=size, mode="bicubic", align_corners=True)


def warp(x: Float[Tensor, "n c h w"], *, displacement: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n c h w"]:
    """Warp scalars or colours with bilinear interpolation."""
    grid = _grid(displacement)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)


def warp_labels(
    labels: Int64[Tensor, "n h w"], *, displacement: Float[Tensor, "n 2 h w"]
) -> Int64[Tensor, "n h w"]:
    """Warp class ids; each pixel gets the id of the nearest source pixel."""
    grid = _grid(displacement)
    numbers = labels.unsqueeze(1).float()
    nearest = F.grid_sample(numbers, grid, mode="nearest", padding_mode="border", align_corners=True)
    return nearest.squeeze(1).long()


def warp_normal(
    normal: Float[Tensor, "n 3 h w"], *, displacement: Float[Tensor, "n 2 h w"]
) -> Float[Tensor, "n 3 h w"]:
    """Warp OpenGL unit normals with their surface; heights are displaced without a change of value.

    With ``g(x) = h(x + d(x))`` the chain rule gives ``grad g = (I + dd/dx)^T grad h``. The slopes are
    ``-n_x / n_z`` along columns and ``n_y / n_z`` along rows, so the same matrix turns ``(n_x, -n_y)``
    without a division.
    """
    moved = warp(normal, displacement=displacement)
    x, y, z = moved.unsqueeze(2).unbind(dim=1)
    d_column = difference(displacement, dim=-1, tileable=False)
    d_row = difference(displacement, dim=-2, tileable=False)
    rotated = torch.cat(
        (
            (1.0 + d_column[:, :1]) * x - d_column[:, 1:] * y,
            (1.0 + d_row[:, 1:]) * y - d_row[:, :1] * x,
            z,
        ),
        dim=1,
    )
    length = rotated.square().sum(dim=1, keepdim=True).sqrt()
    return rotated / length.clamp_min(1e-6)


def _grid(displacement: Tensor) -> Float[Tensor, "n h w 2"]:
    """Return the sampling position of each pixel for ``grid_sample``; -1 and 1 are the outermost pixels."""
    height, width = displacement.shape[-2:]
    columns = torch.arange(width, device=displacement.device) + displacement[:, 0]
    rows = torch.arange(height, device=displacement.device).view(-1, 1) + displacement[:, 1]
    return torch.stack((columns * (2.0 / (width - 1)) - 1.0, rows * (2.0 / (height - 1)) - 1.0), dim=-1)
