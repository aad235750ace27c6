"""Decoded pictures into stored maps: conventions of the border, reduction, seams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import numpy as np

from pbrlib.colour import linear_to_srgb, srgb_to_linear
from pbrlib.data.materials.decoding import Floats, Pixels
from pbrlib.errors import DataError
from pbrlib.maps import (
    CLASS_COLOURS,
    CLASSES,
    HEIGHT,
    IGNORE,
    LARGEST_SUM,
    MASK,
    NORMAL,
    PACKED,
    SHORTEST_NORMAL,
    Encoding,
    MapType,
    Stored,
)

Convention: TypeAlias = Literal["opengl", "directx"]

CONSTANT = 2 / 255
"""A map whose values span no more than this is constant: JPEG moves constants by a step or two."""

FLAT = np.array([0.0, 0.0, 1.0], np.float32)
"""The normal of an even surface."""

WRAPS = 1.4
"""A material that does not say whether it tiles does so below this seam ratio: of 25 scanned sets those
that tile reach 1.3; unwrapped objects start at 2, nearly all pictures cut from a larger one at 1.8."""

_PACKED = 8
"""Grey maps whose channels differ by more than this (of 255) on average are several maps in one file;
chroma noise of JPEG stays below 2."""


def to_stored(
    pixels: Pixels, kind: MapType, *, size: int | tuple[int, int], convention: Convention = "opengl"
) -> Stored:
    """Brings decoded pixels into the stored form of a map, reduced to at most ``size`` px a side.

    Colours are averaged in linear light, normals averaged and renormalised, masks taken from the nearest
    pixel. An upper bound enlarges nothing.

    Args:
        pixels: From ``read_pixels``, or a stored map that is to be reduced.
        kind: The map.
        size: Upper bound of the longer side, or a height and width.
        convention: Of a normal map.

    Raises:
        DataError: The channels are not those of the map; says what came, the caller names the file.
    """
    target = bounded(pixels.shape[:2], most=size) if isinstance(size, int) else size
    if kind is MASK:
        return _resized(_labels(pixels), target, by="NEAREST")
    if kind is NORMAL:
        vectors = without_gaps(raw_vectors(pixels))
        if convention == "directx":
            vectors[..., 1] = -vectors[..., 1]
        return kind.quantise(unit_vectors(_resized(vectors, target, by="BOX")))
    values = _with_channels(pixels, kind)
    if values.shape[:2] == target and values.dtype == np.dtype(kind.dtype):
        return values
    if kind.encoding is Encoding.SRGB and values.shape[:2] != target:
        return kind.quantise(linear_to_srgb(_resized(_light(values), target, by="BOX")))
    averaged = _resized(_unit(values), target, by="BOX")
    return kind.quantise(averaged * 2.0 - 1.0 if kind.encoding is Encoding.SIGNED else averaged)


def bounded(size: tuple[int, int], *, most: int) -> tuple[int, int]:
    """A height and width in proportion, the longer side at most ``most`` px."""
    height, width = size
    scale = min(1.0, most / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def raw_vectors(pixels: Pixels) -> Floats:
    """The vectors of a normal map as they are written, ``(H, W, 3)``, not of unit length.

    Two-channel block compression (BC5) decodes with an empty blue channel: z is then computed.

    Raises:
        DataError: The picture has one channel.
    """
    if pixels.shape[-1] != 3:
        raise DataError("has one channel; a normal map has three. Is this a bump or height map?")
    vectors = _unit(pixels) * np.float32(2.0) - np.float32(1.0)
    if not pixels[..., 2].any():
        square = np.square(vectors[..., :2]).sum(axis=-1)
        vectors[..., 2] = np.sqrt(np.clip(1.0 - square, 0.0, 1.0))
    return vectors


def without_gaps(vectors: Floats) -> Floats:
    """Vectors ``(H, W, 3)``, flat where a pixel holds no direction, as ``MapType.decode`` reads them.

    Applies before pixels are averaged: a black pixel is longer than any normal.
    """
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    absent = (length < SHORTEST_NORMAL) | (np.abs(vectors).sum(axis=-1, keepdims=True) > LARGEST_SUM)
    return np.where(absent, FLAT, vectors)


def unit_vectors(vectors: Floats) -> Floats:
    """Vectors of length 1; a vector without length becomes the flat normal."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = np.where(length > SHORTEST_NORMAL, vectors / np.maximum(length, SHORTEST_NORMAL), FLAT)
    return unit


