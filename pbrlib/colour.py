"""The sRGB transfer curve on arrays (IEC 61966-2-1); tensors use kornia's."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]


def srgb_to_linear(values: Floats) -> Floats:
    """Convert sRGB values in [0, 1] of any shape to linear light in [0, 1]."""
    linear: Floats = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def linear_to_srgb(values: Floats) -> Floats:
    """Convert linear light of any shape, clipped to [0, 1], to sRGB values in [0, 1]."""
    linear = np.clip(values, 0.0, 1.0)
    srgb: Floats = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return srgb.astype(np.float32)
