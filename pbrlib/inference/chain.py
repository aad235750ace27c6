"""The chain of trained networks: segmentation, then albedo, then the maps.

Training of the map networks uses its first half (``condition``, ``albedo_of``); evaluation and conversion
run the whole chain over whole textures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.geometry import relief as relief_of
from pbrlib.inference.padding import mirror_signs, pad_to_stride
from pbrlib.inference.trained import trained_in
from pbrlib.models.inputs import colour_input, gloss_input, map_input
from pbrlib.models.network import Network
from pbrlib.models.roles import MapDeclaration, SegmentationDeclaration

MARGIN = 64
"""Pixels of context around a whole texture, padded by tiling or mirroring."""


@dataclass(frozen=True)
class TextureInput:
    """An old texture as input of the chain.

    ``diffuse`` (3, H, W) sRGB in [0, 1]; ``normal`` (3, H, W) unit length, OpenGL; ``gloss`` (1, H, W) in
    [0, 1] or None; ``tileable``: whether opposite borders match.
    """

    diffuse: Float[Tensor, "3 h w"]
    normal: Float[Tensor, "3 h w"]
    gloss: Float[Tensor, "1 h w"] | None
    tileable: bool


@dataclass(frozen=True)
class Condition:
    """The segmentation's class probabilities (N, K, H, W) and features (N, F, h, w)."""

    probabilities: Tensor
    features: Tensor


@dataclass(frozen=True)
class Chain:
    """The trained networks, frozen. ``maps`` holds the available map networks by role.

    ``merge`` maps each class that the segmentation never predicts to the class that replaces it.
    """

    segmentation: Network
    albedo: Network | None
    maps: Mapping[str, tuple[MapDeclaration, Network]]
    device: torch.device
    merge: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, *, device: torch.device) -> Chain:
        """Open a model folder, or the best checkpoint of every finished curriculum in a runs directory.

        Raises CheckpointError, see `pbrlib.inference.trained.trained_in`.
        """
        segmentation: Network | None = None
        albedo: Network | None = None
        merge: Mapping[str, str] = {}
        maps: dict[str, tuple[MapDeclaration, Network]] = {}
        for trained in trained_in(folder):
            declared, network = trained.open(device=device)
            match declared:
                case SegmentationDeclaration():
                    segmentation, merge = network, declared.merge or {}
                case MapDeclaration(role="albedo"):
                    albedo = network
                case MapDeclaration():
                    maps[declared.role] = (declared, network)
                case _:
                    assert_never(declared)
        assert segmentation is not None
        return cls(segmentation, albedo, maps, device, merge)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the networks, in the order in which they run."""
        return ("segmentation", *(("albedo",) if self.albedo else ()), *self.maps)

    @property
    def stride(self) -> int:
        """The least common multiple of the networks' strides, to which sides are padded."""
        others = [network for _, network in self.maps.values()] + ([self.albedo] if self.albedo else [])
        return math.lcm(self.segmentation.stride, *(network.stride for network in others))

    def condition(self, colour: Float[Tensor, "n 3 h w"], normal: Float[Tensor, "n 3 h w"]) -> Condition:
        """Compute class probabilities and features from sRGB colour in [0, 1] and OpenGL normal."""
        output = self.segmentation(colour_input(colour, normal))
        return Condition(probabilities=output.logits.float().softmax(dim=1), features=output.features)

    def albedo_of(
        self, diffuse: Float[Tensor, "n 3 h w"], normal: Float[Tensor, "n 3 h w"], condition: Condition
    ) -> Float[Tensor, "n 3 h w"]:
        """Predict the albedo, sRGB in [0, 1]."""
        assert self.albedo is not None
        answer = self.albedo(colour_input(diffuse, normal), condition.features)
        return answer.logits.float().sigmoid()

    def map_of(
        self,
        role: str,
        *,
        albedo: Tensor | None,
        normal: Tensor,
        relief: Tensor,
        gloss: Tensor,
        condition: Condition,
    ) -> Float[Tensor, "n 1 h w"]:
        """Predict one map in [0, 1]; ``gloss`` (N, 2, H, W) comes from `gloss_input`."""
        spec, network = self.maps[role]
        given = {
            "colour": albedo,
            "normal": normal,
            "classes": condition.probabilities,
            "relief": relief,
            "gloss": gloss,
        }
        answer = network(map_input(spec, given), condition.features)
        return answer.logits.float().sigmoid()

    @torch.no_grad()
    def predict(self, texture: TextureInput) -> dict[str, Tensor]:
        """Predict every map of a whole texture at its size: albedo, maps, segmentation and relief.

        Albedo (3, H, W) sRGB and the scalar maps (1, H, W) in [0, 1]; segmentation (K, H, W) probabilities;
        relief (2, H, W) in [-1, 1], the inputs of height and AO.
        """
        diffuse, normal = texture.diffuse[None].to(self.device), texture.normal[None].to(self.device)
        relief = relief_of(normal, tileable=texture.tileable)
        gloss = torch.zeros_like(diffuse[:, :1]) if texture.gloss is None else texture.gloss[None]
        gloss = gloss_input(gloss.to(self.device), shown=torch.tensor([texture.gloss is not None]))
        height, width = diffuse.shape[-2:]
        stack = pad_to_stride(
            torch.cat([diffuse, normal, relief, gloss], dim=1),
            stride=self.stride,
            margin=MARGIN,
            tileable=texture.tileable,
        )
        diffuse, normal, relief, gloss = torch.split(stack, [3, 3, 2, 2], dim=1)
        if not texture.tileable:
            normal = mirrored_normal(normal, height=height, width=width, stride=self.stride)
        condition = self.condition(diffuse, normal)
        answers = {"segmentation": condition.probabilities, "relief": relief}
        albedo = self.albedo_of(diffuse, normal, condition) if self.albedo else None
        if albedo is not None:
            answers["albedo"] = albedo
        for role in self.maps:
            answers[role] = self.map_of(
                role, albedo=albedo, normal=normal, relief=relief, gloss=gloss, condition=condition
            )
        return {
            name: x[0, :, MARGIN : MARGIN + height, MARGIN : MARGIN + width] for name, x in answers.items()
        }


def mirrored_normal(
    normal: Float[Tensor, "n 3 p q"], *, height: int, width: int, stride: int
) -> Float[Tensor, "n 3 p q"]:
    """Flip the normals in mirrored padding, since mirroring reverses the direction of a slope."""
    sign_y = mirror_signs(height, stride=stride, margin=MARGIN)[:, None].expand(normal.shape[-2:])
    sign_x = mirror_signs(width, stride=stride, margin=MARGIN).expand(normal.shape[-2:])
    return normal * torch.stack([sign_x, sign_y, torch.ones_like(sign_x)]).to(normal.device)
