"""One converted texture on disk: the files of True PBR and the patcher's JSON.

Runs in disposable children (block compression takes most of a conversion's time), so it imports
neither torch nor Ray.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pbrlib.colour import Floats
from pbrlib.convert.mips import (
    albedo_chain,
    chain,
    encoded,
    mean_normals,
    rgba,
    roughness_chain,
    unit,
)
from pbrlib.errors import DataError
from pbrlib.skyrim import GLOW_SUFFIX
from pbrlib.textures.blocks import Bytes, encode_dds, is_opaque
from pbrlib.textures.layouts import Block

TEXTURES = PurePosixPath("textures/PBR")
PATCHES = PurePosixPath("PBRNifPatcher")

SPECULAR_LEVEL = 0.04
"""Reflectance of dielectrics at normal incidence, which an alpha of 255 of RMAOS stands for: the shader
multiplies both."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class PbrMaps:
    """The maps of one texture, all ``(H, W, C)`` uint8 with sides that are multiples of 4.

    Attributes:
        albedo: sRGB with the alpha of the old diffuse, C = 4.
        normal: DirectX (Y down), C = 3.
        roughness: perceptual roughness, C = 1.
        metallic: C = 1.
        ao: ambient occlusion, 255 = open, C = 1.
        height: 255 = highest, C = 1.
        specular: Share of ``SPECULAR_LEVEL``, C = 1; None is all of it.
        glow: sRGB of the light that the material gives off, C = 3, of any such size; None if it gives none.
    """

    albedo: Bytes
    normal: Bytes
    roughness: Bytes
    metallic: Bytes
    ao: Bytes
    height: Bytes
    specular: Bytes | None = None
    glow: Bytes | None = None


class NoRoomError(DataError):
    """The output takes no more files, so that every further texture would fail as well."""


def write_texture(output: Path, name: PurePosixPath, stem: PurePosixPath, maps: PbrMaps) -> list[str]:
    """Writes the DDS files and the JSON of a texture; they appear when all of them are written.

    Args:
        output: the folder of the mod.
        name: path of the texture without ending, relative to the texture root.
        stem: the same with the ending that meshes name the diffuse by.
        maps: what to write.

    Returns:
        The paths written, relative to ``output``.

    Raises:
        DataError: a file cannot be written (no space left, no permission).
    """
    means = mean_normals(_unit_interval(maps.normal) * 2.0 - 1.0)
    encoded_maps = {
        "": _albedo(maps),
        "_n": _normal(maps, means),
        "_rmaos": _rmaos(maps, means),
        "_p": _height(maps),
    }
    if maps.glow is not None:
        encoded_maps[GLOW_SUFFIX] = _glow(maps.glow)
    files = {TEXTURES / f"{name}{suffix}.dds": data for suffix, data in encoded_maps.items()}
    entries = json.dumps([patch_entry(name, stem, emissive=maps.glow is not None)], indent=2) + "\n"
    write_together(output, {**files, PATCHES / f"{name}.json": entries.encode()})
    return [path.as_posix() for path in files]


def _albedo(maps: PbrMaps) -> bytes:
    block = Block.BC1 if is_opaque(maps.albedo[..., 3]) else Block.BC7
    levels = albedo_chain(maps.albedo)
    if block is Block.BC1:
        levels = [np.dstack((level[..., :3], np.full_like(level[..., 0], 255))) for level in levels]
    return encode_dds(levels, block=block, srgb=True)


def _unit_interval(pixels: Bytes) -> Floats:
    return pixels.astype(np.float32) / np.float32(255.0)


def _normal(maps: PbrMaps, means: list[Floats]) -> bytes:
    below = encoded(means[1:], convert=lambda mean: unit(mean) * 0.5 + 0.5)
    return encode_dds([rgba(_unit_interval(maps.normal)), *below], block=Block.BC7, srgb=False)


