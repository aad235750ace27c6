"""What the vectors of a normal map, as they are written, say of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pbrlib.data.materials.audit import Finding, Severity
from pbrlib.data.materials.decoding import Pixels
from pbrlib.data.materials.pictures import raw_vectors
from pbrlib.textures.normalpixels import vector_problem

LENGTH_TOLERANCE = 0.1

_FEW, _MANY = 0.01, 0.5


def vector_findings(pixels: Pixels, *, material: str, file: Path | str) -> Iterator[Finding]:
    """An error where the vectors are no tangent-space normals, a remark where they are not of unit length.

    Args:
        pixels: From a normal map, ``(H, W, 3)``.
        material: The id that the findings name.
        file: The file of the normal map, or what else an error calls it.

    Raises:
        DataError: The picture has one channel.
    """
    vectors = raw_vectors(pixels)
    inward = float((vectors[..., 2] < 0).mean())
    if inward > _MANY:
        said = f"{inward:.0%} of the vectors point into the surface: not a tangent-space normal map"
        yield Finding(material, "normal", "inward", "error", f"{file}: {said}. Leave it out.")
    elif pixels.dtype == np.uint8 and (problem := vector_problem(pixels)):
        yield Finding(material, "normal", "vectors", "error", f"{file}: {problem}")
    lengths = np.linalg.norm(vectors, axis=-1)
    share = float((np.abs(lengths - 1.0) > LENGTH_TOLERANCE).mean())
    if share > _FEW:
        said = f"{share:.0%} of the vectors are not of unit length (off by more than 0.1); renormalised"
        severity: Severity = "warning" if share > _MANY else "note"
        yield Finding(material, "normal", "length", severity, said)
