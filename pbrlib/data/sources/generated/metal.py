"""Procedural styles of metal: plates, brushed, tread and hammered metal, chainmail; rust is not metallic."""

from __future__ import annotations

import torch
from torch import Tensor

from pbrlib.data.sources.generated.canvas import Canvas, Palette, Surface, blend, ramp
from pbrlib.data.sources.generated.lattice import cells
from pbrlib.data.sources.generated.layout import courses
from pbrlib.data.sources.generated.noise import blur, cavity, noise

METALS: Palette = (
    (0.77, 0.77, 0.78),  # steel
    (0.56, 0.56, 0.57),  # iron
    (0.44, 0.42, 0.40),  # blackened iron
    (0.66, 0.66, 0.68),
    (0.82, 0.68, 0.40),  # brass
    (0.70, 0.50, 0.34),  # bronze
    (0.86, 0.60, 0.48),  # copper
)
RUSTS: Palette = ((0.42, 0.23, 0.12), (0.32, 0.17, 0.10), (0.52, 0.30, 0.15), (0.28, 0.19, 0.14))
_PATINAS: Palette = ((0.32, 0.50, 0.42), (0.42, 0.55, 0.48), (0.25, 0.34, 0.28))


def corrode(
    canvas: Canvas, surface: Surface, *, amount: float, palette: Palette, hollows: float = 0.8
) -> Surface:
    """Cover a share of a metal with a dull crust, mainly in its hollows.

    Args:
        canvas: The canvas to paint on.
        surface: The bare metal.
        amount: Approximate share of the corroded area, below 1; 0 or less gives no crust.
        palette: sRGB colours of the crust.
        hollows: Weight of hollows in the placement of the crust.
    """
    if amount <= 0.0:
        return surface
    patches = noise(canvas, low=1, high=128, slope=1.25)
    fleck = noise(canvas, low=20, high=256, slope=0.7)
    tendency = (
        patches + 0.25 * fleck + hollows * (cavity(surface.elevation, radius=0.012, depth=0.004) * 1.5 - 0.2)
    )
    level = float(torch.special.ndtri(torch.tensor(1.0 - amount)))
    crust = ramp(tendency, level * 1.05 - 0.06, level * 1.05 + 0.06)
    deep = ramp(tendency - level, 0.0, 1.6)
    tone = blend(canvas.colour(palette), canvas.colour(palette), deep)
    colour = tone * (1.0 + 0.12 * fleck + 0.10 * noise(canvas, low=4, high=96, slope=1.0))
    rough = canvas.uniform(0.78, 0.92) + 0.04 * fleck
    stain = ramp(tendency - level, -0.9, 0.0)  # the tarnish around the crust is still metallic
    bare = blend(surface.albedo, surface.albedo * (colour / colour.amax()).clamp_min(0.3), 0.45 * stain)
    return Surface(
        surface.elevation + crust * (0.0010 + 0.0002 * fleck + 0.001 * deep),
        blend(bare, colour, crust),
        blend(surface.roughness + 0.12 * stain, rough, crust),
        surface.metallic * (crust < 0.5),
        surface.mask,
    )


def sheet(canvas: Canvas, *, palette: Palette = METALS) -> Surface:
    """Paint a rolled sheet with scratches and smudges, on which all other styles are based."""
    cloud = noise(canvas, low=1, high=64, slope=1.3)
    fine = noise(canvas, low=32, high=256, slope=0.5)
    long = 1.0 + 12.0 * canvas.uniform(0.0, 1.0)
    brush = noise(canvas, low=8, high=256, slope=0.4, stretch=(long, 1.0))
    scratch = _scratches(canvas)
    base = canvas.colour(palette, spread=0.06)
    shine = canvas.uniform(0.16, 0.42)
    rough = shine + 0.05 * cloud + 0.03 * brush + 0.02 * fine + 0.12 * scratch
    albedo = base * (1.0 + 0.04 * cloud + 0.02 * brush + 0.02 * fine + 0.08 * scratch)
    elevation = brush * 0.00003 - 0.0003 * scratch + cloud * 0.0004
    return Surface(elevation, albedo.expand(3, -1, -1), rough, torch.ones_like(rough))


