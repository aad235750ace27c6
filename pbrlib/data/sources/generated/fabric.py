"""Procedural styles of fabric: plain weave, twill, knit, plaid and burlap."""

from __future__ import annotations

import torch
from torch import Tensor

from pbrlib.data.sources.generated.canvas import DYES, Canvas, Palette, Surface, blend, dielectric, ramp
from pbrlib.data.sources.generated.noise import noise

_YARNS: Palette = (*DYES, (0.80, 0.77, 0.70), (0.16, 0.18, 0.26), (0.55, 0.50, 0.44), (0.45, 0.20, 0.22))
_JUTE: Palette = ((0.55, 0.44, 0.30), (0.46, 0.36, 0.25), (0.62, 0.54, 0.40))


def _fold(canvas: Canvas) -> Tensor:
    """Return the elevation of soft creases, in widths of the texture."""
    return noise(canvas, low=1, high=10, slope=2.0) * canvas.uniform(0.001, 0.005)


def _weave(
    canvas: Canvas, over: Tensor, *, threads: int, warp: Tensor, weft: Tensor, slack: float = 0.12
) -> Surface:
    """Paint a woven cloth.

    Args:
        canvas: The canvas to paint on.
        over: The weave, (period, period): 1 if the warp thread is on top, else 0. Rows are weft threads.
        threads: Number of threads along each axis, a multiple of the period.
        warp: sRGB colours (3, threads) of the vertical threads.
        weft: sRGB colours (3, threads) of the horizontal threads.
        slack: Displacement of the threads, in thread widths.
    """
    period = over.shape[0]
    sway = noise(canvas, low=2, high=threads / 2, slope=0.8, stretch=(1.0, 3.0)) * (slack / threads)
    sag = noise(canvas, low=2, high=threads / 2, slope=0.8, stretch=(3.0, 1.0)) * (slack / threads)
    x, y = (canvas.u + sway) * threads, (canvas.v + sag) * threads
    i, j = x.floor().long() % threads, y.floor().long() % threads
    fx, fy = x - x.floor() - 0.5, y - y.floor() - 0.5

    def warp_sign(row: Tensor, column: Tensor) -> Tensor:
        return over.to(canvas.device)[row % period, column % period] * 2.0 - 1.0

    side_y, side_x = torch.where(fy < 0, -1, 1), torch.where(fx < 0, -1, 1)
    sign = warp_sign(j, i)
    warp_level = torch.lerp(sign, warp_sign(j + side_y, i), ramp(fy.abs(), 0.25, 0.75))
    weft_level = -torch.lerp(sign, warp_sign(j, i + side_x), ramp(fx.abs(), 0.25, 0.75))
    slub = 1.0 + 0.10 * noise(canvas, low=4, high=threads, slope=0.6, stretch=(1.0, 6.0))
    slub_weft = 1.0 + 0.10 * noise(canvas, low=4, high=threads, slope=0.6, stretch=(6.0, 1.0))
    width = canvas.uniform(0.94, 1.02)
    warp_top = (1.0 - (2.0 * fx / (width * slub)).square()).clamp_min(0.0).sqrt() + 0.55 * warp_level
    weft_top = (1.0 - (2.0 * fy / (width * slub_weft)).square()).clamp_min(0.0).sqrt() + 0.55 * weft_level
    twist = canvas.choice((-1.0, 1.0))
    ply = canvas.integer(1, 3)
    strand = torch.where(
        warp_top > weft_top,
        torch.cos(2.0 * torch.pi * (ply * y + twist * fx)),
        torch.cos(2.0 * torch.pi * (ply * x - twist * fy)),
    )
    bulk = canvas.uniform(0.12, 0.22) / threads
    top = torch.maximum(warp_top, weft_top)
    fibre = noise(canvas, low=32, high=256, slope=0.5)
    elevation = (top + 0.08 * strand + 0.02 * fibre) * bulk + _fold(canvas)
    colour = torch.where(warp_top > weft_top, warp[:, i], weft[:, j])
    return _cloth(canvas, elevation, colour=colour, depth=ramp(top, -0.4, 1.1), strand=strand, fibre=fibre)


def _cloth(
    canvas: Canvas, elevation: Tensor, *, colour: Tensor, depth: Tensor, strand: Tensor, fibre: Tensor
) -> Surface:
    """Colour a cloth: darker between threads (``depth`` 0), faded and soiled in large patches."""
    wear = noise(canvas, low=1, high=24, slope=1.4)
    shade = blend(0.62, 1.04, depth) * (1.0 + 0.05 * strand * depth + 0.035 * fibre + 0.04 * wear)
    soil = ramp(wear, 0.8, 2.6) * canvas.uniform(0.0, 0.45)
    dust = torch.tensor((0.38, 0.33, 0.26), device=canvas.device)[:, None, None]
    albedo = blend(colour * shade, dust * shade, soil)
    rough = canvas.uniform(0.62, 0.88) + 0.10 * (1.0 - depth) + 0.02 * fibre + 0.08 * soil - 0.02 * wear
    return dielectric(elevation, albedo=albedo, roughness=rough)


