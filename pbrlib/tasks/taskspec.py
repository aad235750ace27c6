"""What can be learned, declared: one spec per kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from pbrlib.maps import DIFFUSE, GLOSS, MASK, NORMAL, RELIEF
from pbrlib.models.modelspec import MapModel, SegformerSpec, SegmentationModel, UNetSpec
from pbrlib.models.roles import ROLE_INPUTS
from pbrlib.rendering.bakespec import BAKE_INPUTS
from pbrlib.spec import Spec

OpenShare: TypeAlias = Annotated[float, Field(gt=0.0, lt=1.0)]


class SegmentationSpec(Spec):
    """A material class per pixel, from (diffuse or albedo) and normal.

    Attributes:
        model: The network.
        albedo_share: Probability that a training sample shows the albedo instead of the diffuse; validation
            shows the diffuse, since at conversion time only that exists.
        merge: Classes that count as another one in labels, balance and metrics, such as ``{ceramic: stone}``.
            The network keeps its channel for each, and never has a reason to answer it.
    """

    kind: Literal["segmentation"] = "segmentation"
    model: SegmentationModel = SegformerSpec()
    albedo_share: float = Field(default=0.5, ge=0.0, le=1.0)
    merge: Mapping[str, str] | None = None

    @field_validator("merge")
    @classmethod
    def _no_chains(cls, merge: Mapping[str, str] | None) -> Mapping[str, str] | None:
        for source, target in (merge or {}).items():
            if target in (merge or {}):
                raise ValueError(
                    f"{source} is merged into {target}, which is merged itself. Name the class that stays."
                )
        return merge


class AlbedoSpec(Spec):
    """Albedo from diffuse and normal, conditioned on the features of a trained SegFormer.

    ``segformer`` names the donor of the frozen network: a curriculum in the same runs directory
    (``segformer``, its last phase, or ``segformer.S1``).
    """

    kind: Literal["albedo"] = "albedo"
    model: MapModel = UNetSpec()
    segformer: str = "segformer"


class GlossInput(Spec):
    """Whether a network also reads the old gloss, the alpha of the old normal map.

    Attributes:
        use_gloss: Gives it the gloss and a flag that says whether the texture has one.
        gloss_dropout: Share of the training draws that show none although there is one, so that the network
            also works without; stands with ``use_gloss`` and only there.
    """

    use_gloss: bool | None = None
    gloss_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)

    @field_validator("use_gloss")
    @classmethod
    def _off_is_none(cls, use_gloss: bool | None) -> bool | None:
        """An option that is off is left out of files and fingerprints."""
        return use_gloss or None

    @model_validator(mode="after")
    def _dropout_belongs_to_gloss(self) -> Self:
        if self.use_gloss and self.gloss_dropout is None:
            raise ValueError("use_gloss needs gloss_dropout. Give the share of draws that show no gloss.")
        if not self.use_gloss and self.gloss_dropout is not None:
            raise ValueError("gloss_dropout without use_gloss does nothing. Set use_gloss: true.")
        return self


class RoughnessSpec(GlossInput):
    """Roughness from predicted albedo, normal and class probabilities (family M)."""

    kind: Literal["roughness"] = "roughness"
    model: MapModel = UNetSpec()
    segformer: str = "segformer"
    albedo: str = "albedo"


class MetallicSpec(GlossInput):
    """Metallic from predicted albedo and class probabilities (family M), with ``use_normal`` the normal too.

    The last bias starts at ``log(p / (1 - p))`` with p = ``initial_share``, or the share of metal measured
    on what the phase trains on.
    """

    kind: Literal["metallic"] = "metallic"
    model: MapModel = UNetSpec()
    segformer: str = "segformer"
    albedo: str = "albedo"
    use_normal: bool = False
    initial_share: OpenShare | Literal["measured"] = 0.06


class HeightSpec(Spec):
    """Height from normal, curvature and Poisson-coarse height (family P)."""

    kind: Literal["height"] = "height"
    model: MapModel = UNetSpec()
    segformer: str = "segformer"


class AoSpec(Spec):
    """Ambient occlusion from normal, curvature and Poisson-coarse height (family P)."""

    kind: Literal["ao"] = "ao"
    model: MapModel = UNetSpec()
    segformer: str = "segformer"


MapSpec = RoughnessSpec | MetallicSpec | HeightSpec | AoSpec
TaskSpec = Annotated[SegmentationSpec | AlbedoSpec | MapSpec, Field(discriminator="kind")]


def target_map(spec: TaskSpec) -> str:
    """The map that the task predicts: ``mask`` for segmentation."""
    return MASK.name if spec.kind == "segmentation" else spec.kind


def merged_classes(spec: TaskSpec) -> Mapping[str, str]:
    """The classes that count as another one in this task."""
    return (spec.merge or {}) if spec.kind == "segmentation" else {}


def maps_read(spec: TaskSpec) -> tuple[str, ...]:
    """The maps that a batch of this task is read with, where a sample has them.

    Diffuse and gloss are baked from the modern maps where a sample lacks them, so every task that looks
    at the diffuse reads what the bake needs.
    """
    gloss = (GLOSS.name,) if isinstance(spec, GlossInput) and spec.use_gloss else ()
    return tuple(dict.fromkeys((DIFFUSE.name, *BAKE_INPUTS, *gloss, target_map(spec), *_relief(spec))))


def maps_required(spec: TaskSpec) -> tuple[str, ...]:
    """The maps without which a sample cannot be drawn for this task: its target and its modern inputs."""
    return (NORMAL.name, *_relief(spec), target_map(spec))


def _relief(spec: TaskSpec) -> tuple[str, ...]:
    """The relief, of a task whose network reads it: it is stored, as it takes the whole texture."""
    reads = () if spec.kind == "segmentation" else ROLE_INPUTS[spec.kind]
    return (RELIEF.name,) if "relief" in reads else ()