def _rmaos(maps: PbrMaps, means: list[Floats]) -> bytes:
    roughness = roughness_chain(_unit_interval(maps.roughness), means)
    planes = (maps.metallic, maps.ao, *(() if maps.specular is None else (maps.specular,)))
    others = (chain(_unit_interval(x)) for x in planes)
    packed = [np.concatenate(level, axis=-1) for level in zip(roughness, *others, strict=True)]
    return encode_dds(encoded(packed), block=Block.BC7, srgb=False)


def _height(maps: PbrMaps) -> bytes:
    return encode_dds(encoded(chain(_unit_interval(maps.height))), block=Block.BC4, srgb=False)


def _glow(glow: Bytes) -> bytes:
    """Glow as sRGB, which True PBR samples; BC7, since bright spots on black show every block of BC1."""
    opaque = np.dstack((glow, np.full_like(glow[..., 0], 255)))
    return encode_dds(albedo_chain(opaque), block=Block.BC7, srgb=True)


def patch_entry(name: PurePosixPath, stem: PurePosixPath, *, emissive: bool = False) -> dict[str, Any]:
    r"""One object of a PBRNifPatcher file, with the keys that PGPatcher reads.

    Paths are whole (``architecture\stone``), since a bare file name would match in every folder. A
    diffuse whose name ends in ``_d`` is matched by that name and renamed to the files we write.
    ``emissive`` makes the game read the glow map beside them.
    """
    path, diffuse = ("\\".join(p.parts) for p in (name, stem))
    match = {"texture": path} if path == diffuse else {"match_diffuse": diffuse, "rename": path}
    return {
        **match,
        "pbr": True,
        "emissive": emissive,
        "parallax": True,
        "specular_level": SPECULAR_LEVEL,
        "roughness_scale": 1.0,
        "displacement_scale": 1.0,
        "subsurface_foliage": False,
        "subsurface": False,
        "subsurface_color": [1.0, 1.0, 1.0],
        "subsurface_opacity": 1.0,
    }


def is_written_here(output: Path, name: PurePosixPath) -> bool:
    """Whether the JSON of a texture in a mod is one that ``write_texture`` writes."""
    try:
        content = json.loads((output / PATCHES / f"{name}.json").read_bytes())
    except (OSError, ValueError):
        return False
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
        return False
    return set(content[0]) ^ set(patch_entry(name, name)) <= {"texture", "match_diffuse", "rename"}


def write_together(output: Path, files: Mapping[PurePosixPath, bytes]) -> None:
    """Writes several files beside their places and, once all are whole, renames them.

    Raises:
        NoRoomError: The disk is full or cannot be written at all; nothing of this call is left behind.
        DataError: One cannot be written; nothing of this call is left behind.
    """
    waiting: list[tuple[Path, Path]] = []
    place = output
    try:
        for number, (relative, data) in enumerate(files.items()):
            place = output / relative
            _refuse_way_out(place, output=output)
            place.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own: with that of the file in it, a long one would pass the limit of the disk.
            beside = place.with_name(f"{part_prefix(os.getppid())}{os.getpid()}.{number}.part")
            beside.unlink(missing_ok=True)
            waiting.append((beside, place))
            with beside.open("xb") as file:  # a link that lies there is not followed
                file.write(data)
        for beside, place in waiting:
            beside.replace(place)
    except OSError as error:
        for beside, _ in waiting:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        kind = NoRoomError if error.errno in _NO_ROOM else DataError
        raise kind(
            f"{place}: cannot be written ({error.strerror}). Make room or choose another folder."
        ) from error


def _refuse_way_out(place: Path, *, output: Path) -> None:
    """Raises DataError for a file whose folder, by a link or by ``..``, does not lie in the output."""
    folder = place.parent.resolve()
    if not folder.is_relative_to(output.resolve()):
        raise DataError(
            f"{place}: leads to {folder}; expected a folder inside of {output}. Remove the link, or choose "
            "another folder."
        )


def part_prefix(parent: int) -> str:
    """How the unfinished files begin that the children of a process write."""
    return f".pbr.{parent}."
