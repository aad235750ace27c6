"""The pixels of an old texture, its new set and its mask, brought to one size and to our conventions.

The one place where the DirectX normals of training data become OpenGL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pbrlib.data.materials import pictures
from pbrlib.data.materials.audit import Finding
from pbrlib.data.materials.decoding import Pixels, read_pixels
from pbrlib.data.sources.vectors import vector_findings
from pbrlib.errors import DataError
from pbrlib.maps import CLASSES, MAPS, MASK, ROUGHNESS, SEAM_MAPS, TRUE_PBR, Stored
from pbrlib.textures.decode import read_texture
from pbrlib.textures.metadata import Use
from pbrlib.textures.normalpixels import split_normal

PARTS = ("diffuse", "normal", "albedo", "rmaos", "height", "mask")
"""The files of a material, old ones first."""

COLOURS = ("diffuse", "albedo")

PACKED = {name: slot for name, slot in TRUE_PBR.items() if slot.ending == TRUE_PBR[ROUGHNESS.name].ending}
"""The maps that ``rmaos`` holds, and their channels there."""

SAME_SHAPE = 0.02
"""Relative difference of aspect ratios below which two pictures show the same: a conversion rounds sides up
to multiples of 4."""

ONE_CLASS = 0.99
"""A material is of a class if this share of all its pixels is; otherwise its mask says what it is of."""


class Reading:
    """The reading of one material: collects what is wrong instead of stopping at the first.

    Args:
        name: Of the material, for the findings.
        files: Some of ``PARTS``, at least a diffuse and a normal.
        size: Upper bound of the longer side in pixels.
    """

    def __init__(self, name: str, files: Mapping[str, Path], *, size: int) -> None:
        self.findings: list[Finding] = []
        self._name, self._files, self._size = name, files, size
        self._seams: list[float] = []

    def maps(self) -> dict[str, Stored] | None:
        """The stored maps, or None if an error was found.

        All have the size of the smallest picture: nothing is enlarged. A picture of one colour has no
        size; it fits any.
        """
        pixels: dict[str, Pixels] = {}
        for part, path in self._files.items():
            try:
                channels, notes = _channels(part, path)
                pixels |= channels
                self.findings += [
                    Finding(self._name, part, "metadata", "note", f"{path.name}: {note}") for note in notes
                ]
            except DataError as error:
                self._add(part, "undecodable", str(error))
        if self._errors() or not self._checked(pixels):
            return None
        target = self._target(pixels)
        if target is None:
            return None
        stored: dict[str, Stored] = {}
        for name, one in pixels.items():
            try:
                stored[name] = pictures.to_stored(one, MAPS[name], size=target, convention="directx")
            except DataError as error:
                self._add(name, "channels", f"{self._name}: {name} {error}")
        return None if self._errors() else {name: stored[name] for name in MAPS if name in stored}

    def tileable(self) -> bool:
        """Whether the material tiles, by the borders of its pictures; none of these files says so."""
        return pictures.tiles(self._seams)

    def label(self, maps: Mapping[str, Stored]) -> str | None:
        """The class of nearly all pixels of the mask, None if there is none."""
        mask = maps.get(MASK.name)
        if mask is None:
            return None
        counts = np.bincount(mask.ravel(), minlength=len(CLASSES))[: len(CLASSES)]
        return CLASSES[int(counts.argmax())] if counts.max() >= ONE_CLASS * mask.size else None

    def _checked(self, pixels: Mapping[str, Pixels]) -> bool:
        """Looks at the pictures as they came; False if the normals are none."""
        self.findings += vector_findings(pixels["normal"], material=self._name, file=self._files["normal"])
        for name in SEAM_MAPS:
            if name in pixels:
                self._seams.append(pictures.seam_over_quantile(pixels[name], quantile=0.95))
        return not self._errors()

    def _target(self, pixels: Mapping[str, Pixels]) -> tuple[int, int] | None:
        """The height and width that all maps get, or None if the pictures have different shapes."""
        given = {name: one.shape[:2] for name, one in pixels.items()}
        sizes = {name: given[name] for name, one in pixels.items() if not _is_plain(one)} or given
        listing = "; ".join(
            f"{width}x{height} {', '.join(name for name, size in sizes.items() if size == (height, width))}"
            for height, width in dict.fromkeys(sizes.values())
        )
        ratios = [math.log(height / width) for height, width in sizes.values()]
        if max(ratios) - min(ratios) > SAME_SHAPE:
            self._add("", "size", f"{self._name}: pictures of different shape: {listing}. Cut them alike.")
            return None
        smallest = min(h for h, _ in sizes.values()), min(w for _, w in sizes.values())
        if any(size != smallest for size in sizes.values()):
            message = f"sizes differ ({listing}): reduced to {smallest[1]}x{smallest[0]}"
            self.findings.append(Finding(self._name, "", "size", "note", message))
        return pictures.limit_size(smallest, max_side=self._size)

    def _errors(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)

    def _add(self, name: str, check: str, message: str) -> None:
        self.findings.append(Finding(self._name, name, check, "error", message))


def _channels(part: str, path: Path) -> tuple[dict[str, Pixels], tuple[str, ...]]:
    """The pictures in a file by map, ``(H, W, C)`` as they are stored there, and what its metadata says.

    Raises:
        DataError: The file does not decode, or its channels are not those of the part.
    """
    if part == "mask" or (part == "height" and path.suffix.lower() == ".png"):  # a PNG may have 16 bits
        decoded = read_pixels(path, use="data")
        return {part: decoded.pixels}, decoded.notes
    use: Use = "normal" if part == "normal" else "colour" if part in COLOURS else "data"
    texture = read_texture(path, use=use)
    pixels, num_channels = texture.pixels, texture.pixels.shape[-1]
    if part == "normal":
        return _normal_and_gloss(pixels, path), texture.notes
    if num_channels == 2:
        raise DataError(f"{path}: has two channels (BC5), which is a normal's format. Check the file names.")
    if part == "rmaos":
        if num_channels == 1:
            raise DataError(f"{path}: has one channel (BC4), not roughness, metallic and occlusion.")
        split = {name: pixels[..., slot.channel : slot.channel + 1] for name, slot in PACKED.items()}
        return split, texture.notes
    return {part: pixels if num_channels == 1 else pixels[..., :3]}, texture.notes


def _normal_and_gloss(pixels: Pixels, path: Path) -> dict[str, Pixels]:
    """A normal whose missing Z is 0, and the gloss of an alpha that says something."""
    try:
        found = split_normal(pixels)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    z = np.zeros_like(found.xy[..., :1]) if found.z is None else found.z
    normal = np.concatenate((found.xy, z), axis=-1)
    return {"normal": normal} | ({} if found.gloss is None else {"gloss": found.gloss})


def _is_plain(pixels: Pixels) -> bool:
    return bool((pixels == pixels[:1, :1]).all())
