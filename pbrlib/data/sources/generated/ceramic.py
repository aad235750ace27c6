"""Procedural styles of ceramic: wall tiles, hexagons, mosaics, painted tiles and roof tiles."""

from __future__ import annotations

import torch
from torch import Tensor

from pbrlib.data.sources.generated.canvas import DYES, Canvas, Palette, Surface, blend, dielectric, ramp
from pbrlib.data.sources.generated.lattice import cells
from pbrlib.data.sources.generated.layout import Tiles, courses, hexagons
from pbrlib.data.sources.generated.noise import noise

_GLAZES: Palette = (
    (0.86, 0.84, 0.79),
    (0.80, 0.74, 0.60),
    (0.22, 0.42, 0.46),
    (0.20, 0.30, 0.52),
    (0.34, 0.48, 0.32),
    (0.58, 0.28, 0.17),
    (0.16, 0.16, 0.18),
    *DYES[:4],
)
_CLAYS: Palette = ((0.52, 0.28, 0.17), (0.60, 0.36, 0.22), (0.40, 0.22, 0.15), (0.55, 0.42, 0.32))
_GROUTS: Palette = ((0.72, 0.69, 0.63), (0.48, 0.45, 0.41), (0.30, 0.28, 0.26), (0.62, 0.56, 0.46))


def _set_in_grout(canvas: Canvas, tiles: Tiles, *, glaze: Tensor, edge: Tensor, joint: float) -> Surface:
    """Paint glazed tiles with rounded edges: glaze (3, h, w), and grout if ``edge`` < ``joint``."""
    inside = edge - joint
    face = ramp(inside, -0.001, 0.003)
    rise = canvas.uniform(0.004, 0.009)
    tilt = (canvas.table(2, tiles.count) - 0.5) * canvas.uniform(0.0, 0.005)
    sand = noise(canvas, low=24, high=200, slope=0.7)
    wave = noise(canvas, low=3, high=16, slope=1.0) * canvas.uniform(0.0002, 0.0007)
    pillow = rise * (1.0 - torch.exp(-inside.clamp_min(0.0) / canvas.uniform(0.003, 0.010)))
    body = pillow + tilt[0][tiles.index] * tiles.x + tilt[1][tiles.index] * tiles.y + wave
    elevation = blend(sand * 0.0002, body, face)

    cloud = noise(canvas, low=1, high=48, slope=1.3)
    grout = canvas.colour(_GROUTS) * (1.0 + 0.07 * sand + 0.08 * cloud)
    grime = ramp(0.010 - inside, 0.0, 0.010) * ramp(cloud, -0.6, 1.4) * canvas.uniform(0.1, 0.6)
    pooled = 1.0 - 0.18 * ramp(0.008 - inside, 0.0, 0.008)  # glaze is thicker and darker along the edge
    albedo = blend(grout, blend(glaze * pooled, grout * 0.6, grime), face)
    gloss = canvas.uniform(0.07, 0.32)
    offset = (canvas.table(tiles.count)[tiles.index] - 0.5) * 0.08
    smear = ramp(noise(canvas, low=2, high=64, slope=1.1), 0.0, 2.5) * 0.25
    rough = blend(0.86 + 0.04 * sand, gloss + offset + smear + 0.4 * grime, face)
    return dielectric(elevation, albedo=albedo, roughness=rough)


def square(canvas: Canvas) -> Surface:
    """Paint wall or floor tiles in straight or running bond, sometimes as a chequerboard of two glazes."""
    columns = 2 * canvas.integer(2, 4)
    rows_per_column = canvas.choice((1, 1, 2))
    bond = canvas.choice((0.0, 0.0, 0.5))
    tiles = courses(canvas, rows=columns * rows_per_column, columns=columns, shift=bond)
    first, second = canvas.colour(_GLAZES), canvas.colour(_GLAZES)
    row, column = tiles.index // columns, tiles.index % columns
    is_second = (row + column) % 2 if canvas.chance(0.35) else (tiles.index < 0).long()
    amount = canvas.uniform(0.04, 0.16)
    glaze = blend(first, second, is_second.float())
    glaze = glaze * canvas.vary_colour(
        torch.ones_like(first), index=tiles.index, count=tiles.count, amount=amount
    )
    return _set_in_grout(
        canvas, tiles, glaze=glaze, edge=tiles.edge(corner=0.008), joint=canvas.uniform(0.003, 0.006)
    )


def hexagon(canvas: Canvas) -> Surface:
    """Paint hexagonal floor tiles of one colour, with a few accent tiles of another colour."""
    tiles = hexagons(canvas, columns=canvas.choice((5, 7, 9, 12)))
    accent = (canvas.table(tiles.count) < canvas.uniform(0.05, 0.3))[tiles.index].float()
    amount = canvas.uniform(0.05, 0.18)
    main = canvas.vary_colour(canvas.colour(_GLAZES), index=tiles.index, count=tiles.count, amount=amount)
    glaze = blend(main, canvas.colour(_GLAZES), accent)
    return _set_in_grout(canvas, tiles, glaze=glaze, edge=tiles.edge(), joint=canvas.uniform(0.003, 0.006))


