"""Procedural styles of leather: pebbled, creased, cracked, stitched and scaled hides."""

from __future__ import annotations

import torch
from torch import Tensor

from pbrlib.data.sources.generated.canvas import DYES, Canvas, Palette, Surface, blend, dielectric, ramp
from pbrlib.data.sources.generated.lattice import cells
from pbrlib.data.sources.generated.layout import courses
from pbrlib.data.sources.generated.noise import cavity, noise

_HIDES: Palette = (
    (0.42, 0.27, 0.17),
    (0.30, 0.20, 0.15),
    (0.56, 0.38, 0.24),
    (0.19, 0.17, 0.16),
    (0.46, 0.16, 0.14),
    (0.64, 0.50, 0.35),
    *DYES[:3],
)
_RAW: Palette = ((0.62, 0.48, 0.34), (0.54, 0.42, 0.31))
_THREADS: Palette = ((0.78, 0.70, 0.54), (0.62, 0.50, 0.32), (0.20, 0.17, 0.15))


def _grain(canvas: Canvas, *, across: int, depth: float) -> tuple[Tensor, Tensor]:
    """Return the elevation of the grain in widths of the texture, and a mask: 0 in furrows, 1 outside."""
    bend = noise(canvas, low=3, high=48, slope=0.9) * (0.35 / across)
    sway = noise(canvas, low=3, high=48, slope=0.9) * (0.35 / across)
    pores = cells(canvas, rows=across, columns=across, warp=(bend, sway))
    bulge = 1.0 - torch.exp(-pores.edge.clamp_min(0.0) / 0.13)
    level = 0.75 + 0.5 * canvas.table(pores.count)[pores.index]
    return bulge * level * (depth / across), ramp(pores.edge, 0.0, 0.16)


def hide(canvas: Canvas, *, across: int | None = None, depth: float | None = None) -> Surface:
    """Paint plain leather, on which all other styles are based."""
    across = across or canvas.integer(26, 44)
    bulge, openness = _grain(canvas, across=across, depth=depth or canvas.uniform(0.06, 0.14))
    cloud = noise(canvas, low=1, high=40, slope=1.4)
    fine = noise(canvas, low=48, high=256, slope=0.6)
    soft = noise(canvas, low=1, high=12, slope=1.8) * 0.002
    dye = canvas.colour(_HIDES)
    rubbed = ramp(cloud, 0.4, 2.4) * openness * canvas.uniform(0.1, 0.6)
    shade = blend(0.66, 1.0, openness) * (1.0 + 0.09 * cloud + 0.03 * fine)
    albedo = blend(dye * shade, dye * 0.6 + canvas.colour(_RAW) * 0.4, rubbed)
    gloss = canvas.uniform(0.32, 0.60)
    rough = gloss + 0.18 * (1.0 - openness) + 0.03 * fine + 0.05 * cloud + 0.15 * rubbed
    return dielectric(bulge + fine * 0.00006 + soft, albedo=albedo, roughness=rough)


def pebbled(canvas: Canvas) -> Surface:
    """Paint coarse full-grain leather with a few soft folds."""
    skin = hide(canvas, across=canvas.integer(20, 34), depth=canvas.uniform(0.09, 0.16))
    return _add_folds(canvas, skin, amount=canvas.uniform(0.0, 0.5))


def creased(canvas: Canvas) -> Surface:
    """Paint worn smooth leather with a net of creases."""
    skin = hide(canvas, across=canvas.integer(44, 64), depth=0.06)
    return _add_folds(canvas, skin, amount=canvas.uniform(0.7, 1.0))


def _add_folds(canvas: Canvas, skin: Surface, *, amount: float) -> Surface:
    sway = noise(canvas, low=2, high=20, slope=1.2) * 0.02
    lines = noise(canvas, low=2, high=24, slope=1.6, stretch=(canvas.uniform(1.0, 2.5), 1.0))
    wide = torch.exp(-(lines / 0.07).square())
    where = ramp(noise(canvas, low=1, high=6, slope=1.0), -0.8, 0.8)
    net = cells(canvas, rows=9, columns=9, warp=(sway, sway.mT))
    thin = torch.exp(-(net.edge / 0.04).square()) * 0.8
    fold = torch.maximum(wide, thin) * where * amount
    swell = noise(canvas, low=3, high=14, slope=1.4) * 0.003 * amount
    return dielectric(
        skin.elevation - fold * 0.004 + swell,
        albedo=skin.albedo * (1.0 - 0.45 * fold),
        roughness=skin.roughness + 0.14 * fold,
    )


