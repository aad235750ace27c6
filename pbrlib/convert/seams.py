"""How visible the border of a texture is where its copies meet."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

TILES_BELOW = 1.4
"""Seam ratio under which both borders of a diffuse count as tiling.

Over 25 old-style textures it finds 18 of 21 that tile (the other three have mortar lines or tiles' edges on
the border), none of 4 that do not, and takes 9 of 200 random cuts, which tile nowhere, for tiling; 1.5 finds
the same 18 and takes 18 cuts. A texture wrongly held for one that does not tile is mirrored: the safe side.
"""

_HALF_LEVEL = 0.5 / 255.0  # steps smaller than this are not in an 8-bit picture; keeps flat maps at 1


@dataclass(frozen=True)
class SeamRatio:
    """Step across the wrapped border over the mean step between neighbours inside.

    1 is a border like any other place; a texture that does not tile has 2 and more. ``columns`` is the
    step from the last column to the first, ``rows`` from the last row to the first.
    """

    columns: float
    rows: float

    @property
    def tiles(self) -> bool:
        """Whether copies can be laid side by side in both directions."""
        return max(self.columns, self.rows) < TILES_BELOW


def seam_over_mean(picture: Float[Tensor, "c h w"]) -> SeamRatio:
    """Measures both borders of a picture of any range near [0, 1]; absolute differences, mean of channels."""
    return SeamRatio(columns=_ratio(picture, dim=-1), rows=_ratio(picture, dim=-2))


def _ratio(picture: Tensor, *, dim: int) -> float:
    if picture.shape[dim] < 2:
        return 1.0
    across = (picture.select(dim, 0) - picture.select(dim, -1)).abs().mean()
    inside = picture.diff(dim=dim).abs().mean()
    return float((across + _HALF_LEVEL) / (inside + _HALF_LEVEL))