def _scratches(canvas: Canvas) -> Tensor:
    lines = torch.zeros_like(canvas.u)
    for _ in range(3):
        a, b = canvas.integer(-2, 2), canvas.integer(1, 3)
        bend = noise(canvas, low=1, high=4, slope=1.5) * 0.04
        across = (canvas.u * a + canvas.v * b + bend) * canvas.integer(2, 4)
        near = (across.remainder(1.0) - canvas.uniform(0.1, 0.9)).abs()
        where = ramp(noise(canvas, low=1, high=6, slope=0.6), 0.4, 1.0)
        lines = torch.maximum(lines, ramp(0.012 - near, 0.0, 0.010) * where)
    return lines


def plate(canvas: Canvas) -> Surface:
    """Paint riveted plates with seams and rust."""
    metal = sheet(canvas, palette=METALS[:4])
    rows, columns = 2 * canvas.integer(1, 2), canvas.integer(2, 3)
    panels = courses(canvas, rows=rows, columns=columns, shift=canvas.choice((0.0, 0.5)))
    edge = panels.edge()
    seam = 1.0 - ramp(edge, 0.002, 0.006)
    inset = canvas.uniform(0.020, 0.028)
    per = canvas.integer(4, 7) * 2
    rivet = _rivet_heads(canvas, across=panels.across, down=panels.down, inset=inset, per=per)
    level = (canvas.table(panels.count)[panels.index] - 0.5) * 0.006
    tone = canvas.vary_colour(
        torch.ones(3, 1, 1, device=canvas.device), index=panels.index, count=panels.count, amount=0.10
    )
    dent = blur(noise(canvas, low=2, high=10, slope=1.3), radius=0.01) * 0.002
    riveted = Surface(
        metal.elevation + level + dent - 0.008 * seam + rivet * 0.011,
        metal.albedo * tone * (1.0 - 0.5 * seam),
        metal.roughness + 0.2 * seam,
        metal.metallic,
    )
    return corrode(canvas, riveted, amount=canvas.uniform(0.0, 0.55), palette=RUSTS)


def _rivet_heads(canvas: Canvas, *, across: Tensor, down: Tensor, inset: float, per: int) -> Tensor:
    """Return domes in [0, 1] along the borders of panels, ``per`` on the width of the texture."""
    radius = 0.011
    along_v = ((canvas.v * per).remainder(1.0) - 0.5) / per
    along_u = ((canvas.u * per).remainder(1.0) - 0.5) / per
    beside = torch.minimum(torch.hypot(across - inset, along_v), torch.hypot(down - inset, along_u))
    keep = (across > inset - radius) & (down > inset - radius)
    return (1.0 - (beside / radius).square()).clamp_min(0.0).sqrt() * keep


def brushed(canvas: Canvas) -> Surface:
    """Paint brushed or rolled metal with streaks, stains and a few spots of rust."""
    metal = sheet(canvas)
    streak = noise(canvas, low=4, high=256, slope=0.35, stretch=(canvas.uniform(12.0, 40.0), 1.0))
    broad = noise(canvas, low=1, high=48, slope=1.0, stretch=(6.0, 1.0))
    depth = canvas.uniform(0.5, 1.0)
    streaked = Surface(
        metal.elevation + streak * 0.00008 * depth,
        metal.albedo * (1.0 + 0.07 * depth * streak + 0.05 * broad),
        metal.roughness + 0.07 * depth * streak + 0.06 * broad,
        metal.metallic,
    )
    return corrode(canvas, streaked, amount=canvas.uniform(-0.06, 0.12), palette=RUSTS, hollows=0.3)


