"""Tiles of maps as lossless blobs: planar, differences along x, zstd; 16-bit maps also byte-shuffled by row.

The format combines filters of imagecodecs. A blob does not contain the shape and type of its tile; they are
in the index and in `pbrlib.maps`. The functions are thread-safe, since every call creates its own zstd
context; the native code releases the GIL.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import imagecodecs
import numpy as np

from pbrlib.errors import DamageError
from pbrlib.maps import Stored

TILE: Final = 256
"""Side of a tile in pixels; tiles at the right and lower border of a map may be smaller."""

Blob: TypeAlias = bytes | memoryview
Planar: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_LEVEL = 1


def encode_tile(tile: Stored) -> bytes:
    """Encode a stored tile ``(h, w, C)`` of uint8 or uint16."""
    planar = np.ascontiguousarray(np.moveaxis(tile, -1, 0))
    residuals = imagecodecs.delta_encode(planar, axis=-1)
    if planar.dtype.itemsize > 1:
        residuals = imagecodecs.byteshuffle_encode(residuals, axis=-1)
    return bytes(imagecodecs.zstd_encode(residuals.tobytes(), level=_LEVEL))


def decode_tile(blob: Blob, *, shape: tuple[int, int, int], dtype: str) -> Planar:
    """Decode a blob to a planar tile ``(C, h, w)``; ``shape`` is the stored shape ``(h, w, C)``.

    Raises DamageError if the blob is damaged or has another size.
    """
    height, width, channels = shape
    tile = np.empty((channels, height, width), dtype)
    decode_part(blob, tile, shape=shape, rows=(0, height), columns=(0, width))
    return tile


def decode_part(
    blob: Blob, out: Planar, *, shape: tuple[int, int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    """Decode the given rows and columns ``[from, to)`` of a tile into ``out``, ``(C, rows, columns)``.

    Reverses the filters of the requested part only. Raises the errors of ``decode_tile``.
    """
    residuals = _residuals(blob, shape, out.dtype)[:, rows[0] : rows[1], :]
    if out.dtype.itemsize > 1:
        residuals = imagecodecs.byteshuffle_decode(np.ascontiguousarray(residuals), axis=-1)
    residuals = residuals[:, :, : columns[1]]
    if columns[0] == 0:
        imagecodecs.delta_decode(residuals, axis=-1, out=out)
    else:  # decoding a difference needs all values to its left
        out[...] = imagecodecs.delta_decode(residuals, axis=-1)[:, :, columns[0] :]


def _residuals(blob: Blob, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Planar:
    height, width, channels = shape
    expected = height * width * channels * dtype.itemsize
    view: Any = memoryview(blob).cast("B")  # the items of Arrow's buffers are signed bytes
    try:
        raw = imagecodecs.zstd_decode(view, out=expected)
    except imagecodecs.ZstdError as error:
        raise DamageError(f"damaged tile ({error})") from error
    if len(raw) != expected:
        raise DamageError(f"damaged tile (got {len(raw)} bytes; expected {expected})")
    return np.frombuffer(raw, dtype).reshape(channels, height, width)
