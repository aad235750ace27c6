"""Small folders of materials for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = 32


def bumps(size: int = SIZE, *, convention: str = "opengl") -> np.ndarray:
    """Return a normal map ``(size, size, 3)`` uint8 of a smooth tileable surface with bumps."""
    rows, cols = np.meshgrid(*[np.arange(size) * 2 * np.pi / size] * 2, indexing="ij")
    slope_x, slope_row = 0.6 * np.cos(2 * cols) * np.cos(rows), -0.3 * np.sin(2 * cols) * np.sin(rows)
    green = slope_row if convention == "opengl" else -slope_row
    vectors = np.stack((-slope_x, green, np.ones_like(green)), axis=-1)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.rint((vectors * 0.5 + 0.5) * 255).astype(np.uint8)


def colours(seed: int, size: int = SIZE) -> np.ndarray:
    """Return noise ``(size, size, 3)`` uint8."""
    return np.random.default_rng(seed).integers(30, 220, (size, size, 3), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_material(root: Path, name: str, *, seed: int = 0, size: int = SIZE, **maps: np.ndarray) -> Path:
    """Write a material with albedo, normal, roughness and other given maps; return its folder."""
    albedo = colours(seed, size)
    pictures = {"albedo": albedo, "normal": bumps(size), "roughness": albedo[..., 0], **maps}
    for kind, pixels in pictures.items():
        write(root / name / f"{kind}.png", pixels)
    return root / name


def write_manifest(root: Path, *listed: dict[str, Any]) -> None:
    (root / "manifest.json").write_text(json.dumps(listed))
