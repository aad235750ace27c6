"""Procedural styles of stone: bricks, ashlar, cobblestones, marble and rock."""

from __future__ import annotations

import torch
from torch import Tensor

from pbrlib.data.sources.generated.canvas import Canvas, Palette, Surface, blend, dielectric, ramp
from pbrlib.data.sources.generated.lattice import cells
from pbrlib.data.sources.generated.layout import Tiles, courses
from pbrlib.data.sources.generated.noise import cavity, noise, shift_per_piece

_BRICKS: Palette = ((0.55, 0.30, 0.22), (0.46, 0.27, 0.21), (0.62, 0.46, 0.34), (0.40, 0.34, 0.31))
_ROCKS: Palette = (
    (0.45, 0.44, 0.42),
    (0.34, 0.35, 0.36),
    (0.55, 0.50, 0.42),
    (0.28, 0.27, 0.26),
    (0.50, 0.43, 0.34),
    (0.38, 0.40, 0.35),
)
_MORTARS: Palette = ((0.62, 0.58, 0.51), (0.46, 0.43, 0.38), (0.36, 0.33, 0.29), (0.52, 0.46, 0.38))
_MARBLES: Palette = (
    (0.82, 0.81, 0.79),
    (0.70, 0.64, 0.54),
    (0.20, 0.21, 0.22),
    (0.36, 0.44, 0.38),
    (0.58, 0.36, 0.28),
)
_LICHEN: Palette = ((0.42, 0.45, 0.28), (0.58, 0.55, 0.38), (0.30, 0.34, 0.22))


def _weather(canvas: Canvas, surface: Surface) -> Surface:
    """Add patches of lichen, and dirt in the hollows."""
    growth = noise(canvas, low=2, high=128, slope=1.2)
    lichen = ramp(growth, 1.2, 1.9) * canvas.choice((0.0, canvas.uniform(0.2, 0.8)))
    hollow = cavity(surface.elevation, radius=0.012, depth=0.008)
    return dielectric(
        surface.elevation + lichen * 0.0006,
        albedo=blend(surface.albedo * (1.0 - 0.40 * hollow), canvas.colour(_LICHEN), lichen),
        roughness=surface.roughness + 0.05 * hollow + 0.05 * lichen,
    )


def _masonry(
    canvas: Canvas, tiles: Tiles, *, edge: Tensor, joint: float, colour: Tensor, face: Tensor
) -> Surface:
    """Paint blocks in mortar: ``face`` is the relief of the blocks, ``edge`` the distance to their border."""
    chips = noise(canvas, low=6, high=120, slope=1.5)
    inside = edge - joint * (1.0 + 0.28 * chips)
    block = ramp(inside, -0.002, 0.004)
    body = 0.012 * (1.0 - torch.exp(-inside.clamp_min(0.0) / canvas.uniform(0.004, 0.014)))
    tilt = (canvas.table(3, tiles.count) - 0.5) * canvas.uniform(0.004, 0.014)
    lean = tilt[0][tiles.index] * tiles.x + tilt[1][tiles.index] * tiles.y + tilt[2][tiles.index]
    sand = noise(canvas, low=24, high=256, slope=0.8)
    elevation = blend(sand * 0.0003 + chips * 0.001, body + lean + face + sand * 0.00012, block)
    cloud = noise(canvas, low=2, high=96, slope=1.1)
    mortar = canvas.colour(_MORTARS) * (1.0 + 0.08 * sand + 0.07 * cloud)
    stone = colour * (1.0 + 0.06 * sand + 0.10 * cloud + 30.0 * face.clamp(-0.006, 0.006))
    rough = blend(0.92 + 0.02 * sand, canvas.uniform(0.68, 0.88) + 0.03 * sand + 0.04 * cloud, block)
    return dielectric(elevation, albedo=blend(mortar, stone, block), roughness=rough)


def brick(canvas: Canvas) -> Surface:
    """Paint brickwork in running bond."""
    rows = 2 * canvas.integer(5, 8)
    columns = max(3, round(rows / canvas.uniform(2.6, 3.4)))
    sway = noise(canvas, low=3, high=40, slope=1.3) * 0.0018
    tiles = courses(canvas, rows=rows, columns=columns, shift=0.5, jitter=0.05, warp=(sway, sway.mT))
    colour = canvas.vary_colour(canvas.colour(_BRICKS), index=tiles.index, count=tiles.count, amount=0.26)
    burnt = (canvas.table(tiles.count) > 0.88)[tiles.index]
    colour = colour * torch.where(burnt, canvas.uniform(0.5, 0.8), 1.0)
    pits = noise(canvas, low=10, high=160, slope=1.3)
    face = -0.003 * ramp(
        shift_per_piece(pits, index=tiles.index, offsets=canvas.table(2, tiles.count)), 0.9, 2.2
    )
    edge = tiles.edge(corner=0.006)
    return _weather(
        canvas,
        _masonry(canvas, tiles, edge=edge, joint=canvas.uniform(0.004, 0.008), colour=colour, face=face),
    )


