"""Converts decoded pictures to stored maps: normal convention, size, height range, tileability."""

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
    MASK,
    MAX_COMPONENT_SUM,
    MIN_NORMAL_LENGTH,
    NORMAL,
    PACKED,
    Encoding,
    MapType,
    Stored,
)

Convention: TypeAlias = Literal["opengl", "directx"]

CONSTANT_SPAN = 2 / 255
"""A map whose values span at most this is constant: JPEG changes constants by one or two of 255."""

FLAT = np.array([0.0, 0.0, 1.0], np.float32)
"""The normal of a flat surface."""

MAX_TILEABLE_RATIO = 1.4
"""A material without a tileable flag counts as tileable below this seam ratio.

Of 25 scanned sets, tileable ones have ratios up to 1.3, unwrapped objects from 2, and nearly all pictures
that are cut from a larger one from 1.8.
"""

_MIN_PACKED_SPREAD = 8
"""A grey map whose channels differ by more than this (of 255) on average is a packed file of several maps.

The chroma noise of JPEG stays below 2.
"""


def to_stored(
    pixels: Pixels, kind: MapType, *, size: int | tuple[int, int], convention: Convention = "opengl"
) -> Stored:
    """Convert decoded pixels to the stored form of a map, and resize them.

    Colours are averaged in linear light, normals are averaged and normalised, masks get the nearest pixel. If
    ``size`` is an int, smaller maps are not enlarged.

    Args:
        pixels: Pixels of ``read_pixels``, or a stored map to reduce.
        kind: The map.
        size: The maximum of the longer side in pixels, or a height and width.
        convention: The direction of the green channel of a normal map.

    Raises:
        DataError: The channels do not fit the map. The message has no file name; the caller adds it.
    """
    target = limit_size(pixels.shape[:2], max_side=size) if isinstance(size, int) else size
    if kind is MASK:
        return _resize(_labels(pixels), target, by="NEAREST")
    if kind is NORMAL:
        vectors = replace_gaps(raw_vectors(pixels))
        if convention == "directx":
            vectors[..., 1] = -vectors[..., 1]
        return kind.quantise(unit_vectors(_resize(vectors, target, by="BOX")))
    values = _match_channels(pixels, kind)
    if values.shape[:2] == target and values.dtype == np.dtype(kind.dtype):
        return values
    if kind.encoding is Encoding.SRGB and values.shape[:2] != target:
        return kind.quantise(linear_to_srgb(_resize(_to_linear(values), target, by="BOX")))
    averaged = _resize(_to_float(values), target, by="BOX")
    return kind.quantise(averaged * 2.0 - 1.0 if kind.encoding is Encoding.SIGNED else averaged)


def limit_size(size: tuple[int, int], *, max_side: int) -> tuple[int, int]:
    """Scale a height and width down, so that the longer side is at most ``max_side`` px."""
    height, width = size
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def raw_vectors(pixels: Pixels) -> Floats:
    """Return the vectors of a normal map, ``(H, W, 3)``, without normalising them.

    Two-channel block compression (BC5) decodes with an empty blue channel: z is then computed.

    Raises:
        DataError: The picture has one channel.
    """
    if pixels.shape[-1] != 3:
        raise DataError(
            "got one channel; expected the three of a normal map. If it is a bump or height map, rename it "
            "to height."
        )
    vectors = _to_float(pixels) * np.float32(2.0) - np.float32(1.0)
    if not pixels[..., 2].any():
        square = np.square(vectors[..., :2]).sum(axis=-1)
        vectors[..., 2] = np.sqrt(np.clip(1.0 - square, 0.0, 1.0))
    return vectors


def replace_gaps(vectors: Floats) -> Floats:
    """Replace vectors ``(H, W, 3)`` without a direction by the flat normal, as ``MapType.decode`` does.

    Call it before pixels are averaged, since the vector of a black pixel is longer than any normal.
    """
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    absent = (length < MIN_NORMAL_LENGTH) | (np.abs(vectors).sum(axis=-1, keepdims=True) > MAX_COMPONENT_SUM)
    return np.where(absent, FLAT, vectors)


