"""From the pixels of a texture pair to what the networks read, and back to the pixels that are stored.

The one place where Skyrim's DirectX normals become OpenGL, and OpenGL normals DirectX again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pbrlib.convert.seams import SeamRatio, seam_over_mean
from pbrlib.convert.truepbr import PbrMaps
from pbrlib.errors import CheckpointError, DataError
from pbrlib.geometry import flip_green, green_channel_verdict
from pbrlib.inference.chain import TextureInput
from pbrlib.maps import ALBEDO, DIFFUSE, GLOSS, MAPS, NORMAL, TRUE_PBR, MapType
from pbrlib.textures.blocks import Bytes
from pbrlib.textures.normalpixels import NormalPixels, split_normal

BLOCK = 4
"""Sides of what is written are multiples of the block of the compressions."""

Specular: TypeAlias = float | Literal["gloss"]
"""Alpha of RMAOS: a share in [0, 1] of the specular level, or the gloss of the old normal."""

_LEAST = 8
"""Pixels of a side below which a normal is not judged."""

_LOOKED_AT = 512
"""Pixels of the middle by which the green channel is judged; whole textures say no more and cost seconds."""


@dataclass(frozen=True)
class Prepared:
    """A pair ready for the networks.

    ``alpha`` (1, H, W) of the diffuse in [0, 1]; ``seam`` of the diffuse as it came; ``notes`` say what was
    done to it.
    """

    texture: TextureInput
    alpha: Tensor
    seam: SeamRatio
    notes: tuple[str, ...]


def prepare(diffuse: Bytes, normal: Bytes) -> Prepared:
    """Brings a decoded pair to one size and to our conventions.

    Args:
        diffuse: ``(H, W, C)`` sRGB, C = 4 with alpha or 1 (grey).
        normal: ``(H, W, C)`` DirectX, as `pbrlib.textures.normalpixels.split_normal` takes it.

    Raises:
        DataError: A diffuse with two channels, or a normal that is none.
    """
    if diffuse.shape[-1] == 2:
        raise DataError(
            "the diffuse has two channels (BC5), which is a normal's format. Check the file names."
        )
    notes: list[str] = []
    if diffuse.shape[-1] == 1:
        notes.append("grey diffuse")
        diffuse = np.concatenate((np.repeat(diffuse, 3, axis=-1), np.full_like(diffuse, 255)), axis=-1)
    colour = _planes(diffuse)
    try:
        found = split_normal(normal)
    except DataError as error:
        raise DataError(f"the normal: {error}") from error
    notes += [f"normal: {note}" for note in found.notes]
    vectors, gloss = _vectors(found), None if found.gloss is None else _planes(found.gloss)
    size = block_size(colour.shape[-2:])
    if size != tuple(colour.shape[-2:]):
        notes.append(f"{_size(colour)} px resized to {size[1]} x {size[0]}, multiples of {BLOCK}")
    if vectors.shape[-2:] != colour.shape[-2:]:
        notes.append(f"normal of {_size(vectors)} px resized to the diffuse")
    if gloss is None:
        notes.append("no gloss in the normal's alpha")
    if _looks_opengl(vectors):
        notes.append("the normal looks like OpenGL (Y up), but was read as DirectX, as the game does")
    seam = seam_over_mean(colour[0, :3])
    colour, vectors = _resized(colour, size), F.normalize(_resized(vectors, size), dim=1)
    texture = TextureInput(
        diffuse=colour[0, :3],
        normal=vectors[0],
        gloss=None if gloss is None else _resized(gloss, size)[0],
        tileable=seam.tiles,
    )
    return Prepared(texture=texture, alpha=colour[0, 3:], seam=seam, notes=tuple(notes))


def prepare_glow(glow: Bytes) -> Bytes:
    """The colours ``(H, W, 3)`` of a decoded glow map, its sides multiples of a block.

    Raises:
        DataError: It has two channels.
    """
    if glow.shape[-1] == 2:
        raise DataError("the glow map has two channels (BC5), which is a normal's format.")
    colour = glow[..., :3] if glow.shape[-1] >= 3 else np.repeat(glow, 3, axis=-1)
    size = block_size(colour.shape[:2])
    if size == colour.shape[:2]:
        return np.ascontiguousarray(colour)
    return _bytes(DIFFUSE, _resized(_planes(colour), size)[0])


def block_size(size: Sequence[int]) -> tuple[int, ...]:
    """The sides rounded up to multiples of a block."""
    return tuple(-(-side // BLOCK) * BLOCK for side in size)


def require_maps(names: Collection[str], *, place: str) -> None:
    """Raises CheckpointError, as of ``place``, when a map that True PBR needs is not among the names.

    What it does not need is no hindrance.
    """
    missing = [name for name in TRUE_PBR if name not in names]
    if missing:
        raise CheckpointError(
            f"{place}: no trained network for {', '.join(missing)}, which True PBR needs "
            f"(found: {', '.join(sorted(names))}). Train those curricula into the same runs directory first."
        )


def store(prepared: Prepared, maps: Mapping[str, Tensor], *, specular: Specular = 1.0) -> PbrMaps:
    """Predicted maps (C, H, W) in [0, 1] and the original normal as the bytes that are written.

    Args:
        prepared: The old texture.
        maps: The prediction.
        specular: What the alpha of RMAOS holds.

    Raises:
        CheckpointError: A map that True PBR needs was not predicted.
        DataError: A prediction is not finite.
    """
    require_maps(maps, place="the prediction")
    directx = flip_green(prepared.texture.normal[None])[0]
    albedo = torch.cat((maps[ALBEDO.name].cpu(), prepared.alpha))
    predicted = {name: maps[name] for name in TRUE_PBR} | {ALBEDO.name: albedo}
    for name, x in predicted.items():
        if not x.isfinite().all():
            raise DataError(f"the network of {name} answers numbers that are not finite. Check its training.")
    return PbrMaps(
        normal=_bytes(NORMAL, directx),
        specular=_specular(prepared, specular),
        **{name: _bytes(MAPS[name], x) for name, x in predicted.items()},
    )


def _specular(prepared: Prepared, specular: Specular) -> Bytes | None:
    """The plane ``(H, W, 1)`` of the alpha of RMAOS; None where it is full everywhere."""
    if specular == "gloss":
        gloss = prepared.texture.gloss
        return None if gloss is None else _bytes(GLOSS, gloss)
    size = prepared.texture.diffuse.shape[-2:]
    return None if specular == 1.0 else _bytes(GLOSS, torch.full((1, *size), specular))


def _raw(pixels: Bytes) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))[None])


def _planes(pixels: Bytes) -> Tensor:
    return _raw(pixels).float() / 255.0


def _vectors(found: NormalPixels) -> Tensor:
    """OpenGL unit normals (1, 3, H, W)."""
    if found.z is not None:
        return flip_green(NORMAL.decode(_raw(np.concatenate((found.xy, found.z), axis=-1))))
    flat = _raw(found.xy).float() * (2.0 / 255.0) - 1.0
    z = (1.0 - flat.square().sum(dim=1, keepdim=True)).clamp_min(0.0).sqrt()
    return flip_green(F.normalize(torch.cat((flat, z), dim=1), dim=1))


def _looks_opengl(vectors: Tensor) -> bool:
    """Whether the curl says that the sign of green is the other one; a few pixels say nothing."""
    middle = _middle(vectors)
    return min(middle.shape[-2:]) >= _LEAST and green_channel_verdict(middle, tileable=False) == "directx"


def _middle(x: Tensor) -> Tensor:
    height, width = (min(side, _LOOKED_AT) for side in x.shape[-2:])
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[-2:]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)


def _size(x: Tensor) -> str:
    return f"{x.shape[-1]} x {x.shape[-2]}"


def _bytes(kind: MapType, x: Tensor) -> Bytes:
    stored = kind.quantise(x.detach().float().cpu().permute(1, 2, 0).numpy())
    if stored.dtype == np.uint16:
        stored = np.rint(stored / 257.0)
    return np.ascontiguousarray(stored, dtype=np.uint8)
