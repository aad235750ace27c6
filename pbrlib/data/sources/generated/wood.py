"""Procedural styles of wood: planks, parquet, veneer, bark and shingles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pbrlib.data.sources.generated.canvas import DYES, Canvas, Palette, Surface, blend, dielectric, ramp
from pbrlib.data.sources.generated.lattice import cells
from pbrlib.data.sources.generated.layout import Tiles, courses, parquet
from pbrlib.data.sources.generated.noise import cavity, noise, shift_per_piece

_TIMBERS: Palette = (
    (0.48, 0.33, 0.20),
    (0.36, 0.23, 0.14),
    (0.60, 0.45, 0.28),
    (0.42, 0.24, 0.13),
    (0.26, 0.18, 0.12),
)
_WEATHERED: Palette = ((0.45, 0.42, 0.38), (0.36, 0.32, 0.28), (0.52, 0.46, 0.38), (0.40, 0.32, 0.24))
_BARKS: Palette = ((0.36, 0.28, 0.21), (0.44, 0.38, 0.32), (0.28, 0.22, 0.17), (0.48, 0.36, 0.26))
_MOSS: Palette = ((0.34, 0.38, 0.20), (0.46, 0.48, 0.36))


@dataclass(frozen=True)
class _Grain:
    """Wood grain: growth rings in [0, 1] (1 is dark late wood), fibres of zero mean, and pores in [0, 1]."""

    rings: Tensor
    fibre: Tensor
    pores: Tensor

    def shift_pieces(self, index: Tensor, offsets: Tensor) -> _Grain:
        """Shift the grain in each piece, so that pieces come from different parts of a trunk."""
        return _Grain(
            *(shift_per_piece(x, index=index, offsets=offsets) for x in (self.rings, self.fibre, self.pores))
        )

    def transpose_where(self, turned: Tensor) -> _Grain:
        """Transpose the grain of pixels with ``turned`` 1, so that it is vertical there."""
        return _Grain(*(torch.where(turned > 0, x.mT, x) for x in (self.rings, self.fibre, self.pores)))


def _grain(canvas: Canvas, *, rings: int | None = None) -> _Grain:
    """Return grain along the rows."""
    count = rings or canvas.integer(7, 15)
    wander = noise(canvas, low=1, high=24, slope=1.5, stretch=(canvas.uniform(4.0, 9.0), 1.0))
    knots = cells(canvas, rows=3, columns=2)
    kept = (canvas.table(knots.count) < canvas.uniform(0.0, 0.6))[knots.index]
    bulge = (
        torch.exp(-((knots.x * 3.0).square() + (knots.y * 3.5).square())) * kept * ramp(knots.edge, 0.0, 0.25)
    )
    phase = canvas.v * count + wander * canvas.uniform(0.4, 1.1) + 2.6 * bulge
    saw = phase.remainder(1.0)
    late = ramp(saw, 0.1, 0.85) * (1.0 - ramp(saw, 0.88, 1.0))
    fibre = noise(canvas, low=10, high=256, slope=0.45, stretch=(14.0, 1.0))
    streak = noise(canvas, low=24, high=256, slope=0.3, stretch=(9.0, 1.0))
    return _Grain((late + 1.2 * bulge.pow(3)).clamp(0.0, 1.3), fibre, ramp(streak, 1.2, 2.0))


def _figured(canvas: Canvas, grain: _Grain, colour: Tensor) -> Tensor:
    contrast = canvas.uniform(0.18, 0.42)
    shade = (1.05 - contrast * grain.rings) * (1.0 + 0.07 * grain.fibre) * (1.0 - 0.3 * grain.pores)
    warm = torch.tensor((0.0, -0.03, -0.06), device=canvas.device)[:, None, None]
    return colour * shade * (1.0 + warm * grain.rings * 2.0)


def _boards(
    canvas: Canvas, tiles: Tiles, grain: _Grain, *, colour: Tensor, joint: float, wear: float, gloss: float
) -> Surface:
    """Paint pieces of timber side by side; ``wear`` in [0, 1] raises the grain and splits the ends."""
    edge = tiles.edge() - joint * (1.0 + 0.15 * grain.fibre)
    face = ramp(edge, -0.001, 0.003)
    tilt = (canvas.table(3, tiles.count) - 0.5) * (0.002 + 0.010 * wear)
    level = tilt[0][tiles.index] * tiles.y + tilt[1][tiles.index] * tiles.x + 0.7 * tilt[2][tiles.index]
    body = (0.002 + 0.008 * wear) * (1.0 - torch.exp(-edge.clamp_min(0.0) / 0.003))
    raised = (0.0004 + 0.0018 * wear) * (1.0 - grain.rings) + (0.00004 + 0.00022 * wear) * grain.fibre
    split = noise(canvas, low=4, high=160, slope=0.8, stretch=(16.0, 1.0))
    split = (
        ramp(shift_per_piece(split, index=tiles.index, offsets=canvas.table(2, tiles.count)), 1.9, 2.5) * wear
    )
    elevation = face * (body + level + raised - (0.0001 + 0.0005 * wear) * grain.pores - 0.006 * split)
    cloud = noise(canvas, low=1, high=64, slope=1.3)
    timber = _figured(canvas, grain, colour) * (1.0 + 0.07 * cloud)
    dirt = ramp(0.012 - edge, 0.0, 0.012) * ramp(cloud, -1.0, 1.5) * (0.25 + 0.4 * wear)
    albedo = timber * (1.0 - 0.75 * (1.0 - face)) * (1.0 - dirt) * (1.0 - 0.65 * split)
    rough = gloss + 0.06 * grain.rings + 0.03 * grain.fibre + 0.10 * grain.pores + 0.04 * cloud
    rough = blend(0.9, rough + 0.2 * split + 0.1 * dirt, face)
    return dielectric(elevation, albedo=albedo, roughness=rough)


def plank(canvas: Canvas) -> Surface:
    """Paint weathered or oiled boards, sometimes with old paint, with nails at their ends."""
    rows = canvas.integer(4, 8)
    tiles = courses(canvas, rows=rows, columns=canvas.choice((1, 1, 2)), shift=canvas.table(rows))
    grain = _grain(canvas).shift_pieces(tiles.index, canvas.table(2, tiles.count))
    old = canvas.chance(0.5)
    colour = canvas.vary_colour(
        canvas.colour(_WEATHERED if old else _TIMBERS), index=tiles.index, count=tiles.count, amount=0.20
    )
    wear, gloss = (0.9, canvas.uniform(0.72, 0.88)) if old else (0.35, canvas.uniform(0.45, 0.70))
    boards = _boards(
        canvas, tiles, grain, colour=colour, joint=canvas.uniform(0.002, 0.005), wear=wear, gloss=gloss
    )
    if canvas.chance(0.3):
        boards = _painted(canvas, boards, grain)
    return boards.transposed() if canvas.chance(0.5) else boards


def _painted(canvas: Canvas, boards: Surface, grain: _Grain) -> Surface:
    flaking = (
        noise(canvas, low=2, high=160, slope=1.1, stretch=(3.0, 1.0)) + 0.5 * grain.fibre - 0.4 * grain.rings
    )
    paint = ramp(flaking, -0.3, 0.0) * (1.0 - cavity(boards.elevation, radius=0.01, depth=0.008))
    coat = canvas.colour(DYES) * (1.0 + 0.04 * grain.fibre)
    return dielectric(
        boards.elevation + 0.0007 * paint,
        albedo=blend(boards.albedo, coat, 0.92 * paint),
        roughness=blend(boards.roughness, canvas.uniform(0.4, 0.65), paint),
    )


def floor(canvas: Canvas) -> Surface:
    """Paint lacquered parquet: square blocks of strips in alternating directions."""
    tiles, turned = parquet(canvas, blocks=canvas.choice((4, 6)), strips=canvas.choice((3, 4, 5)))
    grain = _grain(canvas, rings=canvas.integer(16, 30)).transpose_where(turned)
    grain = grain.shift_pieces(tiles.index, canvas.table(2, tiles.count))
    colour = canvas.vary_colour(canvas.colour(_TIMBERS), index=tiles.index, count=tiles.count, amount=0.22)
    gloss = canvas.uniform(0.22, 0.50)
    return _boards(canvas, tiles, grain, colour=colour, joint=0.0006, wear=0.1, gloss=gloss)


def veneer(canvas: Canvas) -> Surface:
    """Paint one large face of figured wood, sanded and lacquered."""
    grain = _grain(canvas, rings=canvas.integer(5, 12))
    cloud = noise(canvas, low=1, high=32, slope=1.4)
    albedo = _figured(canvas, grain, canvas.colour(_TIMBERS)) * (1.0 + 0.06 * cloud)
    elevation = 0.0006 * (1.0 - grain.rings) + 0.00004 * grain.fibre - 0.0002 * grain.pores + 0.0006 * cloud
    rough = canvas.uniform(0.20, 0.50) + 0.05 * grain.rings + 0.02 * grain.fibre + 0.12 * grain.pores
    surface = dielectric(elevation, albedo=albedo, roughness=rough)
    return surface.transposed() if canvas.chance(0.5) else surface


def bark(canvas: Canvas) -> Surface:
    """Paint furrowed bark: long plates that split and flake."""
    rows, columns = canvas.integer(4, 6), canvas.integer(10, 16)
    bend = noise(canvas, low=2, high=64, slope=1.2, stretch=(1.0, 2.0)) * (0.16 / columns)
    sway = noise(canvas, low=2, high=64, slope=1.3) * (0.12 / rows)
    plates = cells(canvas, rows=rows, columns=columns, jitter=0.95, warp=(bend, sway))
    furrow = torch.exp(-(plates.edge.clamp_min(0.0) / 0.13).square())
    ridges = noise(canvas, low=5, high=200, slope=1.4, stretch=(1.0, 5.0))
    flakes = noise(canvas, low=6, high=256, slope=1.5, stretch=(1.0, 2.0))
    level = canvas.table(plates.count)[plates.index] - 0.5
    height = (1.0 - furrow) * (0.40 + 0.2 * level) + 0.09 * ridges + 0.05 * flakes
    elevation = height * (0.24 / columns)
    colour = canvas.vary_colour(canvas.colour(_BARKS), index=plates.index, count=plates.count, amount=0.14)
    shade = (1.0 + 0.10 * ridges + 0.10 * flakes) * (1.0 - 0.55 * furrow)
    moss = ramp(noise(canvas, low=1, high=96, slope=1.2), 0.9, 1.8) * canvas.uniform(0.0, 0.7)
    albedo = blend(colour * shade, canvas.colour(_MOSS) * (1.0 + 0.1 * flakes), moss * (1.0 - 0.6 * furrow))
    rough = canvas.uniform(0.74, 0.90) + 0.03 * flakes + 0.06 * furrow
    return dielectric(elevation, albedo=albedo, roughness=rough)


def shingle(canvas: Canvas) -> Surface:
    """Paint split wooden shingles in overlapping courses."""
    rows, columns = canvas.integer(4, 7), canvas.integer(5, 9)
    sway = noise(canvas, low=2, high=80, slope=1.2) * 0.004
    tiles = courses(
        canvas, rows=rows, columns=columns, shift=canvas.table(rows), jitter=0.28, warp=(sway * 0.4, sway)
    )
    across = _grain(canvas, rings=canvas.integer(14, 26))
    grain = across.transpose_where(torch.ones_like(canvas.u)).shift_pieces(
        tiles.index, canvas.table(2, tiles.count)
    )
    colour = canvas.vary_colour(canvas.colour(_WEATHERED), index=tiles.index, count=tiles.count, amount=0.24)
    slab = _boards(
        canvas, tiles, grain, colour=colour, joint=0.002, wear=0.8, gloss=canvas.uniform(0.7, 0.88)
    )
    down = tiles.y + 0.5
    rise = down * ramp(1.0 - down, 0.0, 0.05) * (0.13 + 0.05 * canvas.table(tiles.count)[tiles.index]) / rows
    stain = 1.0 - 0.35 * ramp(0.35 - down, 0.0, 0.35)
    return dielectric(slab.elevation + rise, albedo=slab.albedo * stain, roughness=slab.roughness)
