"""Procedural styles of ground: soil, gravel, mud, leaf litter and grass."""

from __future__ import annotations

import torch
from torch import Tensor

from pbrlib.data.sources.generated.canvas import Canvas, Palette, Surface, blend, dielectric, ramp
from pbrlib.data.sources.generated.lattice import cells, scatter
from pbrlib.data.sources.generated.noise import cavity, noise

_EARTHS: Palette = (
    (0.40, 0.32, 0.23),
    (0.50, 0.42, 0.31),
    (0.32, 0.26, 0.20),
    (0.64, 0.56, 0.44),
    (0.47, 0.34, 0.23),
    (0.40, 0.38, 0.35),
)
_PEBBLES: Palette = ((0.50, 0.49, 0.46), (0.40, 0.39, 0.38), (0.60, 0.55, 0.47), (0.46, 0.38, 0.31))
_LITTER: Palette = ((0.58, 0.40, 0.16), (0.45, 0.30, 0.16), (0.56, 0.50, 0.34), (0.36, 0.25, 0.15))
_GREENS: Palette = ((0.35, 0.42, 0.18), (0.42, 0.48, 0.23), (0.54, 0.52, 0.27), (0.28, 0.35, 0.16))


def earth(canvas: Canvas) -> Surface:
    """Paint bare crumbly earth, which is under every other ground."""
    lumps = noise(canvas, low=2, high=200, slope=1.7)
    crumb = noise(canvas, low=40, high=256, slope=0.7)
    clods = cells(canvas, rows=36, columns=36, warp=(lumps * 0.004, lumps * 0.004))
    size = canvas.table(clods.count)[clods.index]
    clod = (1.0 - clods.near * (1.6 + size)).clamp_min(0.0) * ramp(size, 0.5, 1.0)
    elevation = lumps * 0.005 + clod * 0.0035 + crumb * 0.00016
    hollow = cavity(elevation, radius=0.015, depth=0.006)
    shade = 1.0 + 0.10 * crumb + 0.08 * lumps - 0.35 * hollow
    cloud = noise(canvas, low=1, high=32, slope=1.2)
    colour = blend(canvas.colour(_EARTHS), canvas.colour(_EARTHS), ramp(cloud, -1.2, 1.2))
    damp = ramp(-lumps - 0.3 * cloud, 0.6, 1.8) * canvas.uniform(0.0, 0.8)
    albedo = colour * shade * (1.0 - 0.35 * damp)
    rough = canvas.uniform(0.82, 0.95) + 0.03 * crumb - 0.3 * damp
    return dielectric(elevation, albedo=albedo, roughness=rough)


def soil(canvas: Canvas) -> Surface:
    """Paint earth with scattered pebbles."""
    bed = earth(canvas)
    return _pebbles(
        canvas, bed, across=canvas.integer(14, 22), share=canvas.uniform(0.1, 0.35), round_off=0.9
    )


def _pebbles(canvas: Canvas, bed: Surface, *, across: int, share: float, round_off: float = 0.5) -> Surface:
    """Add stones to a bed; ``round_off`` 0 gives broken stones that fill their cells, 1 round pebbles."""
    lobes = noise(canvas, low=across / 2, high=across * 3, slope=1.0) * (0.022 / across)
    stones = cells(canvas, rows=across, columns=across, warp=(lobes, lobes.mT))
    table = canvas.table(2, stones.count)
    reach = 0.28 + 0.30 * table[0][stones.index]
    inside = torch.minimum(stones.edge, (reach - stones.near) * 0.6 + (1.0 - round_off) * 0.25)
    laid = (table[1] < share)[stones.index]
    shoulder = 1.0 - (inside / 0.22).clamp(0.0, 1.0)
    dome = (1.0 - shoulder.square()).sqrt() * laid
    face = ramp(inside, 0.0, 0.06) * laid
    contact = ramp(inside, -0.15, 0.0) * laid * (1.0 - face)
    grain = noise(canvas, low=24, high=256, slope=0.9)
    colour = canvas.vary_colour(canvas.colour(_PEBBLES), index=stones.index, count=stones.count, amount=0.30)
    return dielectric(
        bed.elevation + dome * (0.11 + 0.08 * table[0][stones.index]) / across + face * grain * 0.00015,
        albedo=blend(bed.albedo * (1.0 - 0.4 * contact), colour * (0.8 + 0.2 * dome + 0.07 * grain), face),
        roughness=blend(bed.roughness, canvas.uniform(0.6, 0.85) + 0.03 * grain, face),
    )


def gravel(canvas: Canvas) -> Surface:
    """Paint stones of three sizes on earth."""
    surface = earth(canvas).scaled(0.4)
    base, round_off = canvas.integer(8, 11), canvas.uniform(0.0, 0.9)
    for across, share in ((base * 4, 0.95), (base * 2, 0.8), (base, canvas.uniform(0.25, 0.5))):
        surface = _pebbles(canvas, surface.scaled(0.8), across=across, share=share, round_off=round_off)
    return surface


