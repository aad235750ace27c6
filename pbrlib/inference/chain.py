"""The chain of trained networks: segmentation, then albedo, then the maps.

Training of the later families uses its first half (``condition``, ``albedo_of``); evaluation and conversion
run all of it over whole textures.
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
"""Pixels of context around a whole texture: the border sees what a tile or a mirror would show."""


@dataclass(frozen=True)
class TextureInput:
    """An old texture as the chain reads it.

    ``diffuse`` (3, H, W) sRGB in [0, 1]; ``normal`` (3, H, W) unit length, OpenGL; ``gloss`` (1, H, W) in
    [0, 1] or None; ``tileable``: whether it wraps.
    """

    diffuse: Float[Tensor, "3 h w"]
    normal: Float[Tensor, "3 h w"]
    gloss: Float[Tensor, "1 h w"] | None
    tileable: bool


@dataclass(frozen=True)
class Condition:
    """What the segmentation says: class probabilities (N, K, H, W) and features (N, F, h, w)."""

    probabilities: Tensor
    features: Tensor


@dataclass(frozen=True)
class Chain:
    """Trained networks, frozen. ``maps`` holds those that were trained, by role.

    ``merge`` names the classes that the segmentation never answers, and those that stand for them.
    """

    segmentation: Network
    albedo: Network | None
    maps: Mapping[str, tuple[MapDeclaration, Network]]
    device: torch.device
    merge: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, *, device: torch.device) -> Chain:
        """The networks of a model folder, or the best of every finished curriculum in a runs directory.

        Raises CheckpointError for what `pbrlib.inference.trained.trained_in` refuses.
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
        """What the networks answer, in the order in which they run."""
        return ("segmentation", *(("albedo",) if self.albedo else ()), *self.maps)

    @property
    def stride(self) -> int:
        """The multiple that sides are padded to: every network's stride divides it."""
        others = [network for _, network in self.maps.values()] + ([self.albedo] if self.albedo else [])
        return math.lcm(self.segmentation.stride, *(network.stride for network in others))

    def condition(self, colour: Float[Tensor, "n 3 h w"], normal: Float[Tensor, "n 3 h w"]) -> Condition:
        """Class probabilities and conditioning features of sRGB colour in [0, 1] and OpenGL normal."""
        output = self.segmentation(colour_input(colour, normal))
        return Condition(probabilities=output.logits.float().softmax(dim=1), features=output.features)

    def albedo_of(
        self, diffuse: Float[Tensor, "n 3 h w"], normal: Float[Tensor, "n 3 h w"], condition: Condition
    ) -> Float[Tensor, "n 3 h w"]:
        """The predicted albedo, sRGB in [0, 1]."""
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
        """One predicted map in [0, 1]; ``gloss`` (N, 2, H, W) as `gloss_input` gives it."""
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
        """Every map of a whole texture, at its size: albedo, the trained maps, segmentation, relief.

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
    """Turns the normals of a mirrored border: a mirror image of a slope slopes the other way."""
    sign_y = mirror_signs(height, stride=stride, margin=MARGIN)[:, None].expand(normal.shape[-2:])
    sign_x = mirror_signs(width, stride=stride, margin=MARGIN).expand(normal.shape[-2:])
    return normal * torch.stack([sign_x, sign_y, torch.ones_like(sign_x)]).to(normal.device)
