"""Reads an old texture, its new set and its mask as stored maps of one size.

DirectX normals of Skyrim are converted to OpenGL here.
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
"""The files of a material, with the old ones first."""

COLOURS = ("diffuse", "albedo")

PACKED = {name: slot for name, slot in TRUE_PBR.items() if slot.ending == TRUE_PBR[ROUGHNESS.name].ending}
"""The maps of the file ``rmaos``, and their slots."""

MAX_ASPECT_DIFFERENCE = 0.02
"""Maximum difference of the logarithms of aspect ratios; a conversion rounds sides up to multiples of 4."""

MIN_CLASS_SHARE = 0.99
"""A material has a class if at least this share of its pixels has it; otherwise only its mask has classes."""


class MaterialReader:
    """Reads one material, and collects all errors instead of raising the first one.

    Args:
        name: The id of the material, for the findings.
        files: Some of ``PARTS``, at least a diffuse and a normal.
        size: Maximum of the longer side in pixels.
    """

    def __init__(self, name: str, files: Mapping[str, Path], *, size: int) -> None:
        self.findings: list[Finding] = []
        self._name, self._files, self._size = name, files, size
        self._seams: list[float] = []

    def maps(self) -> dict[str, Stored] | None:
        """Return the stored maps, or None if an error was found.

        All maps get the size of the smallest picture, so that none is enlarged; pictures of one colour do
        not count.
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
        if self._errors() or not self._check_pictures(pixels):
            return None
        target = self._target(pixels)
        if target is None:
            return None
        stored: dict[str, Stored] = {}
        for name, picture in pixels.items():
            try:
                stored[name] = pictures.to_stored(picture, MAPS[name], size=target, convention="directx")
            except DataError as error:
                self._add(name, "channels", f"{self._name}: {name} {error}")
        return None if self._errors() else {name: stored[name] for name in MAPS if name in stored}

    def tileable(self) -> bool:
        """Whether the material is tileable, measured at the borders of its pictures."""
        return pictures.is_tileable(self._seams)

    def label(self, maps: Mapping[str, Stored]) -> str | None:
        """Return the class of at least 99 % of the pixels of the mask, or None."""
        mask = maps.get(MASK.name)
        if mask is None:
            return None
        counts = np.bincount(mask.ravel(), minlength=len(CLASSES))[: len(CLASSES)]
        return CLASSES[int(counts.argmax())] if counts.max() >= MIN_CLASS_SHARE * mask.size else None

    def _check_pictures(self, pixels: Mapping[str, Pixels]) -> bool:
        """Check the decoded pictures; returns False if an error was found."""
        self.findings += vector_findings(pixels["normal"], material=self._name, file=self._files["normal"])
        for name in SEAM_MAPS:
            if name in pixels:
                self._seams.append(pictures.seam_ratio(pixels[name], quantile=0.95))
        return not self._errors()

    def _target(self, pixels: Mapping[str, Pixels]) -> tuple[int, int] | None:
        """Return the height and width of all maps, or None if the pictures have different aspect ratios."""
        given = {name: picture.shape[:2] for name, picture in pixels.items()}
        sizes = {name: given[name] for name, picture in pixels.items() if not _is_plain(picture)} or given
        listing = "; ".join(
            f"{width}x{height} {', '.join(name for name, size in sizes.items() if size == (height, width))}"
            for height, width in dict.fromkeys(sizes.values())
        )
        ratios = [math.log(height / width) for height, width in sizes.values()]
        if max(ratios) - min(ratios) > MAX_ASPECT_DIFFERENCE:
            message = (
                f"{self._name}: got different aspect ratios: {listing}; expected one. Crop the pictures."
            )
            self._add("", "size", message)
            return None
        smallest = min(h for h, _ in sizes.values()), min(w for _, w in sizes.values())
        if any(size != smallest for size in sizes.values()):
            message = f"got different sizes ({listing}): reduced to {smallest[1]}x{smallest[0]}"
            self.findings.append(Finding(self._name, "", "size", "note", message))
        return pictures.limit_size(smallest, max_side=self._size)

    def _errors(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)

    def _add(self, name: str, check: str, message: str) -> None:
        self.findings.append(Finding(self._name, name, check, "error", message))


def _channels(part: str, path: Path) -> tuple[dict[str, Pixels], tuple[str, ...]]:
    """Decode a file, and return its pictures ``(H, W, C)`` by map, and notes on its metadata.

    Raises:
        DataError: The file cannot be decoded, or has other channels than the part.
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
        raise DataError(
            f"{path}: got two channels (BC5), as a normal map has; expected {part}. Check the file names."
        )
    if part == "rmaos":
        if num_channels == 1:
            raise DataError(
                f"{path}: got one channel (BC4); expected roughness, metallic, occlusion. Convert it again."
            )
        split = {name: pixels[..., slot.channel : slot.channel + 1] for name, slot in PACKED.items()}
        return split, texture.notes
    return {part: pixels if num_channels == 1 else pixels[..., :3]}, texture.notes


def _normal_and_gloss(pixels: Pixels, path: Path) -> dict[str, Pixels]:
    """Split a normal map into the normal, with 0 for a missing Z, and the gloss if its alpha has one."""
    try:
        found = split_normal(pixels)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    z = np.zeros_like(found.xy[..., :1]) if found.z is None else found.z
    normal = np.concatenate((found.xy, z), axis=-1)
    return {"normal": normal} | ({} if found.gloss is None else {"gloss": found.gloss})


def _is_plain(pixels: Pixels) -> bool:
    return bool((pixels == pixels[:1, :1]).all())
