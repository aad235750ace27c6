"""The chain of trained networks: segmentation, then albedo, then the maps.

Training of the later families uses its first half (``condition``, ``albedo_of``); evaluation and conversion
run all of it over whole textures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pbrlib.errors import CheckpointError
from pbrlib.geometry import relief as relief_of
from pbrlib.inference.networks import (
    MapNetwork,
    SegmentationNetwork,
    colour_input,
    gloss_input,
    map_input,
    open_network,
)
from pbrlib.inference.padding import mirror_signs, pad_to_stride
from pbrlib.maps import SCALAR_TARGETS
from pbrlib.models.segformer import Segformer
from pbrlib.models.unet import UNet
from pbrlib.train.runs import RECORD, RunDirectory
from pbrlib.train.state import read_state

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

    segformer: Segformer
    albedo: UNet | None
    maps: Mapping[str, tuple[MapNetwork, UNet]]
    device: torch.device
    merge: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, runs: Path, *, device: torch.device) -> Chain:
        """The best networks of every finished curriculum in a runs directory.

        Raises CheckpointError when there is no segmentation or no albedo among them, or two for one role.
        """
        found: dict[str, tuple[str, SegmentationNetwork | MapNetwork, nn.Module]] = {}
        folders: list[Path] = []
        for record in sorted(runs.glob(f"*/{RECORD}")):
            folder, _ = RunDirectory(runs, name=record.parent.name).best()
            folders.append(folder)
            spec, network = open_network(folder, device=device)
            if spec.role in found:
                raise CheckpointError(
                    f"{runs}: both {found[spec.role][0]} and {record.parent.name} hold a network for "
                    f"{spec.role}. Move one of them to another runs directory."
                )
            found[spec.role] = (record.parent.name, spec, network)
        missing = [role for role in ("segmentation", "albedo") if role not in found]
        if missing:
            raise CheckpointError(
                f"{runs}: no trained network for {' and '.join(missing)} "
                f"(found: {', '.join(found) or 'none'}). Train those families into this directory first, "
                "or name the directory given to pbr train --runs."
            )
        _check_lineage(folders)
        segformer, albedo = found["segmentation"][2], found["albedo"][2]
        assert isinstance(segformer, Segformer)
        assert isinstance(albedo, UNet)
        maps = {
            role: (spec, network)
            for role, (_, spec, network) in found.items()
            if isinstance(spec, MapNetwork) and isinstance(network, UNet) and role in SCALAR_TARGETS
        }
        declared = found["segmentation"][1]
        merge = (declared.merge or {}) if isinstance(declared, SegmentationNetwork) else {}
        return cls(segformer, albedo, maps, device, merge)

    @property
    def stride(self) -> int:
        """The multiple that sides are padded to: every network's stride divides it."""
        unets = [network for _, network in self.maps.values()] + ([self.albedo] if self.albedo else [])
        return max([self.segformer.stride, *(network.stride for network in unets)])

    def condition(self, colour: Float[Tensor, "n 3 h w"], normal: Float[Tensor, "n 3 h w"]) -> Condition:
        """Class probabilities and conditioning features of sRGB colour in [0, 1] and OpenGL normal."""
        output = self.segformer(colour_input(colour, normal))
        return Condition(probabilities=output.logits.float().softmax(dim=1), features=output.features)

    def albedo_of(
        self, diffuse: Float[Tensor, "n 3 h w"], normal: Float[Tensor, "n 3 h w"], condition: Condition
    ) -> Float[Tensor, "n 3 h w"]:
        """The predicted albedo, sRGB in [0, 1]."""
        assert self.albedo is not None
        logits: Tensor = self.albedo(colour_input(diffuse, normal), condition.features)
        return logits.float().sigmoid()

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
        logits: Tensor = network(map_input(spec, given), condition.features)
        return logits.float().sigmoid()

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


def _check_lineage(folders: Sequence[Path]) -> None:
    """Raises CheckpointError when a network was trained behind others than those it would now run behind."""
    states = {folder: read_state(folder) for folder in folders}
    here = {state.fingerprint for state in states.values()}
    for folder, state in states.items():
        for role, fingerprint in state.frozen.items():
            if fingerprint not in here:
                raise CheckpointError(
                    f"{folder}: was trained behind another {role} ({fingerprint[:8]}) than the newest "
                    "here. Train it again, or keep that one's phase the last of its curriculum."
                )


def mirrored_normal(
    normal: Float[Tensor, "n 3 p q"], *, height: int, width: int, stride: int
) -> Float[Tensor, "n 3 p q"]:
    """Turns the normals of a mirrored border: a mirror image of a slope slopes the other way."""
    sign_y = mirror_signs(height, stride=stride, margin=MARGIN)[:, None].expand(normal.shape[-2:])
    sign_x = mirror_signs(width, stride=stride, margin=MARGIN).expand(normal.shape[-2:])
    return normal * torch.stack([sign_x, sign_y, torch.ones_like(sign_x)]).to(normal.device)
