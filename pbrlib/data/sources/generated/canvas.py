"""Canvas and surface of the generated materials: coordinates, random draws, colours, and the painted fields.

Lengths are fractions of the texture's width; colours are sRGB in [0, 1]. Random numbers are drawn on the CPU
and do not depend on the size of the texture, so that a seed gives the same material at every size and on
every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

RGB: TypeAlias = tuple[float, float, float]
Palette: TypeAlias = Sequence[RGB]
_T = TypeVar("_T")

DYES: Palette = (
    (0.62, 0.16, 0.14),
    (0.20, 0.27, 0.45),
    (0.24, 0.38, 0.26),
    (0.72, 0.58, 0.32),
    (0.42, 0.28, 0.40),
    (0.30, 0.28, 0.26),
    (0.78, 0.74, 0.66),
    (0.52, 0.38, 0.26),
)
"""Colours that paint, dye and glaze share, so that no class can be recognised by colour alone."""


@dataclass(frozen=True)
class Canvas:
    """A square texture to paint: its size in pixels, its random generator and its device.

    ``phase`` is a random offset of the coordinates, so that joints are not always on the border.
    """

    size: int
    random: torch.Generator
    device: torch.device
    phase: tuple[float, float]

    @classmethod
    def seeded(cls, seed: int, *, size: int, device: torch.device | str = "cpu") -> Canvas:
        """Return a canvas whose draws depend on ``seed`` only."""
        random = torch.Generator().manual_seed(seed)
        along, down = torch.rand(2, generator=random).tolist()
        return cls(size, random, torch.device(device), (along, down))

    @cached_property
    def _ticks(self) -> Tensor:
        return (torch.arange(self.size, device=self.device, dtype=torch.float32) + 0.5) / self.size

    @cached_property
    def u(self) -> Float[Tensor, "h w"]:
        """The horizontal position of each pixel centre, in (0, 2); patterns repeat with period 1."""
        return (self._ticks + self.phase[0])[None, :].expand(self.size, self.size)

    @cached_property
    def v(self) -> Float[Tensor, "h w"]:
        """The vertical position of each pixel centre, in (0, 2); patterns repeat with period 1."""
        return (self._ticks + self.phase[1])[:, None].expand(self.size, self.size)

    def table(self, *shape: int) -> Tensor:
        """Draw uniform numbers in [0, 1); the shape must not depend on the size of the texture."""
        return torch.rand(*shape, generator=self.random).to(self.device)

    def uniform(self, low: float, high: float) -> float:
        """Draw a uniform number in [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self.random))

    def integer(self, low: int, high: int) -> int:
        """Draw an integer in low..high, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.random))

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.uniform(0.0, 1.0) < probability

    def choice(self, options: Sequence[_T]) -> _T:
        """Draw one of the options."""
        return options[self.integer(0, len(options) - 1)]

    def colour(self, palette: Palette, *, spread: float = 0.12) -> Float[Tensor, "3 1 1"]:
        """Draw a colour between two colours of a palette; ``spread`` varies its brightness and channels."""
        first = torch.tensor(self.choice(palette))
        second = torch.tensor(self.choice(palette))
        mixed = torch.lerp(first, second, self.uniform(0.0, 0.5))
        mixed = mixed * self.uniform(1.0 - spread, 1.0 + spread)
        mixed = mixed * (1.0 + (torch.rand(3, generator=self.random) - 0.5) * spread * 0.7)
        return mixed.clamp(0.03, 0.93).to(self.device)[:, None, None]

    def vary_colour(
        self, colour: Float[Tensor, "3 1 1"], *, index: Int[Tensor, "h w"], count: int, amount: float
    ) -> Float[Tensor, "3 h w"]:
        """Vary a colour from piece to piece: brightness by ``amount``, channels by an eighth of it."""
        brightness = 1.0 + (self.table(1, count) - 0.5) * 2.0 * amount
        hue = 1.0 + (self.table(3, count) - 0.5) * 0.25 * amount
        return colour * (brightness * hue)[:, index]


@dataclass(frozen=True)
class Surface:
    """A painted material before quantisation.

    ``elevation`` is the height in widths of the texture, with any offset, so that surfaces can be combined.
    ``albedo`` is sRGB in [0, 1]; ``roughness`` and ``metallic`` are in [0, 1]. ``mask`` has the class ids, or
    is None before the class is set.
    """

    elevation: Float[Tensor, "h w"]
    albedo: Float[Tensor, "3 h w"]
    roughness: Float[Tensor, "h w"]
    metallic: Float[Tensor, "h w"]
    mask: Int[Tensor, "h w"] | None = None

    def transposed(self) -> Surface:
        """Return the surface with rows and columns exchanged, so that horizontal planks become vertical."""
        fields = (self.elevation, self.albedo, self.roughness, self.metallic)
        elevation, albedo, roughness, metallic = (field.mT.contiguous() for field in fields)
        mask = None if self.mask is None else self.mask.mT.contiguous()
        return Surface(elevation, albedo, roughness, metallic, mask)

    def scaled(self, factor: float) -> Surface:
        """Return the surface with its elevation multiplied by a factor."""
        return replace(self, elevation=self.elevation * factor)


def dielectric(
    elevation: Float[Tensor, "h w"], *, albedo: Float[Tensor, "3 h w"], roughness: Float[Tensor, "h w"]
) -> Surface:
    """Return a surface without metal."""
    return Surface(elevation, albedo, roughness, torch.zeros_like(elevation))


def ramp(x: Tensor, low: float, high: float) -> Tensor:
    """Apply a smoothstep: 0 below ``low``, 1 above ``high``."""
    t = ((x - low) / (high - low)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def blend(below: Tensor | float, above: Tensor | float, share: Tensor) -> Tensor:
    """Interpolate from ``below`` (``share`` 0) to ``above`` (``share`` 1)."""
    return below * (1.0 - share) + above * share