def mosaic(canvas: Canvas) -> Surface:
    """Paint small hand-cut pieces; a noise pattern selects the glaze of each piece."""
    columns = canvas.integer(14, 22)
    cut = cells(canvas, rows=columns, columns=columns, jitter=canvas.uniform(0.25, 0.6))
    edge = cut.edge / columns
    tiles = Tiles(edge, edge, cut.x, cut.y, cut.index, cut.count)
    pattern = noise(canvas, low=1, high=4, slope=1.2)
    centre_x = (canvas.u - cut.x / columns).remainder(1.0)
    centre_y = (canvas.v - cut.y / columns).remainder(1.0)
    last = canvas.size - 1
    row, column = (
        (centre_y * canvas.size).long().clamp(0, last),
        (centre_x * canvas.size).long().clamp(0, last),
    )
    band = ((pattern[row, column] * canvas.uniform(1.0, 2.0)).floor().long() + 8) % 4
    glazes = torch.stack([canvas.colour(_GLAZES)[:, 0, 0] for _ in range(4)], dim=1)
    unit = torch.ones(3, 1, 1, device=canvas.device)
    glaze = glazes[:, band] * canvas.vary_colour(unit, index=cut.index, count=cut.count, amount=0.22)
    return _set_in_grout(canvas, tiles, glaze=glaze, edge=edge, joint=canvas.uniform(0.0025, 0.005))


def painted(canvas: Canvas) -> Surface:
    """Paint square tiles with a symmetrical ornament under the glaze."""
    columns = canvas.choice((3, 4, 5))
    tiles = courses(canvas, rows=columns, columns=columns)
    x, y = tiles.x.abs(), tiles.y.abs()
    radius, angle = torch.hypot(x, y), torch.atan2(torch.minimum(x, y), torch.maximum(x, y))
    corner_distance = torch.hypot(0.5 - x, 0.5 - y)
    petals = torch.cos(angle * canvas.choice((4, 8, 12))) * canvas.uniform(0.05, 0.12)
    rings = torch.sin((radius + petals) * canvas.uniform(14.0, 30.0) + canvas.uniform(0.0, 6.0))
    corners = torch.sin(corner_distance * canvas.uniform(18.0, 36.0))
    line = torch.where(radius < corner_distance, rings, corners)
    line = line + 0.12 * noise(canvas, low=6, high=64, slope=1.0)
    base = canvas.vary_colour(canvas.colour(_GLAZES[:2]), index=tiles.index, count=tiles.count, amount=0.06)
    glaze = blend(base, canvas.colour(_GLAZES[2:7]), ramp(line, 0.1, 0.4))
    glaze = blend(glaze, canvas.colour(_GLAZES), ramp(-line, 0.75, 0.9))
    return _set_in_grout(canvas, tiles, glaze=glaze, edge=tiles.edge(), joint=canvas.uniform(0.002, 0.005))


def roof(canvas: Canvas) -> Surface:
    """Paint courses of half-round clay tiles; each course overlaps the next one below."""
    rows, columns = 2 * canvas.integer(2, 3), canvas.integer(6, 10)
    sway = noise(canvas, low=2, high=24, slope=1.2) * 0.002
    tiles = courses(
        canvas, rows=rows, columns=columns, shift=canvas.choice((0.0, 0.5)), jitter=0.08, warp=(sway, sway)
    )
    offsets = canvas.table(3, tiles.count)
    depth = tiles.y + 0.5  # from the upper to the lower end of a tile
    barrel = (1.0 - (2.0 * tiles.x).square()).clamp_min(0.0).sqrt()
    lip = ramp(1.0 - depth, 0.0, 0.04)
    grain = noise(canvas, low=16, high=200, slope=0.8)
    height = barrel * 0.28 / columns + depth * lip * (0.10 + 0.04 * offsets[0][tiles.index]) / rows
    elevation = height + 0.012 * (offsets[1][tiles.index] - 0.5) / columns + grain * 0.00015
    glazed = canvas.chance(0.3)
    palette = _GLAZES[2:6] if glazed else _CLAYS
    clay = canvas.vary_colour(canvas.colour(palette), index=tiles.index, count=tiles.count, amount=0.25)
    cloud = noise(canvas, low=2, high=96, slope=1.2)
    soot = ramp(cloud + 1.2 * (0.35 - depth), 0.3, 2.0) * canvas.uniform(0.2, 0.7)
    shade = 1.0 + 0.06 * grain + 0.08 * cloud
    coverage = ramp(barrel, 0.0, 0.45)
    albedo = blend(clay * shade, canvas.colour(_GROUTS[1:3]) * 0.7, soot) * blend(0.45, 1.0, coverage)
    rough = (canvas.uniform(0.2, 0.4) if glazed else canvas.uniform(0.78, 0.92)) + 0.03 * grain
    rough = blend(rough, 0.92, soot * 0.8)
    return dielectric(elevation, albedo=albedo, roughness=rough)
