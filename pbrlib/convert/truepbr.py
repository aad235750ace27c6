"""Writes a converted texture: the DDS files of True PBR and the JSON for the patcher.

Imports neither torch nor Ray, since it runs in child processes (block compression takes most of the time of a
conversion).
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
    encode_levels,
    mean_normals,
    mip_chain,
    normalise,
    roughness_chain,
    to_rgba_bytes,
)
from pbrlib.errors import DataError
from pbrlib.skyrim import GLOW_SUFFIX
from pbrlib.textures.blocks import Bytes, encode_dds, is_opaque
from pbrlib.textures.layouts import Block

TEXTURES = PurePosixPath("textures/PBR")
PATCHES = PurePosixPath("PBRNifPatcher")

SPECULAR_LEVEL = 0.04
"""Reflectance of dielectrics at normal incidence; the shader multiplies it by the alpha of RMAOS."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class PbrMaps:
    """The maps of one texture, all ``(H, W, C)`` uint8 with sides that are multiples of 4.

    Attributes:
        albedo: sRGB with the alpha of the old diffuse, C = 4.
        normal: DirectX (Y down), C = 3.
        roughness: Perceptual roughness, C = 1.
        metallic: C = 1.
        ao: Ambient occlusion, 255 = open, C = 1.
        height: 255 = highest, C = 1.
        specular: Share of ``SPECULAR_LEVEL``, C = 1; None means 255 everywhere.
        glow: sRGB of emitted light, C = 3; its size may differ from the other maps. None without emission.
    """

    albedo: Bytes
    normal: Bytes
    roughness: Bytes
    metallic: Bytes
    ao: Bytes
    height: Bytes
    specular: Bytes | None = None
    glow: Bytes | None = None


class DiskFullError(DataError):
    """The output folder cannot take more files, so all remaining textures would fail too."""


def write_texture(output: Path, name: PurePosixPath, stem: PurePosixPath, maps: PbrMaps) -> list[str]:
    """Write the DDS files and the JSON of a texture; files are renamed into place after all are written.

    Args:
        output: The folder of the mod.
        name: Path of the texture without suffixes, relative to the texture root.
        stem: Path of the diffuse without ``.dds``, by which meshes name it, relative to the texture root.
        maps: The maps to write.

    Returns:
        The paths of the written DDS files, relative to ``output``.

    Raises:
        DataError: A file cannot be written, for example without disk space or permission.
    """
    means = mean_normals(_unit_interval(maps.normal) * 2.0 - 1.0)
    encoded_maps = {
        "": _albedo_dds(maps),
        "_n": _normal_dds(maps, means),
        "_rmaos": _rmaos_dds(maps, means),
        "_p": _height_dds(maps),
    }
    if maps.glow is not None:
        encoded_maps[GLOW_SUFFIX] = _glow_dds(maps.glow)
    files = {TEXTURES / f"{name}{suffix}.dds": data for suffix, data in encoded_maps.items()}
    entries = json.dumps([patch_entry(name, stem, emissive=maps.glow is not None)], indent=2) + "\n"
    write_files_together(output, {**files, PATCHES / f"{name}.json": entries.encode()})
    return [path.as_posix() for path in files]


def _albedo_dds(maps: PbrMaps) -> bytes:
    block = Block.BC1 if is_opaque(maps.albedo[..., 3]) else Block.BC7
    levels = albedo_chain(maps.albedo)
    if block is Block.BC1:
        levels = [np.dstack((level[..., :3], np.full_like(level[..., 0], 255))) for level in levels]
    return encode_dds(levels, block=block, srgb=True)


def _unit_interval(pixels: Bytes) -> Floats:
    return pixels.astype(np.float32) / np.float32(255.0)


def _normal_dds(maps: PbrMaps, means: list[Floats]) -> bytes:
    below = encode_levels(means[1:], convert=lambda mean: normalise(mean) * 0.5 + 0.5)
    return encode_dds([to_rgba_bytes(_unit_interval(maps.normal)), *below], block=Block.BC7, srgb=False)


def _rmaos_dds(maps: PbrMaps, means: list[Floats]) -> bytes:
    roughness = roughness_chain(_unit_interval(maps.roughness), means)
    planes = (maps.metallic, maps.ao, *(() if maps.specular is None else (maps.specular,)))
    others = (mip_chain(_unit_interval(x)) for x in planes)
    packed = [np.concatenate(level, axis=-1) for level in zip(roughness, *others, strict=True)]
    return encode_dds(encode_levels(packed), block=Block.BC7, srgb=False)


def _height_dds(maps: PbrMaps) -> bytes:
    return encode_dds(encode_levels(mip_chain(_unit_interval(maps.height))), block=Block.BC4, srgb=False)


def _glow_dds(glow: Bytes) -> bytes:
    """Return a glow map as an sRGB DDS; BC7, since blocks of BC1 are visible around bright spots on black."""
    opaque = np.dstack((glow, np.full_like(glow[..., 0], 255)))
    return encode_dds(albedo_chain(opaque), block=Block.BC7, srgb=True)


def patch_entry(name: PurePosixPath, stem: PurePosixPath, *, emissive: bool = False) -> dict[str, Any]:
    r"""Return an object of a PBRNifPatcher file, with the keys that PGPatcher reads.

    Paths include folders (``architecture\stone``), since a bare file name would match in every folder. A
    diffuse whose name ends in ``_d`` is matched by that name and renamed to the written files.
    ``emissive`` makes the game read the glow map.
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
    """Return whether the JSON of a texture in a mod was written by ``write_texture``."""
    try:
        content = json.loads((output / PATCHES / f"{name}.json").read_bytes())
    except (OSError, ValueError):
        return False
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
        return False
    return set(content[0]) ^ set(patch_entry(name, name)) <= {"texture", "match_diffuse", "rename"}


def write_files_together(output: Path, files: Mapping[PurePosixPath, bytes]) -> None:
    """Write several files to temporary names and, after all are complete, rename them into place.

    After an error, the temporary files are removed.

    Raises:
        DiskFullError: The disk is full or read-only.
        DataError: A file cannot be written.
    """
    pending: list[tuple[Path, Path]] = []
    place = output
    try:
        for number, (relative, data) in enumerate(files.items()):
            place = output / relative
            _require_inside(place, output=output)
            place.parent.mkdir(parents=True, exist_ok=True)
            # The temporary name is short, since a long file name plus a suffix may exceed the name limit.
            temporary = place.with_name(f"{part_prefix(os.getppid())}{os.getpid()}.{number}.part")
            temporary.unlink(missing_ok=True)
            pending.append((temporary, place))
            with temporary.open("xb") as file:  # mode x does not follow an existing link
                file.write(data)
        for temporary, place in pending:
            temporary.replace(place)
    except OSError as error:
        for temporary, _ in pending:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        kind = DiskFullError if error.errno in _DISK_FULL else DataError
        raise kind(
            f"{place}: cannot be written ({error.strerror}). Free disk space, or choose another folder."
        ) from error


def _require_inside(place: Path, *, output: Path) -> None:
    """Raise DataError if a link or ``..`` leads a file out of the output folder."""
    folder = place.parent.resolve()
    if not folder.is_relative_to(output.resolve()):
        raise DataError(
            f"{place}: leads to {folder}; expected a folder inside of {output}. Remove the link, or choose "
            "another folder."
        )


def part_prefix(parent: int) -> str:
    """Return the prefix of temporary files that the child processes of ``parent`` write."""
    return f".pbr.{parent}."
