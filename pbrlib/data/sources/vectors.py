"""Checks the vectors of a normal map before they are normalised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pbrlib.data.materials.audit import Finding, Severity
from pbrlib.data.materials.decoding import Pixels
from pbrlib.data.materials.pictures import raw_vectors
from pbrlib.textures.normalpixels import vector_problem

LENGTH_TOLERANCE = 0.1

_NOTE_SHARE, _WARNING_SHARE = 0.01, 0.5


def vector_findings(pixels: Pixels, *, material: str, file: Path | str) -> Iterator[Finding]:
    """Yield an error if the vectors are no tangent-space normals, and a note if they have no unit length.

    Args:
        pixels: The pixels of a normal map, ``(H, W, 3)``.
        material: The id of the material for the findings.
        file: The file of the normal map, or its name in error messages.

    Raises:
        DataError: The picture has one channel.
    """
    vectors = raw_vectors(pixels)
    inward = float((vectors[..., 2] < 0).mean())
    if inward > _WARNING_SHARE:
        problem = f"{inward:.0%} of the vectors point into the surface; expected a tangent-space normal map"
        yield Finding(material, "normal", "inward", "error", f"{file}: {problem}. Remove it.")
    elif pixels.dtype == np.uint8 and (problem := vector_problem(pixels)):
        yield Finding(material, "normal", "vectors", "error", f"{file}: {problem}")
    lengths = np.linalg.norm(vectors, axis=-1)
    share = float((np.abs(lengths - 1.0) > LENGTH_TOLERANCE).mean())
    if share > _NOTE_SHARE:
        remark = f"{share:.0%} of the vectors differ from unit length by more than 0.1; they are normalised"
        severity: Severity = "warning" if share > _WARNING_SHARE else "note"
        yield Finding(material, "normal", "length", severity, remark)