def tread(canvas: Canvas) -> Surface:
    """Paint a tread plate: raised lozenges in alternating directions."""
    metal = sheet(canvas, palette=METALS[:5])
    across = 2 * canvas.integer(4, 7)
    x, y = canvas.u * across, canvas.v * across
    column, row = x.floor(), y.floor()
    fx, fy = x - column - 0.5, y - row - 0.5
    turned = (column + row) % 2 > 0
    along = torch.where(turned, fx + fy, fx - fy) * 0.7071
    over = torch.where(turned, fx - fy, fx + fy) * 0.7071
    lozenge = 1.0 - (over.abs() / 0.13 + (along / 0.47).square())
    bar = ramp(lozenge, 0.0, 0.55)
    worn = ramp(noise(canvas, low=1, high=32, slope=1.2), -0.5, 1.5)
    grime = 0.5 * ramp(0.25 - lozenge, 0.0, 0.5) * canvas.uniform(0.2, 1.0)
    raised = Surface(
        metal.elevation + bar * (0.12 / across),
        metal.albedo * (1.0 - 0.35 * grime) * (1.0 + 0.08 * bar * worn),
        metal.roughness - 0.10 * bar * worn + 0.25 * grime,
        metal.metallic,
    )
    return corrode(canvas, raised, amount=canvas.uniform(-0.10, 0.35), palette=RUSTS)


def hammered(canvas: Canvas) -> Surface:
    """Paint beaten metal: overlapping shallow dents with patina or rust between them."""
    metal = sheet(canvas, palette=METALS[1:])
    across = canvas.integer(9, 15)
    bend = noise(canvas, low=3, high=24, slope=1.0) * (0.05 / across)
    dents = cells(canvas, rows=across, columns=across, jitter=0.8, warp=(bend, bend.mT))
    bowl = dents.near.square()
    depth = 0.5 + canvas.table(dents.count)[dents.index]
    elevation = metal.elevation + bowl * depth * (0.14 / across)
    ridge = 1.0 - ramp(dents.edge, 0.0, 0.12)
    beaten = Surface(
        elevation,
        metal.albedo * (0.92 + 0.10 * ridge),
        metal.roughness - 0.05 * ridge,
        metal.metallic,
    )
    palette = canvas.choice((RUSTS, _PATINAS))
    return corrode(canvas, beaten, amount=canvas.uniform(-0.10, 0.30), palette=palette, hollows=0.2)


def chainmail(canvas: Canvas) -> Surface:
    """Paint chainmail: interlocked rings on a dark background."""
    metal = sheet(canvas, palette=METALS[:5])
    across = 2 * canvas.integer(3, 5)
    top = torch.full_like(canvas.u, -1.0)
    tone = torch.ones_like(top)
    lean = canvas.table(2, across * across)
    for lattice, (shift_x, shift_y, tilt) in enumerate(((0.0, 0.0, 1.0), (0.5, 0.5, -1.0))):
        for step_x in (-1, 0, 1):
            for step_y in (-1, 0, 1):
                x, y = canvas.u * across - shift_x, canvas.v * across - shift_y
                column, row = x.round() + step_x, y.round() + step_y
                dx, dy = x - column, y - row
                ring = row.long() % across * across + column.long() % across
                radius = torch.hypot(dx, dy) - 0.54
                wire = (1.0 - (radius / 0.105).square()).clamp_min(0.0)
                height = wire.sqrt() * 0.21 + 0.5 * tilt * dx + 0.1 * (lean[lattice][ring] - 0.5)
                above = (wire > 0.0) & (height > top)
                top = torch.where(above, height, top)
                tone = torch.where(above, 0.85 + 0.3 * lean[lattice][ring], tone)
    gap = top <= -1.0
    top = torch.where(gap, -0.6, top)
    lit = ramp(top, -0.6, 0.4)
    mail = Surface(
        metal.elevation + top * (0.22 / across),
        metal.albedo * tone * blend(0.30, 1.0, lit),
        metal.roughness + 0.25 * (1.0 - lit),
        metal.metallic,
    )
    return corrode(canvas, mail, amount=canvas.uniform(-0.10, 0.25), palette=RUSTS, hollows=0.2)