def mud(canvas: Canvas) -> Surface:
    """Paint dried mud: curled plates that are cracked again."""
    across = canvas.integer(6, 10)
    bend = noise(canvas, low=3, high=40, slope=1.6) * (0.08 / across)
    sway = noise(canvas, low=3, high=40, slope=1.6) * (0.08 / across)
    plates = cells(canvas, rows=across, columns=across, warp=(bend, sway))
    shards = cells(canvas, rows=across * 2, columns=across * 2, warp=(bend * 1.4, sway * 1.4))
    open_share = canvas.uniform(0.03, 0.08)
    crack = 1.0 - ramp(plates.edge, open_share * 0.35, open_share)
    split = (1.0 - ramp(shards.edge, 0.02, 0.07)) * ramp(plates.edge, 0.05, 0.2)
    split = split * (canvas.table(plates.count)[plates.index] > 0.4)
    grain = noise(canvas, low=12, high=256, slope=0.9)
    curl = torch.exp(-plates.edge / 0.16) * canvas.uniform(0.1, 0.3)
    level = (canvas.table(plates.count)[plates.index] - 0.5) * 0.12
    height = (1.0 - crack) * (0.32 + curl + level) - 0.14 * split
    elevation = height * (0.2 / across) + grain * 0.0002
    mudcolour = canvas.vary_colour(
        canvas.colour(_EARTHS), index=plates.index, count=plates.count, amount=0.12
    )
    cloud = noise(canvas, low=1, high=64, slope=1.2)
    shade = (1.0 + 0.05 * grain + 0.07 * cloud + 0.25 * curl) * (1.0 - 0.6 * crack) * (1.0 - 0.35 * split)
    rough = canvas.uniform(0.7, 0.92) + 0.03 * grain + 0.05 * crack - 0.04 * cloud
    return dielectric(elevation, albedo=mudcolour * shade, roughness=rough)


def _strew(
    canvas: Canvas, bed: Surface, *, across: int, layers: int, blade: bool, palette: Palette
) -> Surface:
    """Scatter leaves (oval, ribbed) or blades of grass (long, narrow) over a bed."""
    slim = 0.07 if blade else canvas.uniform(0.28, 0.42)

    def shape(x: Tensor, y: Tensor, key: Tensor) -> Tensor:
        reach = (x / 0.66).square()
        width = slim * (0.6 + 0.4 * key) * (1.0 - reach).clamp_min(0.0)
        across_leaf = (y.abs() - 0.16 * (x + 0.66)) if blade else y + 0.12 * (key - 0.5) * torch.cos(4.0 * x)
        inside = 1.0 - (across_leaf / width.clamp_min(1e-4)).square()
        cup = 0.25 * across_leaf.abs() / slim + 0.25 * (key - 0.3) * reach
        return torch.where((inside > 0.0) & (width > 0.0), (0.35 + cup).clamp_min(0.02), -1.0)

    pile = scatter(canvas, shape, across=across, layers=layers, pile=0.55)
    grain = noise(canvas, low=16, high=256, slope=0.7)
    shares = (pile.key * 7.31).remainder(1.0)
    colour = blend(canvas.colour(palette), canvas.colour(palette), ramp(shares, 0.2, 0.8))
    colour = blend(colour, canvas.colour(palette), ramp((pile.key * 17.7).remainder(1.0), 0.6, 0.9))
    rib = torch.exp(-(pile.y / 0.025).square()) + 0.25 * torch.cos(42.0 * (pile.x - pile.y.abs())).clamp_min(
        0.0
    )
    vein = torch.zeros_like(rib) if blade else rib
    deep = ramp(pile.top, 0.3, 0.55 * layers + 0.3)
    shade = (
        blend(0.45, 1.1, deep)
        * (0.8 + 0.4 * (pile.key * 3.7).remainder(1.0))
        * (1.0 + 0.07 * grain + 0.12 * vein)
    )
    covered = pile.covered
    thick = (0.05 if blade else 0.10) / across
    return dielectric(
        torch.where(covered, bed.elevation * 0.4 + (pile.top + 0.06 * vein) * thick, bed.elevation * 0.4),
        albedo=torch.where(covered, colour * shade, bed.albedo * 0.6),
        roughness=torch.where(covered, canvas.uniform(0.5, 0.75) + 0.04 * grain - 0.05 * vein, bed.roughness),
    )


def leaves(canvas: Canvas) -> Surface:
    """Paint leaf litter on bare earth."""
    bed = earth(canvas)
    palette = _LITTER if canvas.chance(0.8) else (*_LITTER[:2], *_GREENS[:2])
    across, layers = canvas.integer(7, 11), canvas.integer(4, 6)
    return _strew(canvas, bed, across=across, layers=layers, blade=False, palette=palette)


def grass(canvas: Canvas) -> Surface:
    """Paint trampled grass with visible earth."""
    bed = earth(canvas)
    palette = _GREENS if canvas.chance(0.7) else (*_GREENS[2:3], *_EARTHS[3:4], *_LITTER[2:3])
    across = canvas.integer(9, 14)
    return _strew(canvas, bed, across=across, layers=canvas.integer(4, 6), blade=True, palette=palette)
