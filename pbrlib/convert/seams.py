"""Measures seam ratios: how visible the border of a texture is where its copies meet."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

MAX_TILEABLE_RATIO = 1.4
"""A diffuse counts as tileable if both its seam ratios are below this value.

Measured on 25 old-style textures: 18 of 21 tileable textures are detected (the other three have mortar lines
or edges of tiles on the border), and none of 4 others. Of 200 random crops, which are not tileable, 9 are
detected as tileable; with 1.5 it is 18, for the same 18 textures. A tileable texture that is not detected is
padded by mirroring, which is safe.
"""

_HALF_LEVEL = 0.5 / 255.0  # 8-bit pictures have no smaller steps; flat maps then have ratio 1


@dataclass(frozen=True)
class SeamRatio:
    """Step across the wrapped border divided by the mean step between neighbouring pixels inside.

    A tileable texture has about 1, other textures 2 or more. ``columns`` is for the step from the last column
    to the first, ``rows`` from the last row to the first.
    """

    columns: float
    rows: float

    @property
    def is_tileable(self) -> bool:
        """Return whether the texture is tileable in both directions."""
        return max(self.columns, self.rows) < MAX_TILEABLE_RATIO


def seam_over_mean(picture: Float[Tensor, "c h w"]) -> SeamRatio:
    """Return the seam ratios of a picture in about [0, 1], from mean absolute differences of all channels."""
    return SeamRatio(columns=_ratio(picture, dim=-1), rows=_ratio(picture, dim=-2))


def _ratio(picture: Tensor, *, dim: int) -> float:
    if picture.shape[dim] < 2:
        return 1.0
    across = (picture.select(dim, 0) - picture.select(dim, -1)).abs().mean()
    inside = picture.diff(dim=dim).abs().mean()
    return float((across + _HALF_LEVEL) / (inside + _HALF_LEVEL))
