"""What can be learned, declared: one spec per kind of task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pbrlib.models.spec import SegformerSpec, UNetSpec
from pbrlib.spec import Spec


class SegmentationSpec(Spec):
    """A material class per pixel, from (diffuse or albedo) and normal.

    ``albedo_share`` is the probability that a training sample shows the albedo instead of the diffuse;
    validation shows the diffuse, since at conversion time only that exists.
    """

    kind: Literal["segmentation"] = "segmentation"
    model: SegformerSpec = SegformerSpec()
    albedo_share: float = Field(default=0.5, ge=0.0, le=1.0)


class AlbedoSpec(Spec):
    """Albedo from diffuse and normal, conditioned on the features of a trained SegFormer.

    ``segformer`` names the donor of the frozen network: a curriculum in the same runs directory
    (``segformer``, its last phase, or ``segformer.S1``).
    """

    kind: Literal["albedo"] = "albedo"
    model: UNetSpec = UNetSpec()
    segformer: str = "segformer"


class RoughnessSpec(Spec):
    """Roughness from predicted albedo, normal and class probabilities (family M)."""

    kind: Literal["roughness"] = "roughness"
    model: UNetSpec = UNetSpec()
    segformer: str = "segformer"
    albedo: str = "albedo"


class MetallicSpec(Spec):
    """Metallic from predicted albedo and class probabilities (family M), with ``use_normal`` the normal too.

    The last bias starts at ``log(p / (1 - p))`` with p = ``initial_share``.
    """

    kind: Literal["metallic"] = "metallic"
    model: UNetSpec = UNetSpec()
    segformer: str = "segformer"
    albedo: str = "albedo"
    use_normal: bool = False
    initial_share: float = Field(default=0.06, gt=0.0, lt=1.0)


class HeightSpec(Spec):
    """Height from normal, curvature and Poisson-coarse height (family P)."""

    kind: Literal["height"] = "height"
    model: UNetSpec = UNetSpec()
    segformer: str = "segformer"


class AoSpec(Spec):
    """Ambient occlusion from normal, curvature and Poisson-coarse height (family P)."""

    kind: Literal["ao"] = "ao"
    model: UNetSpec = UNetSpec()
    segformer: str = "segformer"


MapSpec = RoughnessSpec | MetallicSpec | HeightSpec | AoSpec
TaskSpec = Annotated[
    SegmentationSpec | AlbedoSpec | RoughnessSpec | MetallicSpec | HeightSpec | AoSpec,
    Field(discriminator="kind"),
]


def target_map(spec: TaskSpec) -> str:
    """The map that the task predicts: ``mask`` for segmentation."""
    return "mask" if spec.kind == "segmentation" else spec.kind


def maps_read(spec: TaskSpec) -> tuple[str, ...]:
    """The maps that a batch of this task is read with, where a sample has them.

    Diffuse and gloss are baked from the modern maps where a sample lacks them, so every task that looks
    at the diffuse reads what the bake needs.
    """
    bake = ("diffuse", "albedo", "normal", "roughness", "metallic", "ao")
    match spec.kind:
        case "segmentation":
            return (*bake, "mask")
        case "albedo" | "roughness" | "metallic":
            return bake
        case "height":
            return (*bake, "height", "relief")
        case "ao":
            return (*bake, "relief")


def maps_required(spec: TaskSpec) -> tuple[str, ...]:
    """The maps without which a sample cannot be drawn for this task: its target and its modern inputs."""
    match spec.kind:
        case "segmentation":
            return ("normal", "mask")
        case "albedo" | "roughness" | "metallic":
            return ("normal", spec.kind)
        case "height" | "ao":
            return ("normal", "relief", spec.kind)
