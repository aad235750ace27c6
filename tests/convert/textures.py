"""Small DDS files and texture trees for the tests of conversion."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pbrlib.inference.chain import TextureInput
from pbrlib.textures.blocks import Bytes, encode_dds
from pbrlib.textures.layouts import Block, num_mip_levels


def picture(height: int = 16, width: int = 16, *, alpha: int = 255, seed: int = 0) -> Bytes:
    """A smooth, tileable RGBA picture."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [
        np.sin(2 * np.pi * (x / width + shift)) * np.cos(2 * np.pi * y / height) for shift in (0, 0.1, 0.2)
    ]
    colours = np.stack(waves, axis=-1) * 60 + 128 + seed
    pixels = np.concatenate((colours, np.full((height, width, 1), alpha)), axis=-1)
    return np.rint(pixels).astype(np.uint8)


def normal(height: int = 16, width: int = 16, *, gloss: int = 100) -> Bytes:
    """A flat DirectX normal with a slope that looks down (positive green in DirectX) in its lower half."""
    pixels = np.full((height, width, 4), (128, 128, 255, gloss), np.uint8)
    pixels[height // 2 :, :, 1:3] = (218, 218)
    return pixels


def dds(pixels: Bytes, *, block: Block = Block.BC7, srgb: bool = False) -> bytes:
    """Return a DDS file whose smaller mips are crops; only the largest level is valid."""
    height, width = pixels.shape[:2]
    levels = [
        pixels[: max(height >> level, 1), : max(width >> level, 1)]
        for level in range(num_mip_levels(width, height))
    ]
    return encode_dds(levels, block=block, srgb=srgb)


def save_pair(root: Path, name: str, *, size: int = 16, alpha: int = 255) -> None:
    """Write ``<name>.dds`` and ``<name>_n.dds`` to a folder."""
    path = root / f"{name}.dds"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dds(picture(size, size, alpha=alpha), srgb=True))
    (root / f"{name}_n.dds").write_bytes(dds(normal(size, size)))


def save_png(path: Path, pixels: Bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


class FakeNetworks:
    """Networks that return simple functions of the input and record the inputs."""

    roles = ("albedo", "roughness", "metallic", "ao", "height", "segmentation")

    def __init__(self) -> None:
        self.seen: list[TextureInput] = []

    def predict(self, texture: TextureInput) -> dict[str, Tensor]:
        self.seen.append(texture)
        grey = texture.diffuse.mean(dim=0, keepdim=True)
        return {
            "albedo": texture.diffuse,
            "roughness": torch.full_like(grey, 0.5),
            "metallic": torch.zeros_like(grey),
            "ao": torch.ones_like(grey),
            "height": grey,
            "segmentation": torch.full_like(grey, 1 / 7).expand(7, -1, -1),
        }
