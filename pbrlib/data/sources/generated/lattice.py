"""Random placement with one item per cell of a periodic lattice: Voronoi cells and scattered stamps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pbrlib.data.sources.generated.canvas import Canvas

Stamp: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps local coordinates x, y and a random key in [0, 1) to an elevation, negative outside of the shape."""


@dataclass(frozen=True)
class Cells:
    """A periodic Voronoi diagram, with lengths in units of a cell.

    ``near`` is the distance to the nearest centre, ``edge`` the distance to the nearest border, ``index`` the
    number of the cell (of ``count`` cells), ``x`` and ``y`` the position relative to the centre of the cell.
    """

    near: Float[Tensor, "h w"]
    edge: Float[Tensor, "h w"]
    index: Int[Tensor, "h w"]
    x: Float[Tensor, "h w"]
    y: Float[Tensor, "h w"]
    count: int


def cells(
    canvas: Canvas,
    *,
    rows: int,
    columns: int,
    jitter: float = 0.9,
    warp: tuple[Tensor, Tensor] | None = None,
) -> Cells:
    """Return Voronoi cells around jittered lattice points.

    The distance to the border is exact for cells in the 3 x 3 neighbourhood of a pixel (method: I. Quilez,
    "Voronoi borders").

    Args:
        canvas: The canvas that gives coordinates and random numbers.
        rows: Number of rows of lattice points.
        columns: Number of columns of lattice points.
        jitter: 0 for a square grid, 1 for points anywhere in their cell.
        warp: Horizontal and vertical displacements of the coordinates, in widths of the texture.
    """
    points = (canvas.table(2, rows * columns) - 0.5) * jitter + 0.5
    u, v = (canvas.u, canvas.v) if warp is None else (canvas.u + warp[0], canvas.v + warp[1])
    across, down = points
    x, y = u * columns, v * rows
    column, row = x.floor(), y.floor()
    fx, fy = x - column, y - row
    lines = [(row.long() + step) % rows * columns for step in (-1, 0, 1)]
    places = [(column.long() + step) % columns for step in (-1, 0, 1)]
    near, index = torch.full_like(fx, 1e9), torch.zeros_like(lines[0])
    away_x, away_y = torch.zeros_like(fx), torch.zeros_like(fx)
    found: list[tuple[Tensor, Tensor]] = []
    for dy, line in enumerate(lines):
        for dx, place in enumerate(places):
            key = line + place
            ox, oy = across.take(key) + (dx - 1) - fx, down.take(key) + (dy - 1) - fy
            found.append((ox, oy))
            distance = ox * ox + oy * oy
            closer = distance < near
            near = torch.minimum(near, distance)
            index = torch.where(closer, key, index)
            away_x, away_y = torch.where(closer, ox, away_x), torch.where(closer, oy, away_y)
    edge = _border(found, x=away_x, y=away_y)
    return Cells(near.sqrt(), edge, index, -away_x, -away_y, rows * columns)


def _border(found: list[tuple[Tensor, Tensor]], *, x: Tensor, y: Tensor) -> Tensor:
    edge = torch.full_like(x, 1e9)
    for ox, oy in found:
        bx, by = ox - x, oy - y
        length = (bx * bx + by * by).sqrt()
        distance = ((ox + x) * bx + (oy + y) * by) * 0.5 / length.clamp_min(1e-6)
        edge = torch.where(length > 1e-4, torch.minimum(edge, distance), edge)
    return edge


@dataclass(frozen=True)
class Scattered:
    """Scattered stamps: elevation above the bed, and key and local coordinates of the topmost stamp.

    Where no stamp covers the bed, ``covered`` is False and ``top`` is 0.
    """

    top: Float[Tensor, "h w"]
    key: Float[Tensor, "h w"]
    x: Float[Tensor, "h w"]
    y: Float[Tensor, "h w"]
    covered: Bool[Tensor, "h w"]


def scatter(canvas: Canvas, stamp: Stamp, *, across: int, layers: int, pile: float) -> Scattered:
    """Place one rotated stamp into every cell of a lattice, in several layers.

    Args:
        canvas: The canvas that gives coordinates and random numbers.
        stamp: The shape in units of a cell; it must fit a circle of radius 0.7 around its centre.
        across: Number of lattice cells along each axis.
        layers: Number of layers, each with its own lattice.
        pile: Elevation that each layer adds, in units of the stamp's elevation.
    """
    key, x, y = torch.zeros_like(canvas.u), torch.zeros_like(canvas.u), torch.zeros_like(canvas.u)
    height = torch.zeros_like(canvas.u)
    for layer in range(layers):
        place_x, place_y, turn, tags, lift = canvas.table(5, across * across)
        shift = canvas.table(2)
        cos, sin = (turn * (2.0 * torch.pi)).cos(), (turn * (2.0 * torch.pi)).sin()
        for cell, ox, oy in _nearest_cells(
            (canvas.u + shift[0]) * across, (canvas.v + shift[1]) * across, across
        ):
            ox, oy = ox - (place_x.take(cell) - 0.5) * 0.6, oy - (place_y.take(cell) - 0.5) * 0.6
            c, s, tag = cos.take(cell), sin.take(cell), tags.take(cell)
            tx, ty = ox * c + oy * s, oy * c - ox * s
            raised = stamp(tx, ty, tag)
            top = raised + pile * (layer + lift.take(cell))
            above = (raised > 0.0) & (top > height)
            height, key = torch.where(above, top, height), torch.where(above, tag, key)
            x, y = torch.where(above, tx, x), torch.where(above, ty, y)
    return Scattered(height, key, x, y, height > 0.0)


def _nearest_cells(x: Tensor, y: Tensor, across: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the four nearest cells of each pixel: their numbers, and the pixel relative to their centres."""
    left, upper = (x - 0.5).floor(), (y - 0.5).floor()
    for row in (upper, upper + 1):
        line = row.long() % across * across
        for column in (left, left + 1):
            yield line + column.long() % across, x - column - 0.5, y - row - 0.5
