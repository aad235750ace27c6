"""From the pixels of a texture pair to what the networks read, and back to the pixels that are stored.

The one place where Skyrim's DirectX normals become OpenGL, and OpenGL normals DirectX again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pbrlib.convert.seams import SeamRatio, seam_over_mean
from pbrlib.convert.truepbr import PbrMaps
from pbrlib.errors import CheckpointError, DataError
from pbrlib.geometry import flip_green, green_channel_verdict
from pbrlib.inference.chain import TextureInput
from pbrlib.maps import ALBEDO, MAPS, NORMAL, TRUE_PBR, MapType
from pbrlib.textures.blocks import Bytes, is_opaque

BLOCK = 4
"""Sides of what is written are multiples of the block of the compressions."""

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
        normal: ``(H, W, C)`` DirectX; C = 4 with gloss in alpha, or 2, where z follows from unit length.

    Raises:
        DataError: a diffuse with two channels or a normal with one.
    """
    if diffuse.shape[-1] == 2:
        raise DataError(
            "the diffuse has two channels (BC5), which is a normal's format. Check the file names."
        )
    if normal.shape[-1] == 1:
        raise DataError("the normal has one channel (BC4). Save it as BC5 or BC7.")
    notes: list[str] = []
    if diffuse.shape[-1] == 1:
        notes.append("grey diffuse")
        diffuse = np.concatenate((np.repeat(diffuse, 3, axis=-1), np.full_like(diffuse, 255)), axis=-1)
    colour = _planes(diffuse)
    vectors, gloss = _split_normal(_raw(normal))
    size = tuple(-(-side // BLOCK) * BLOCK for side in colour.shape[-2:])
    if size != tuple(colour.shape[-2:]):
        notes.append(f"{_size(colour)} px resized to {size[1]} x {size[0]}, multiples of {BLOCK}")
    if vectors.shape[-2:] != colour.shape[-2:]:
        notes.append(f"normal of {_size(vectors)} px resized to the diffuse")
    if gloss is None:
        notes.append("no gloss in the normal's alpha")
    if green_channel_verdict(_middle(vectors), tileable=False) == "directx":
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


def require_maps(names: Collection[str], *, place: str) -> None:
    """Raises CheckpointError, as of ``place``, when a map that True PBR needs is not among the names.

    What it does not need is no hindrance.
    """
    missing = [name for name in TRUE_PBR if name not in names]
    if missing:
        raise CheckpointError(
            f"{place}: no trained network for {', '.join(missing)}, which True PBR needs "
            f"(found: {', '.join(sorted(names))}). Train those families into the same runs directory first."
        )


def store(prepared: Prepared, maps: Mapping[str, Tensor]) -> PbrMaps:
    """Predicted maps (C, H, W) in [0, 1] and the original normal as the bytes that are written.

    Raises:
        CheckpointError: a map that True PBR needs was not predicted.
    """
    require_maps(maps, place="the prediction")
    directx = flip_green(prepared.texture.normal[None])[0]
    albedo = torch.cat((maps[ALBEDO.name].cpu(), prepared.alpha))
    predicted = {name: maps[name] for name in TRUE_PBR} | {ALBEDO.name: albedo}
    return PbrMaps(
        normal=_bytes(NORMAL, directx), **{name: _bytes(MAPS[name], x) for name, x in predicted.items()}
    )


def _raw(pixels: Bytes) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))[None])


def _planes(pixels: Bytes) -> Tensor:
    return _raw(pixels).float() / 255.0


def _split_normal(raw: Tensor) -> tuple[Tensor, Tensor | None]:
    """OpenGL unit normals (1, 3, H, W), and gloss (1, 1, H, W) unless none is stored."""
    if raw.shape[1] == 2:
        flat = raw.float() * (2.0 / 255.0) - 1.0
        z = (1.0 - flat.square().sum(dim=1, keepdim=True)).clamp_min(0.0).sqrt()
        return flip_green(F.normalize(torch.cat((flat, z), dim=1), dim=1)), None
    alpha = raw[:, 3:]
    gloss = None if is_opaque(alpha.numpy()) else alpha.float() / 255.0
    return flip_green(NORMAL.decode(raw[:, :3])), gloss


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