def cracked(canvas: Canvas) -> Surface:
    """Paint dried leather with a split finish that shows the raw hide."""
    skin = hide(canvas, across=canvas.integer(36, 56))
    across = canvas.integer(10, 16)
    bend = noise(canvas, low=4, high=96, slope=1.2) * (0.14 / across)
    sway = noise(canvas, low=4, high=96, slope=1.2) * (0.14 / across)
    coarse = cells(canvas, rows=across, columns=across, warp=(bend, sway))
    fine = cells(canvas, rows=across * 2, columns=across * 2, warp=(sway, bend))
    dry = ramp(noise(canvas, low=1, high=10, slope=1.1), -1.6, 0.3)
    wide = 1.0 - ramp(coarse.edge, 0.02, 0.02 + 0.12 * canvas.uniform(0.6, 1.0))
    crack = torch.maximum(wide, 0.8 * (1.0 - ramp(fine.edge, 0.02, 0.11)) * dry) * dry
    lifted = torch.exp(-coarse.edge / 0.10) * dry * 0.0025
    raw = (
        canvas.colour(_RAW)
        * canvas.uniform(0.55, 1.1)
        * (1.0 + 0.1 * noise(canvas, low=24, high=200, slope=0.8))
    )
    bleached = ramp(noise(canvas, low=2, high=40, slope=1.2), 0.5, 2.0) * 0.35
    face = blend(skin.albedo, raw, bleached * dry)
    return dielectric(
        skin.elevation + lifted - crack * (0.06 / across),
        albedo=blend(face, raw * 0.75, crack),
        roughness=blend(skin.roughness + 0.1 * dry, 0.88, crack),
    )


def stitched(canvas: Canvas) -> Surface:
    """Paint padded panels with a double row of stitches."""
    skin = hide(canvas, across=canvas.integer(34, 56))
    rows, columns = 2 * canvas.integer(1, 2), canvas.integer(2, 4)
    panels = courses(canvas, rows=rows, columns=columns, shift=canvas.choice((0.0, 0.5)))
    edge = panels.edge(corner=0.02)
    seam = torch.exp(-(edge / 0.006).square())
    puff = canvas.uniform(0.010, 0.022) * (1.0 - torch.exp(-edge.clamp_min(0.0) / 0.05))
    line = canvas.uniform(0.014, 0.020)
    period = canvas.integer(10, 16) * 2
    beside = torch.where(panels.across < panels.down, canvas.v, canvas.u) * period
    dash = (beside.remainder(1.0) - 0.5).abs()
    ditch = torch.exp(-((edge - line) / 0.005).square())
    length = ramp(0.36 - dash, 0.0, 0.06)
    thread = length * ramp(0.0035 - (edge - line).abs(), 0.0, 0.002)
    hole = ramp(dash, 0.38, 0.44) * ramp(0.004 - (edge - line).abs(), 0.0, 0.002)
    tone = canvas.vary_colour(
        torch.ones(3, 1, 1, device=canvas.device), index=panels.index, count=panels.count, amount=0.1
    )
    twist = 1.0 + 0.15 * torch.cos(beside * 40.0)
    puckered = noise(canvas, low=6, high=40, slope=1.1) * 0.0012 * torch.exp(-edge / 0.04)
    elevation = skin.elevation + puff + puckered - 0.006 * seam - 0.003 * ditch * (1 - thread)
    shade = (1.0 - 0.6 * seam) * (1.0 - 0.2 * ditch) * (1.0 - 0.6 * hole)
    return dielectric(
        elevation + 0.0045 * thread * twist - 0.003 * hole,
        albedo=blend(skin.albedo * tone * shade, canvas.colour(_THREADS) * twist, thread),
        roughness=blend(skin.roughness + 0.15 * seam, 0.8, thread),
    )


def scaled(canvas: Canvas) -> Surface:
    """Paint reptile hide: domed scales between deep furrows."""
    skin = hide(canvas, across=56, depth=0.05)
    rows, columns = 2 * canvas.integer(4, 7), canvas.integer(5, 9)
    bend = noise(canvas, low=2, high=24, slope=1.1) * (0.12 / columns)
    sway = noise(canvas, low=2, high=24, slope=1.1) * (0.12 / rows)
    scales = courses(canvas, rows=rows, columns=columns, shift=0.5, jitter=0.3, warp=(bend, sway))
    corner = 0.42 / max(rows, columns)
    edge = scales.edge(corner=corner).clamp_min(0.0)
    dome = 1.0 - torch.exp(-edge * max(rows, columns) / 0.16)
    furrow = 1.0 - ramp(edge, 0.0, 0.004 + 0.03 / columns)
    level = canvas.table(scales.count)[scales.index]
    crease = noise(canvas, low=8, high=96, slope=1.0, stretch=(1.0, 3.0))
    tone = canvas.vary_colour(
        torch.ones(3, 1, 1, device=canvas.device), index=scales.index, count=scales.count, amount=0.14
    )
    height = skin.elevation + dome * (0.14 + 0.06 * level) / max(rows, columns) + crease * 0.0004
    return dielectric(
        height,
        albedo=skin.albedo * tone * (1.0 - 0.6 * furrow) * blend(0.85, 1.08, dome),
        roughness=skin.roughness
        - 0.08 * dome
        + 0.22 * furrow
        + 0.2 * cavity(height, radius=0.008, depth=0.004) * 0.3,
    )
