"""The sRGB transfer curve on arrays (IEC 61966-2-1); tensors use kornia's."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]


def srgb_to_linear(values: Floats) -> Floats:
    """SRGB in [0, 1] to linear light in [0, 1]; any shape."""
    linear: Floats = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def linear_to_srgb(values: Floats) -> Floats:
    """Linear light to sRGB, both in [0, 1], clipped; any shape."""
    light = np.clip(values, 0.0, 1.0)
    curved: Floats = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return curved.astype(np.float32)