def _yarn(canvas: Canvas, palette: Palette, *, threads: int, amount: float) -> Tensor:
    """Return the colours (3, threads) of threads of one dye, which vary from thread to thread."""
    brightness = 1.0 + (canvas.table(1, threads) - 0.5) * 2.0 * amount
    return canvas.colour(palette)[:, :, 0] * brightness


def plain(canvas: Canvas) -> Surface:
    """Paint linen or canvas in plain weave, sometimes with two dyes."""
    threads = 2 * canvas.integer(9, 16)
    warp = _yarn(canvas, _YARNS, threads=threads, amount=0.14)
    weft = warp.flip(1) if canvas.chance(0.6) else _yarn(canvas, _YARNS, threads=threads, amount=0.14)
    return _weave(canvas, torch.eye(2), threads=threads, warp=warp, weft=weft)


def twill(canvas: Canvas) -> Surface:
    """Paint denim or wool in twill weave, sometimes as a herringbone."""
    threads = 8 * canvas.integer(2, 4)
    steps = torch.arange(8)
    lead = torch.where(steps < 4, steps, 7 - steps) if canvas.chance(0.3) else steps % 4
    over = ((torch.arange(8)[:, None] + lead) % 4 < canvas.choice((2, 2, 3))).float()
    warp = _yarn(canvas, _YARNS, threads=threads, amount=0.08)
    pale = canvas.uniform(0.0, 0.6)
    weft = blend(warp, _yarn(canvas, _YARNS[6:9], threads=threads, amount=0.08), torch.tensor(pale))
    return _weave(canvas, over, threads=threads, warp=warp, weft=weft, slack=0.06)


def plaid(canvas: Canvas) -> Surface:
    """Paint a tartan: the same sequence of dyed stripes in both directions."""
    repeats = canvas.choice((1, 2))
    sett = canvas.choice((12, 16))
    dyes = torch.stack([canvas.colour(_YARNS)[:, 0, 0] for _ in range(4)], dim=1)
    edges = torch.tensor(sorted(canvas.integer(0, sett - 1) for _ in range(5)))
    stripe = torch.bucketize(torch.arange(sett), edges, right=True) % 4
    threads = sett * repeats if repeats > 1 else sett * 2
    yarn = dyes[:, stripe.repeat_interleave(threads // (sett * repeats)).repeat(repeats)]
    yarn = yarn * (1.0 + (canvas.table(1, threads) - 0.5) * 0.16)
    over = ((torch.arange(4)[:, None] + torch.arange(4)) % 4 < 2).float()
    return _weave(canvas, over, threads=threads, warp=yarn, weft=yarn, slack=0.08)


def burlap(canvas: Canvas) -> Surface:
    """Paint sackcloth: coarse uneven threads with holes between them."""
    threads = 2 * canvas.integer(9, 14)
    warp = _yarn(canvas, _JUTE, threads=threads, amount=0.3)
    weft = _yarn(canvas, _JUTE, threads=threads, amount=0.3) * 0.3 + warp.flip(1) * 0.7
    block = canvas.choice((1, 1, 2))
    over = torch.eye(2).repeat_interleave(block, 0).repeat_interleave(block, 1)
    threads -= threads % (2 * block)
    return _weave(canvas, over, threads=threads, warp=warp, weft=weft, slack=0.2)


def knit(canvas: Canvas) -> Surface:
    """Paint stockinette: columns of V-shaped loops."""
    columns, rows = canvas.integer(9, 16), canvas.integer(12, 20)
    sway = noise(canvas, low=2, high=columns, slope=0.8) * (0.08 / columns)
    x = (canvas.u + sway) * columns
    fx = x - x.floor() - 0.5
    lean = canvas.uniform(0.9, 1.3)
    y = (canvas.v + sway) * rows + fx.abs() * 2.0 * lean
    fy = y - y.floor() - 0.5
    limb = (1.0 - ((fx.abs() - 0.25) * 4.0).square()).clamp_min(0.0).sqrt()
    loop = (1.0 - (2.0 * fy).square()).clamp_min(0.0).sqrt()
    top = limb * (0.35 + 0.65 * loop)
    strand = torch.cos(2.0 * torch.pi * (2.0 * fy + 2.0 * fx.abs() * 2.0)) * limb
    fibre = noise(canvas, low=24, high=256, slope=0.5)
    elevation = (top + 0.07 * strand + 0.05 * fibre) * (0.16 / columns) + _fold(canvas)
    stitch = (y.floor().long() % rows) * columns + x.floor().long() % columns
    band = canvas.integer(1, rows // 2)
    striped = ((y.floor().long() % rows) // band % 2).float() * float(canvas.chance(0.4))
    dye = blend(canvas.colour(_YARNS), canvas.colour(_YARNS), striped)
    unit = torch.ones(3, 1, 1, device=canvas.device)
    colour = dye * canvas.vary_colour(unit, index=stitch, count=rows * columns, amount=0.06)
    return _cloth(canvas, elevation, colour=colour, depth=ramp(top, 0.0, 0.8), strand=strand, fibre=fibre)