def unit_vectors(vectors: Floats) -> Floats:
    """Normalise vectors; zero vectors become the flat normal."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = np.where(length > MIN_NORMAL_LENGTH, vectors / np.maximum(length, MIN_NORMAL_LENGTH), FLAT)
    return unit


def with_rescaled_height(maps: Mapping[str, Stored]) -> tuple[dict[str, Stored], tuple[float, float] | None]:
    """Rescale the height map to [0, 1]; return all maps and its original range, None without a height map.

    A height is relative, and each file uses a different part of the value range. A height map that the audit
    calls constant is not rescaled, since that would only amplify the noise of JPEG.
    """
    if HEIGHT.name not in maps:
        return dict(maps), None
    height = maps[HEIGHT.name].astype(np.float64) / HEIGHT.maximum
    low, high = float(height.min()), float(height.max())
    if high - low <= CONSTANT_SPAN:
        return dict(maps), (low, high)
    full = HEIGHT.quantise(((height - low) / (high - low)).astype(np.float32))
    return {**maps, HEIGHT.name: full}, (low, high)


def is_tileable(ratios: Iterable[float]) -> bool:
    """Whether a material is tileable, by the seam ratios of its pictures (with the quantile 0.95)."""
    return bool(max(ratios, default=np.inf) < MAX_TILEABLE_RATIO)


def constant_map(value: float, kind: MapType, *, size: tuple[int, int]) -> Stored:
    """Return a map of the given height and width with one value in [0, 1] everywhere."""
    return kind.quantise(np.full((*size, kind.channels), value, np.float32))


def seam_ratio(pixels: Pixels, *, quantile: float) -> float:
    """Return the ratio of the step across the border to a quantile of the steps between neighbouring lines.

    A step is the mean absolute difference of two lines; the result is the larger ratio of the two axes. About
    1 means tileable. A picture that is flat along its whole border has ratio 0.

    Args:
        pixels: ``(H, W, C)``.
        quantile: The quantile of the inner steps: 0.95 detects most seams, 1 only those that are larger than
            every edge in the picture.
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


def _match_channels(pixels: Pixels, kind: MapType) -> Pixels:
    found = pixels.shape[-1]
    if found == kind.channels:
        return pixels
    if found == 1:
        return np.repeat(pixels, kind.channels, axis=-1)
    spread = np.abs(pixels - pixels.mean(axis=-1, keepdims=True)).mean()
    if spread > _MIN_PACKED_SPREAD:
        raise DataError(
            "got three different channels; expected a grey map. Name a packed file after its channels: "
            f"{', '.join(name for name in PACKED if len(name) == 3)}."
        )
    grey: Pixels = np.rint(pixels.mean(axis=-1, keepdims=True)).astype(pixels.dtype)
    return grey


def _labels(pixels: Pixels) -> Stored:
    """Return the class ids of a mask.

    Grey pixels are ids, coloured pixels are looked up in the class palette, and unknown ones become IGNORE.
    """
    if pixels.dtype != np.uint8:
        raise DataError(
            "got 16 bits; expected 8 bits with class ids or palette colours. Save it with 8 bits."
        )
    grey = pixels[..., 0]
    labels = np.full(grey.shape, IGNORE, np.uint8)
    is_grey = (pixels == pixels[..., :1]).all(axis=-1)
    labels[is_grey & (grey < len(CLASSES))] = grey[is_grey & (grey < len(CLASSES))]
    if pixels.shape[-1] == 3:
        for number, colour in enumerate(CLASS_COLOURS):
            labels[(pixels == np.array(colour, np.uint8)).all(axis=-1)] = number
    return labels[..., None]


def _resize(values: Pixels, size: tuple[int, int], *, by: Literal["BOX", "NEAREST"]) -> Pixels:
    """Resize each channel to a height and width."""
    from PIL import Image

    if values.shape[:2] == size:
        return values
    height, width = size
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(values, -1, 0)]
    return np.stack([np.asarray(p.resize((width, height), Image.Resampling[by])) for p in planes], axis=-1)


def _to_linear(pixels: Pixels) -> Floats:
    """Convert sRGB to linear light by a lookup table.

    Computing the curve for every pixel of 4096 x 4096 takes seconds and a gigabyte.
    """
    levels = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=pixels.dtype)
    return srgb_to_linear(_to_float(levels))[pixels]


def _to_float(pixels: Pixels) -> Floats:
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