def with_full_height(maps: Mapping[str, Stored]) -> tuple[dict[str, Stored], tuple[float, float] | None]:
    """Maps whose height spans all of [0, 1], and the extremes that it had there; None without a height.

    A height is relative: files spend a part of their range, and another part each. What the audit calls
    constant stays as it is: of JPEG's noise nothing would be gained.
    """
    if HEIGHT.name not in maps:
        return dict(maps), None
    height = maps[HEIGHT.name].astype(np.float64) / HEIGHT.maximum
    low, high = float(height.min()), float(height.max())
    if high - low <= CONSTANT:
        return dict(maps), (low, high)
    full = HEIGHT.quantise(((height - low) / (high - low)).astype(np.float32))
    return {**maps, HEIGHT.name: full}, (low, high)


def tiles(ratios: Iterable[float]) -> bool:
    """Whether a material tiles that does not say so, by ``seam_over_quantile`` of its pictures at 0.95."""
    return bool(max(ratios, default=np.inf) < WRAPS)


def constant_map(value: float, kind: MapType, *, size: tuple[int, int]) -> Stored:
    """A map of one value in [0, 1], of a height and width."""
    return kind.quantise(np.full((*size, kind.channels), value, np.float32))


def seam_over_quantile(pixels: Pixels, *, quantile: float) -> float:
    """The step across the border over a quantile of the steps between neighbouring lines; 1 wraps well.

    The larger of both axes of mean absolute differences. A picture that is flat along its whole border
    has ratio 0: it wraps, whatever it shows.

    Args:
        pixels: ``(H, W, C)``.
        quantile: Of the steps inside, which to compare with: 0.95 notices most seams, 1 only those that
            are larger than every edge of the picture.
    """
    values = pixels.astype(np.float32)
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(values, axis=axis, append=np.take(values, [0], axis=axis)))
        lines = steps.mean(axis=(1 - axis, 2))
        ratios.append(
            float(lines[-1] / max(np.quantile(lines[:-1], quantile), 1e-6)) if len(lines) > 1 else 0.0
        )
    return max(ratios)


def _with_channels(pixels: Pixels, kind: MapType) -> Pixels:
    found = pixels.shape[-1]
    if found == kind.channels:
        return pixels
    if found == 1:
        return np.repeat(pixels, kind.channels, axis=-1)
    spread = np.abs(pixels - pixels.mean(axis=-1, keepdims=True)).mean()
    if spread > _PACKED:
        raise DataError(
            "has three different channels, so it is no grey map. Name a packed one after its channels: "
            f"{', '.join(name for name in PACKED if len(name) == 3)}."
        )
    grey: Pixels = np.rint(pixels.mean(axis=-1, keepdims=True)).astype(pixels.dtype)
    return grey


def _labels(pixels: Pixels) -> Stored:
    """Class ids from a mask: grey pixels are ids, others the palette; anything else is ignored."""
    if pixels.dtype != np.uint8:
        raise DataError("has 16 bits; a mask holds class ids or the palette in 8 bits.")
    grey = pixels[..., 0]
    labels = np.full(grey.shape, IGNORE, np.uint8)
    is_grey = (pixels == pixels[..., :1]).all(axis=-1)
    labels[is_grey & (grey < len(CLASSES))] = grey[is_grey & (grey < len(CLASSES))]
    if pixels.shape[-1] == 3:
        for number, colour in enumerate(CLASS_COLOURS):
            labels[(pixels == np.array(colour, np.uint8)).all(axis=-1)] = number
    return labels[..., None]


def _resized(values: Pixels, size: tuple[int, int], *, by: Literal["BOX", "NEAREST"]) -> Pixels:
    """Channel by channel, to a height and width."""
    from PIL import Image

    if values.shape[:2] == size:
        return values
    height, width = size
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(values, -1, 0)]
    return np.stack([np.asarray(p.resize((width, height), Image.Resampling[by])) for p in planes], axis=-1)


def _light(pixels: Pixels) -> Floats:
    """Linear light, looked up: the curve on every pixel of 4096 x 4096 takes seconds and a gigabyte."""
    levels = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=pixels.dtype)
    return srgb_to_linear(_unit(levels))[pixels]


def _unit(pixels: Pixels) -> Floats:
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
