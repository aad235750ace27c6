"""Flips and quarter turns of pictures, in which normal vectors turn with the picture.

All functions take decoded floats or raw unsigned integers alike: a raw component ``v`` is negated as
``maximum - v``, which decodes to the negated value, so batches can turn as uint8 and decode later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


def flip_green(normal: Shaped[Tensor, "n 3 h w"]) -> Shaped[Tensor, "n 3 h w"]:
    """Exchanges the OpenGL (Y up) and DirectX (Y down) reading of a normal map."""
    x, y, z = normal.unbind(dim=1)
    return torch.stack((x, _negated(y), z), dim=1)


def flip_horizontal(x: Shaped[Tensor, "n c h w"], *, normal: bool) -> Shaped[Tensor, "n c h w"]:
    """Mirrors left and right; where ``x`` is a normal map its x components are negated."""
    mirrored = x.flip(-1)
    if not normal:
        return mirrored
    vx, vy, vz = mirrored.unbind(dim=1)
    return torch.stack((_negated(vx), vy, vz), dim=1)


def flip_vertical(x: Shaped[Tensor, "n c h w"], *, normal: bool) -> Shaped[Tensor, "n c h w"]:
    """Mirrors top and bottom; where ``x`` is a normal map its y components are negated."""
    mirrored = x.flip(-2)
    return flip_green(mirrored) if normal else mirrored


def rotate90(x: Shaped[Tensor, "n c h w"], *, turns: int, normal: bool) -> Shaped[Tensor, "n c h2 w2"]:
    """Turns counter-clockwise by ``turns`` quarters; normals turn with it, (x, y) -> (-y, x) a quarter."""
    rotated = torch.rot90(x, turns, dims=(-2, -1))
    if not normal:
        return rotated
    for _ in range(turns % 4):
        vx, vy, vz = rotated.unbind(dim=1)
        rotated = torch.stack((_negated(vy), vx, vz), dim=1)
    return rotated


@dataclass(frozen=True)
class Orientation:
    """One of the eight orientations of a square for each sample: transposed, then mirrored.

    A batch is turned with at most three selections whatever its size and mix. The flags stay on the CPU.
    """

    transposed: Bool[Tensor, " n"]
    mirrored_x: Bool[Tensor, " n"]
    mirrored_y: Bool[Tensor, " n"]

    @staticmethod
    def of(
        turns: Int[Tensor, " n"], *, horizontal: Bool[Tensor, " n"], vertical: Bool[Tensor, " n"]
    ) -> Orientation:
        """The orientation after ``turns`` counter-clockwise quarters, then the given flips."""
        turns = turns % 4
        return Orientation(
            transposed=turns % 2 == 1,
            mirrored_x=(turns >= 2) ^ horizontal,
            mirrored_y=((turns == 1) | (turns == 2)) ^ vertical,
        )

    def apply(self, x: Shaped[Tensor, "n c s s"], *, normal: bool) -> Shaped[Tensor, "n c s s"]:
        """Brings square pictures into this orientation, the vectors of a normal map included."""
        if x.dtype == torch.uint16:
            # CUDA has few kernels for uint16; moving and negating are the same on the bits seen as int16.
            return self.apply(x.view(torch.int16), normal=normal).view(torch.uint16)
        x = _where(self.transposed, lambda: _transposed(x, normal=normal), x)
        x = _where(self.mirrored_x, lambda: flip_horizontal(x, normal=normal), x)
        return _where(self.mirrored_y, lambda: flip_vertical(x, normal=normal), x)


def _where(chosen: Tensor, turned: Callable[[], Tensor], x: Tensor) -> Tensor:
    """Replaces the chosen samples; nothing is computed or selected where all samples agree."""
    if not chosen.any():
        return x
    if chosen.all():
        return turned()
    return torch.where(chosen.to(x.device).view(-1, 1, 1, 1), turned(), x)


def _transposed(x: Tensor, *, normal: bool) -> Tensor:
    """Exchanges rows and columns; the vectors (x, y) become (-y, -x)."""
    exchanged = x.transpose(-2, -1)
    if not normal:
        return exchanged
    vx, vy, vz = exchanged.unbind(dim=1)
    return torch.stack((_negated(vy), _negated(vx), vz), dim=1)


def _negated(component: Tensor) -> Tensor:
    if component.is_floating_point():
        return -component
    return ~component  # maximum - v of unsigned integers, also of their bits seen as signed ones
