"""Periodic randomness: spectral noise, Voronoi cells, scattered stamps, and a periodic blur.

Everything wraps on both axes, and none of it depends on the texture's size except by sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pbrlib.data.sources.generated.canvas import Canvas

Stamp: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Local coordinates x, y and a random key in [0, 1) to an elevation, negative outside the shape."""


def noise(
    canvas: Canvas,
    *,
    low: float = 1.0,
    high: float = 64.0,
    slope: float = 1.5,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> Float[Tensor, "h w"]:
    """Gaussian noise with a power-law spectrum, zero mean and unit variance.

    Args:
        canvas: where it is sampled; frequencies above its Nyquist limit are left out.
        low: lowest frequency, in periods per texture.
        high: highest frequency, in periods per texture.
        slope: amplitude falls as frequency to the minus ``slope``.
        stretch: how much longer features are along rows and along columns.
    """
    along, down = int(high / stretch[0]), int(high / stretch[1])
    fx = torch.arange(along + 1, dtype=torch.float32)
    fy = torch.cat([torch.arange(down + 1), torch.arange(-down, 0)]).float()
    radius = torch.hypot(fx[None, :] * stretch[0], fy[:, None] * stretch[1])
    band = (radius >= low) & (radius <= high)
    amplitude = torch.where(band, radius.clamp_min(0.5) ** -slope, torch.zeros(()))
    drawn = torch.randn(2, *amplitude.shape, generator=canvas.random) * amplitude
    power = 4.0 * drawn.double().square().sum() - 3.0 * drawn[:, :, 0].double().square().sum()
    coefficients = torch.complex(drawn[0], drawn[1]) / float(power.sqrt().clamp_min(1e-9)) * 2.0**0.5

    nyquist = (canvas.size - 1) // 2
    along, keep = min(along, nyquist), min(down, nyquist)
    spectrum = torch.zeros(canvas.size, canvas.size // 2 + 1, dtype=torch.complex64)
    spectrum[: keep + 1, : along + 1] = coefficients[: keep + 1, : along + 1]
    if keep:
        spectrum[-keep:, : along + 1] = coefficients[-keep:, : along + 1]
    field: Tensor = torch.fft.irfft2(spectrum.to(canvas.device), s=(canvas.size, canvas.size), norm="forward")
    return field


def blur(field: Float[Tensor, "h w"], *, radius: float) -> Float[Tensor, "h w"]:
    """Periodic Gaussian blur; ``radius`` is the standard deviation in widths of the texture."""
    height, width = field.shape
    fy = torch.fft.fftfreq(height, 1.0 / height, device=field.device)
    fx = torch.fft.rfftfreq(width, 1.0 / width, device=field.device)
    scale = -2.0 * (torch.pi * radius) ** 2
    gain = torch.exp(scale * fy.square())[:, None] * torch.exp(scale * fx.square())
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(field) * gain, s=(height, width))
    return blurred


def cavity(elevation: Float[Tensor, "h w"], *, radius: float = 0.01, depth: float) -> Float[Tensor, "h w"]:
    """How far a point lies under its surroundings, as a share in [0, 1] of ``depth``."""
    return ((blur(elevation, radius=radius) - elevation) / depth).clamp(0.0, 1.0)


def shifted(
    field: Float[Tensor, "h w"], *, index: Int[Tensor, "h w"], offsets: Float[Tensor, "2 n"]
) -> Float[Tensor, "h w"]:
    """The field moved by another offset in each piece, so that planks and bricks do not continue."""
    height, width = field.shape
    rows = torch.arange(height, device=field.device)[:, None]
    columns = torch.arange(width, device=field.device)[None, :]
    down = (offsets[0] * height).long()[index]
    along = (offsets[1] * width).long()[index]
    return field.flatten()[(rows + down) % height * width + (columns + along) % width]


@dataclass(frozen=True)
class Cells:
    """A periodic Voronoi diagram, lengths in units of a cell.

    ``near`` is the distance to the nearest centre, ``edge`` that to the nearest border, ``index`` the
    number of the cell out of ``count``, ``x`` and ``y`` the position relative to its centre.
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
    """Voronoi cells around jittered lattice points.

    The border distance is exact for the cells that reach into the 3 x 3 neighbourhood of a pixel
    (method: I. Quilez, "Voronoi borders").

    Args:
        canvas: where it is sampled.
        rows: lattice points down the texture.
        columns: lattice points along the texture.
        jitter: 0 for a square grid, 1 for points anywhere in their cell.
        warp: displacements of the coordinates along and down, in widths of the texture.
    """
    points = (canvas.table(2, rows * columns) - 0.5) * jitter + 0.5
    u, v = (canvas.u, canvas.v) if warp is None else (canvas.u + warp[0], canvas.v + warp[1])
    x, y = u * columns, v * rows
    column, row = x.floor(), y.floor()
    fx, fy = x - column, y - row
    column, row = column.long(), row.long()
    near = torch.full_like(fx, 1e9)
    index = torch.zeros_like(column)
    away_x, away_y = torch.zeros_like(fx), torch.zeros_like(fx)
    found: list[tuple[Tensor, Tensor]] = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            key = (row + dy) % rows * columns + (column + dx) % columns
            ox, oy = points[0][key] + dx - fx, points[1][key] + dy - fy
            found.append((ox, oy))
            distance = ox * ox + oy * oy
            closer = distance < near
            near = torch.where(closer, distance, near)
            index = torch.where(closer, key, index)
            away_x, away_y = torch.where(closer, ox, away_x), torch.where(closer, oy, away_y)
    return Cells(near.sqrt(), _border(found, x=away_x, y=away_y), index, -away_x, -away_y, rows * columns)


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
    """What lies on top after scattering: elevation above the bed, a key per stamp, local coordinates.

    ``covered`` is false, and ``top`` zero, where the bed shows.
    """

    top: Float[Tensor, "h w"]
    key: Float[Tensor, "h w"]
    x: Float[Tensor, "h w"]
    y: Float[Tensor, "h w"]
    covered: Bool[Tensor, "h w"]


def scatter(
    canvas: Canvas, stamp: Stamp, *, across: int, layers: int, pile: float, turn: float = 1.0
) -> Scattered:
    """Throws one turned stamp into every cell of a lattice, layer over layer.

    Args:
        canvas: where it is sampled.
        stamp: the shape, in units of a cell; must fit a circle of radius 0.7 around its centre.
        across: lattice cells along each axis.
        layers: number of lattices, each thrown on the one before.
        pile: elevation that each layer adds, in units of the stamp's elevation.
        turn: share of the full circle that stamps are turned by.
    """
    top = torch.zeros_like(canvas.u)
    key, x, y = (torch.zeros_like(canvas.u) for _ in range(3))
    for layer in range(layers):
        table = canvas.table(5, across * across)
        angle = table[2] * (2.0 * torch.pi * turn)
        cos, sin = angle.cos(), angle.sin()
        shift = canvas.table(2)
        px, py = (canvas.u + shift[0]) * across, (canvas.v + shift[1]) * across
        left, upper = (px - 0.5).floor(), (py - 0.5).floor()
        for dy in (0, 1):
            for dx in (0, 1):
                column, row = left + dx, upper + dy
                cell = row.long() % across * across + column.long() % across
                ox = px - column - 0.5 - (table[0][cell] - 0.5) * 0.6
                oy = py - row - 0.5 - (table[1][cell] - 0.5) * 0.6
                tx, ty = ox * cos[cell] + oy * sin[cell], oy * cos[cell] - ox * sin[cell]
                tag = table[3][cell]
                raised = stamp(tx, ty, tag)
                height = raised + pile * (layer + table[4][cell])
                above = (raised > 0.0) & (height > top)
                top = torch.where(above, height, top)
                key = torch.where(above, tag, key)
                x, y = torch.where(above, tx, x), torch.where(above, ty, y)
    return Scattered(top, key, x, y, top > 0.0)
