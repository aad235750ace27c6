"""Procedural styles of several materials: surfaces are combined by height, with a class for each pixel."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pbrlib.data.sources.generated import ceramic, fabric, ground, leather, metal, stone, wood
from pbrlib.data.sources.generated.canvas import Canvas, Surface, blend, ramp
from pbrlib.data.sources.generated.lattice import cells
from pbrlib.data.sources.generated.layout import courses
from pbrlib.data.sources.generated.noise import blur, noise
from pbrlib.maps import class_id

SOFT_EDGE = 0.0015
"""Difference in elevation, in widths of the texture, over which two meeting surfaces are blended."""


def with_class(surface: Surface, name: str) -> Surface:
    """Return the surface with one class for all pixels."""
    mask = torch.full_like(surface.elevation, class_id(name), dtype=torch.long)
    return Surface(surface.elevation, surface.albedo, surface.roughness, surface.metallic, mask)


def lay_over(below: Surface, above: Surface, share: Float[Tensor, "h w"]) -> Surface:
    """Blend one surface over another by ``share`` in [0, 1]; above one half, its class and metal are used."""
    top = share > 0.5
    return Surface(
        blend(below.elevation, above.elevation, share),
        blend(below.albedo, above.albedo, share),
        blend(below.roughness, above.roughness, share),
        torch.where(top, above.metallic, below.metallic),
        torch.where(top, _mask(above), _mask(below)),
    )


def merge_by_height(below: Surface, above: Surface) -> Surface:
    """Combine two surfaces so that the higher one is visible, as earth between stones."""
    share = ramp(above.elevation - below.elevation, -SOFT_EDGE, SOFT_EDGE)
    merged = lay_over(below, above, share)
    return Surface(
        torch.maximum(below.elevation, above.elevation),
        merged.albedo,
        merged.roughness,
        merged.metallic,
        merged.mask,
    )


def _mask(surface: Surface) -> Int[Tensor, "h w"]:
    assert surface.mask is not None, "surfaces need a class before they are combined"
    return surface.mask


def _raise_to(surface: Surface, level: Tensor | float) -> Surface:
    """Replace the coarse elevation of a surface by a level, and keep its details."""
    flat = surface.elevation - blur(surface.elevation, radius=0.08)
    return Surface(flat + level, surface.albedo, surface.roughness, surface.metallic, surface.mask)


def _studs(canvas: Canvas, *, across: int, radius: float) -> Tensor:
    """Return domes in [0, 1] on a lattice; ``radius`` is in widths of the texture."""
    fx = (canvas.u * across).remainder(1.0) - 0.5
    fy = (canvas.v * across).remainder(1.0) - 0.5
    return (1.0 - ((fx * fx + fy * fy) / (across * radius) ** 2)).clamp_min(0.0)


def strapped(canvas: Canvas) -> Surface:
    """Paint wooden boards with riveted iron straps."""
    boards = with_class(canvas.choice((wood.plank, wood.plank, wood.shingle))(canvas), "wood")
    iron = with_class(
        metal.corrode(
            canvas,
            metal.sheet(canvas, palette=metal.METALS[:3]),
            amount=canvas.uniform(0.05, 0.4),
            palette=metal.RUSTS,
        ),
        "metal",
    )
    straps, width = canvas.choice((1, 2, 3)), canvas.uniform(0.07, 0.13)
    ragged = noise(canvas, low=2, high=40, slope=1.3) * 0.002
    across = ((canvas.v + ragged) * straps).remainder(1.0) - 0.5
    inside = width / 2 - across.abs() / straps
    per = canvas.integer(4, 8)
    fx = ((canvas.u * per).remainder(1.0) - 0.5) / per
    head = (1.0 - (torch.hypot(fx, across / straps) / (width * 0.22)).square()).clamp_min(0.0).sqrt()
    level = blur(boards.elevation, radius=0.1).amax() + 0.006 + head * 0.010
    band = _raise_to(iron, level - 0.004 * (1.0 - ramp(inside, 0.0, 0.008)))
    strapped_boards = lay_over(boards, band, ramp(inside, -0.001, 0.001))
    return strapped_boards.transposed() if canvas.chance(0.5) else strapped_boards


def overgrown(canvas: Canvas) -> Surface:
    """Paint paving that is half covered by earth or grass."""
    paving = with_class(canvas.choice((stone.cobble, stone.ashlar, stone.brick))(canvas), "stone")
    bed = with_class(canvas.choice((ground.soil, ground.earth, ground.grass))(canvas), "ground")
    drift = noise(canvas, low=1, high=8, slope=1.3)
    detail = noise(canvas, low=6, high=96, slope=1.1)
    middle = paving.elevation.amax() * 0.5 + paving.elevation.amin() * 0.5
    level = middle + (0.55 * drift + 0.12 * detail + canvas.uniform(-0.4, 0.3)) * 0.010
    return merge_by_height(paving, _raise_to(bed.scaled(0.5), level))


def studded(canvas: Canvas) -> Surface:
    """Paint leather armour with metal studs."""
    skin = canvas.choice((leather.pebbled, leather.stitched, leather.creased, leather.hide))(canvas)
    stud = with_class(
        metal.corrode(canvas, metal.sheet(canvas), amount=canvas.uniform(0.02, 0.2), palette=metal.RUSTS),
        "metal",
    )
    across = canvas.integer(4, 8)
    dome = _studs(canvas, across=across, radius=canvas.uniform(0.24, 0.36) / across)
    raised = _raise_to(stud, dome.sqrt() * 0.22 / across + blur(skin.elevation, radius=0.03))
    return lay_over(with_class(skin, "leather"), raised, ramp(dome, 0.0, 0.06))


def broken(canvas: Canvas) -> Surface:
    """Paint a tiled floor with missing tiles, which show a bed of stone or earth."""
    tiled = with_class(canvas.choice((ceramic.square, ceramic.hexagon, ceramic.mosaic))(canvas), "ceramic")
    name, style = canvas.choice((("stone", stone.rock), ("ground", ground.soil)))
    bed = with_class(style(canvas), name)
    across = canvas.integer(6, 9)
    bend = noise(canvas, low=3, high=64, slope=1.2) * (0.05 / across)
    pieces = cells(canvas, rows=across, columns=across, warp=(bend, bend.mT))
    where = noise(canvas, low=1, high=3, slope=1.0) + 0.5 * (canvas.table(pieces.count)[pieces.index] - 0.5)
    gone = ramp(where, 0.5, 0.54)
    return lay_over(tiled, _raise_to(bed.scaled(0.5), tiled.elevation.amin() - 0.006), gone)


def patched(canvas: Canvas) -> Surface:
    """Paint cloth with sewn leather patches."""
    cloth = with_class(canvas.choice((fabric.plain, fabric.twill, fabric.burlap))(canvas), "fabric")
    skin = leather.hide(canvas)
    across = canvas.choice((2, 3))
    patches = courses(canvas, rows=across * 2, columns=across, shift=0.5, jitter=0.15)
    kept = (canvas.table(patches.count) < 0.5)[patches.index]
    ragged = noise(canvas, low=2, high=32, slope=1.3) * 0.003
    inside = (patches.edge(corner=0.03) - 0.012 + ragged) * kept - 0.02 * (~kept)
    dash = (torch.where(patches.across < patches.down, canvas.v, canvas.u) * 32).remainder(1.0)
    thread = (
        ramp(0.003 - (inside - 0.012).abs(), 0.0, 0.002) * ramp(dash, 0.2, 0.3) * ramp(0.85 - dash, 0.0, 0.1)
    )
    colour = canvas.colour(((0.78, 0.70, 0.54), (0.22, 0.18, 0.15)))
    sewn = Surface(
        skin.elevation + 0.003 * thread - 0.002 * torch.exp(-((inside - 0.012) / 0.004).square()),
        blend(skin.albedo, colour, thread),
        blend(skin.roughness, 0.8, thread),
        skin.metallic,
    )
    level = blur(cloth.elevation, radius=0.03) + 0.005
    return lay_over(cloth, _raise_to(with_class(sewn, "leather"), level), ramp(inside, -0.001, 0.001))


def framed(canvas: Canvas) -> Surface:
    """Paint timber framing with stone infill and iron nails."""
    infill = with_class(canvas.choice((stone.brick, stone.ashlar, stone.rock))(canvas), "stone")
    beams = with_class(wood.veneer(canvas), "wood")
    iron = with_class(
        metal.corrode(canvas, metal.sheet(canvas, palette=metal.METALS[:3]), amount=0.3, palette=metal.RUSTS),
        "metal",
    )
    rows, columns = 2 * canvas.integer(1, 2), canvas.integer(1, 2)
    bays = courses(canvas, rows=rows, columns=columns, shift=canvas.choice((0.0, 0.5)))
    half = canvas.uniform(0.05, 0.08)
    ragged = noise(canvas, low=2, high=24, slope=1.4) * 0.003
    depth = half - bays.edge() + ragged
    top = infill.elevation.amax() + 0.012
    beam = _raise_to(beams.scaled(2.0), top - 0.008 * (1.0 - ramp(depth, 0.0, 0.01)))
    built = lay_over(infill, beam, ramp(depth, -0.001, 0.001))
    dome = _studs(canvas, across=12, radius=0.016) * (depth > 0.025)
    nails = _raise_to(iron, top + 0.010 * dome.sqrt())
    return lay_over(built, nails, ramp(dome, 0.0, 0.1))