def ashlar(canvas: Canvas) -> Surface:
    """Paint courses of rough-hewn blocks of uneven length."""
    rows, columns = canvas.integer(4, 7), canvas.integer(2, 4)
    sway = noise(canvas, low=2, high=48, slope=1.3) * 0.005
    tiles = courses(
        canvas, rows=rows, columns=columns, shift=canvas.table(rows), jitter=0.32, warp=(sway, sway.mT)
    )
    colour = canvas.vary_colour(canvas.colour(_ROCKS), index=tiles.index, count=tiles.count, amount=0.20)
    hewn = noise(canvas, low=3, high=200, slope=1.75)
    face = shift_per_piece(hewn, index=tiles.index, offsets=canvas.table(2, tiles.count)) * canvas.uniform(
        0.002, 0.006
    )
    surface = _masonry(
        canvas,
        tiles,
        edge=tiles.edge(corner=0.015),
        joint=canvas.uniform(0.004, 0.009),
        colour=colour,
        face=face,
    )
    return _weather(canvas, surface)


def cobble(canvas: Canvas) -> Surface:
    """Paint rounded cobblestones in earth."""
    across = canvas.integer(6, 10)
    bend = noise(canvas, low=3, high=32, slope=1.2) * (0.06 / across)
    stones = cells(canvas, rows=across, columns=across, jitter=0.62, warp=(bend, bend.mT))
    edge = stones.edge / across
    tiles = Tiles(edge, edge, stones.x, stones.y, stones.index, stones.count)
    colour = canvas.vary_colour(canvas.colour(_ROCKS), index=stones.index, count=stones.count, amount=0.22)
    hewn = noise(canvas, low=4, high=200, slope=1.7)
    dome = 0.12 / across * (1.0 - torch.exp(-(edge * across) / 0.22))
    face = shift_per_piece(hewn, index=stones.index, offsets=canvas.table(2, stones.count)) * 0.0014
    laid = _masonry(canvas, tiles, edge=edge, joint=0.05 / across, colour=colour, face=face)
    return _weather(canvas, dielectric(laid.elevation + dome, albedo=laid.albedo, roughness=laid.roughness))


def marble(canvas: Canvas) -> Surface:
    """Paint polished stone with veins, in one piece or in large slabs."""
    bend = noise(canvas, low=1, high=48, slope=1.7)
    sway = noise(canvas, low=1, high=48, slope=1.7)
    slope_u, slope_v = canvas.choice(((1, 1), (1, 2), (2, 1), (-1, 2), (2, -1)))
    phase = canvas.u * slope_u + canvas.v * slope_v
    bands = torch.sin(2.0 * torch.pi * (phase * canvas.integer(1, 2) + bend * canvas.uniform(0.2, 0.5)))
    veins = torch.exp(-(bands / canvas.uniform(0.06, 0.16)).square()) * ramp(sway, -1.2, 1.0)
    hair = torch.exp(-(noise(canvas, low=2, high=64, slope=1.5) / 0.05).square()) * ramp(bend, -0.2, 1.2)
    tiles = courses(canvas, rows=2, columns=2)
    slabs = canvas.chance(0.5)
    joint = (1.0 - ramp(tiles.edge(), 0.001, 0.004)) * float(slabs)
    first = canvas.colour(_MARBLES)
    second = torch.lerp(first, canvas.colour(_MARBLES), canvas.uniform(0.2, 0.7))
    layered = blend(first, second, ramp(0.6 * bands + 0.6 * sway, -1.2, 1.2))
    fine = noise(canvas, low=12, high=256, slope=0.9)
    colour = layered * (1.0 + 0.05 * sway + 0.03 * fine)
    colour = blend(colour, canvas.colour(_MARBLES), (0.8 * veins).maximum(0.5 * hair))
    colour = colour * (1.0 - 0.6 * joint)
    rough = canvas.uniform(0.06, 0.25) + 0.07 * veins + 0.02 * fine + 0.03 * sway.abs() + 0.6 * joint
    elevation = -0.0008 * veins - 0.0004 * hair + sway * 0.0003 + fine * 0.00006 - 0.004 * joint
    return dielectric(elevation, albedo=colour, roughness=rough)


def rock(canvas: Canvas) -> Surface:
    """Paint a cliff face: tilted facets, ledges and cracks."""
    bend = noise(canvas, low=2, high=64, slope=1.4) * 0.022
    sway = noise(canvas, low=2, high=64, slope=1.4) * 0.022
    body = torch.zeros_like(bend)
    crack = torch.zeros_like(bend)
    tone = torch.zeros_like(bend)
    first = canvas.integer(3, 5)
    for across, weight in ((first, 1.0), (first * 2 + 1, 0.6), (first * 5, 0.3)):
        facets = cells(canvas, rows=across, columns=across, warp=(bend, sway))
        tilt = canvas.table(3, facets.count) - 0.5
        plane = tilt[0][facets.index] * facets.x + tilt[1][facets.index] * facets.y
        body = body + weight * (0.12 / across) * (plane + 0.5 * tilt[2][facets.index])
        crack = torch.maximum(crack, weight * torch.exp(-(facets.edge / 0.035).square()))
        tone = tone + weight * tilt[2][facets.index]
    rough_face = noise(canvas, low=4, high=256, slope=1.75)
    elevation = body + rough_face * 0.0030 - crack * 0.005
    cloud = noise(canvas, low=1, high=96, slope=1.1)
    colour = blend(canvas.colour(_ROCKS), canvas.colour(_ROCKS), ramp(cloud, -1.0, 1.4))
    albedo = colour * (1.0 + 0.14 * tone + 0.08 * rough_face + 0.05 * cloud) * (1.0 - 0.4 * crack)
    rough = canvas.uniform(0.66, 0.88) + 0.03 * rough_face + 0.06 * crack
    return _weather(canvas, dielectric(elevation, albedo=albedo, roughness=rough))
