"""Converts the pixels of a texture pair to network inputs, and network outputs to stored pixels.

Only this module converts Skyrim's DirectX normals to OpenGL and back.
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
"""Sides of written textures are multiples of this, the side of a block of the compressions."""

Specular: TypeAlias = float | Literal["gloss"]
"""The alpha of RMAOS: a share in [0, 1] of the specular level, or the gloss of the old normal."""

_MIN_JUDGED_SIDE = 8
"""Minimum side in pixels of a normal whose green convention is judged."""

_JUDGED_SIDE = 512
"""Side in pixels of the central crop that the green convention is judged by.

A larger crop takes seconds and does not change the result.
"""


@dataclass(frozen=True)
class PreparedPair:
    """A pair ready for the networks.

    Attributes:
        texture: The inputs of the networks.
        alpha: Alpha (1, H, W) of the diffuse in [0, 1].
        seam: Seam ratio of the diffuse before resizing.
        notes: Changes that were made to the pair.
    """

    texture: TextureInput
    alpha: Tensor
    seam: SeamRatio
    notes: tuple[str, ...]


def prepare_pair(diffuse: Bytes, normal: Bytes) -> PreparedPair:
    """Resize a decoded pair to a common size and convert it to the conventions of the networks.

    Args:
        diffuse: ``(H, W, C)`` sRGB, C = 4 with alpha or 1 (grey).
        normal: ``(H, W, C)`` DirectX, with the channels of `pbrlib.textures.normalpixels.split_normal`.

    Raises:
        DataError: The diffuse has two channels, or the normal is no tangent-space normal map.
    """
    if diffuse.shape[-1] == 2:
        raise DataError("the diffuse: got two channels (BC5), the format of a normal. Check the file names.")
    notes: list[str] = []
    if diffuse.shape[-1] == 1:
        notes.append("grey diffuse")
        diffuse = np.concatenate((np.repeat(diffuse, 3, axis=-1), np.full_like(diffuse, 255)), axis=-1)
    colour = _to_unit_tensor(diffuse)
    try:
        found = split_normal(normal)
    except DataError as error:
        raise DataError(f"the normal: {error}") from error
    notes += [f"normal: {note}" for note in found.notes]
    vectors, gloss = _decode_normals(found), None if found.gloss is None else _to_unit_tensor(found.gloss)
    size = block_size(colour.shape[-2:])
    if size != tuple(colour.shape[-2:]):
        notes.append(f"{_describe_size(colour)} px resized to {size[1]} x {size[0]}, multiples of {BLOCK}")
    if vectors.shape[-2:] != colour.shape[-2:]:
        notes.append(f"normal of {_describe_size(vectors)} px resized to the size of the diffuse")
    if gloss is None:
        notes.append("no gloss in the normal's alpha")
    if _looks_opengl(vectors):
        notes.append(
            "the normal looks like OpenGL (Y up), but was read as DirectX (Y down), as the game reads it"
        )
    seam = seam_over_mean(colour[0, :3])
    colour, vectors = _resize(colour, size), F.normalize(_resize(vectors, size), dim=1)
    texture = TextureInput(
        diffuse=colour[0, :3],
        normal=vectors[0],
        gloss=None if gloss is None else _resize(gloss, size)[0],
        tileable=seam.is_tileable,
    )
    return PreparedPair(texture=texture, alpha=colour[0, 3:], seam=seam, notes=tuple(notes))


def prepare_glow(glow: Bytes) -> Bytes:
    """Return the colours ``(H, W, 3)`` of a decoded glow map, resized to multiples of a block.

    Raises:
        DataError: The glow map has two channels.
    """
    if glow.shape[-1] == 2:
        raise DataError(
            "the glow map: got two channels (BC5), the format of a normal; expected colours. Check its name."
        )
    colour = glow[..., :3] if glow.shape[-1] >= 3 else np.repeat(glow, 3, axis=-1)
    size = block_size(colour.shape[:2])
    if size == colour.shape[:2]:
        return np.ascontiguousarray(colour)
    return _to_bytes(DIFFUSE, _resize(_to_unit_tensor(colour), size)[0])


def block_size(size: Sequence[int]) -> tuple[int, ...]:
    """Return a size with the sides rounded up to multiples of a block."""
    return tuple(-(-side // BLOCK) * BLOCK for side in size)


def require_maps(names: Collection[str], *, place: str) -> None:
    """Raise CheckpointError if ``names`` lacks a map that True PBR needs; the message begins with ``place``.

    Other names are ignored.
    """
    missing = [name for name in TRUE_PBR if name not in names]
    if missing:
        raise CheckpointError(
            f"{place}: no trained network for {', '.join(missing)}, which True PBR needs "
            f"(found: {', '.join(sorted(names))}). Train those curricula into the same runs directory first."
        )


def encode_maps(prepared: PreparedPair, maps: Mapping[str, Tensor], *, specular: Specular = 1.0) -> PbrMaps:
    """Quantise predicted maps and the original normal to the bytes that are written.

    Args:
        prepared: The old texture.
        maps: Predicted maps (C, H, W) in [0, 1].
        specular: The content of the alpha of RMAOS.

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
            raise DataError(
                f"{name}: got predictions that are not finite. Check the training of its network."
            )
    return PbrMaps(
        normal=_to_bytes(NORMAL, directx),
        specular=_specular_plane(prepared, specular),
        **{name: _to_bytes(MAPS[name], x) for name, x in predicted.items()},
    )


def _specular_plane(prepared: PreparedPair, specular: Specular) -> Bytes | None:
    """Return the alpha plane ``(H, W, 1)`` of RMAOS; None if it is 255 everywhere."""
    if specular == "gloss":
        gloss = prepared.texture.gloss
        return None if gloss is None else _to_bytes(GLOSS, gloss)
    size = prepared.texture.diffuse.shape[-2:]
    return None if specular == 1.0 else _to_bytes(GLOSS, torch.full((1, *size), specular))


def _to_tensor(pixels: Bytes) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))[None])


def _to_unit_tensor(pixels: Bytes) -> Tensor:
    return _to_tensor(pixels).float() / 255.0


def _decode_normals(found: NormalPixels) -> Tensor:
    """Return OpenGL unit normals (1, 3, H, W)."""
    if found.z is not None:
        return flip_green(NORMAL.decode(_to_tensor(np.concatenate((found.xy, found.z), axis=-1))))
    flat = _to_tensor(found.xy).float() * (2.0 / 255.0) - 1.0
    z = (1.0 - flat.square().sum(dim=1, keepdim=True)).clamp_min(0.0).sqrt()
    return flip_green(F.normalize(torch.cat((flat, z), dim=1), dim=1))


def _looks_opengl(vectors: Tensor) -> bool:
    """Return whether the curl indicates the other sign of green; very small normals are not judged."""
    middle = _crop_middle(vectors)
    return (
        min(middle.shape[-2:]) >= _MIN_JUDGED_SIDE
        and green_channel_verdict(middle, tileable=False) == "directx"
    )


def _crop_middle(x: Tensor) -> Tensor:
    height, width = (min(side, _JUDGED_SIDE) for side in x.shape[-2:])
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


def _resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[-2:]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)


def _describe_size(x: Tensor) -> str:
    return f"{x.shape[-1]} x {x.shape[-2]}"


def _to_bytes(kind: MapType, x: Tensor) -> Bytes:
    stored = kind.quantise(x.detach().float().cpu().permute(1, 2, 0).numpy())
    if stored.dtype == np.uint16:
        stored = np.rint(stored / 257.0)
    return np.ascontiguousarray(stored, dtype=np.uint8)
