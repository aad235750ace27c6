"""Flips pictures and rotates them by quarter turns; normal vectors are transformed with the picture.

All functions take decoded floats or raw unsigned integers. A raw component ``v`` is negated as
``maximum - v``, which decodes to the negated value, so that batches can be oriented before they are decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


def flip_green(normal: Shaped[Tensor, "n 3 h w"]) -> Shaped[Tensor, "n 3 h w"]:
    """Convert a normal map between OpenGL (Y up) and DirectX (Y down), in both directions."""
    x, y, z = normal.unbind(dim=1)
    return torch.stack((x, _negate(y), z), dim=1)


def flip_horizontal(x: Shaped[Tensor, "n c h w"], *, normal: bool) -> Shaped[Tensor, "n c h w"]:
    """Mirror left and right; if ``x`` is a normal map, negate its x components."""
    mirrored = x.flip(-1)
    if not normal:
        return mirrored
    vx, vy, vz = mirrored.unbind(dim=1)
    return torch.stack((_negate(vx), vy, vz), dim=1)


def flip_vertical(x: Shaped[Tensor, "n c h w"], *, normal: bool) -> Shaped[Tensor, "n c h w"]:
    """Mirror top and bottom; if ``x`` is a normal map, negate its y components."""
    mirrored = x.flip(-2)
    return flip_green(mirrored) if normal else mirrored


def rotate90(x: Shaped[Tensor, "n c h w"], *, turns: int, normal: bool) -> Shaped[Tensor, "n c h2 w2"]:
    """Rotate counter-clockwise by ``turns`` quarter turns; each one maps normals (x, y) to (-y, x)."""
    rotated = torch.rot90(x, turns, dims=(-2, -1))
    if not normal:
        return rotated
    for _ in range(turns % 4):
        vx, vy, vz = rotated.unbind(dim=1)
        rotated = torch.stack((_negate(vy), vx, vz), dim=1)
    return rotated


@dataclass(frozen=True)
class Orientation:
    """One of the eight orientations of a square for each sample: transposed, then mirrored.

    The flags stay on the CPU. A batch of any size needs at most three ``torch.where`` operations.
    """

    transposed: Bool[Tensor, " n"]
    mirrored_x: Bool[Tensor, " n"]
    mirrored_y: Bool[Tensor, " n"]

    @staticmethod
    def of(
        turns: Int[Tensor, " n"], *, horizontal: Bool[Tensor, " n"], vertical: Bool[Tensor, " n"]
    ) -> Orientation:
        """Return the orientation after ``turns`` counter-clockwise quarter turns and then the given flips."""
        turns = turns % 4
        return Orientation(
            transposed=turns % 2 == 1,
            mirrored_x=(turns >= 2) ^ horizontal,
            mirrored_y=((turns == 1) | (turns == 2)) ^ vertical,
        )

    def apply(self, x: Shaped[Tensor, "n c s s"], *, normal: bool) -> Shaped[Tensor, "n c s s"]:
        """Transform square pictures, and the vectors of a normal map, into this orientation."""
        if x.dtype == torch.uint16:
            # CUDA has few kernels for uint16. Moves and negations give the same bits for int16.
            return self.apply(x.view(torch.int16), normal=normal).view(torch.uint16)
        x = _where(self.transposed, lambda: _transpose(x, normal=normal), x)
        x = _where(self.mirrored_x, lambda: flip_horizontal(x, normal=normal), x)
        return _where(self.mirrored_y, lambda: flip_vertical(x, normal=normal), x)


def _where(chosen: Tensor, turned: Callable[[], Tensor], x: Tensor) -> Tensor:
    """Transform the chosen samples; if none or all are chosen, no selection is computed."""
    if not chosen.any():
        return x
    if chosen.all():
        return turned()
    return torch.where(chosen.to(x.device).view(-1, 1, 1, 1), turned(), x)


def _transpose(x: Tensor, *, normal: bool) -> Tensor:
    """Exchange rows and columns; vectors (x, y) become (-y, -x)."""
    exchanged = x.transpose(-2, -1)
    if not normal:
        return exchanged
    vx, vy, vz = exchanged.unbind(dim=1)
    return torch.stack((_negate(vy), _negate(vx), vz), dim=1)


def _negate(component: Tensor) -> Tensor:
    if component.is_floating_point():
        return -component
    return ~component  # equals maximum - v for unsigned integers, also if their bits are read as signed
