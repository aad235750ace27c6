"""Specs of the training tasks, one per kind of task."""

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
    """Spec of the segmentation: a material class per pixel, from diffuse or albedo, and normal.

    Attributes:
        model: The network.
        albedo_share: Probability that a training sample shows the albedo instead of the diffuse. Validation
            always shows the diffuse, since a conversion has no albedo.
        merge: Classes that are counted as another class in labels, balance and metrics, such as
            ``{ceramic: stone}``. The network keeps the output channel of a merged class but learns not to
            predict it.
    """

    kind: Literal["segmentation"] = "segmentation"
    model: SegmentationModel = SegformerSpec()
    albedo_share: float = Field(default=0.5, ge=0.0, le=1.0)
    merge: Mapping[str, str] | None = None

    @field_validator("merge")
    @classmethod
    def _check_merge(cls, merge: Mapping[str, str] | None) -> Mapping[str, str] | None:
        for source, target in (merge or {}).items():
            if target in (merge or {}):
                raise ValueError(
                    f"got {source} merged into {target}, which is merged too; expected a class that stays. "
                    f"Merge {source} into {(merge or {})[target]}."
                )
        return merge


class AlbedoSpec(Spec):
    """Spec of the albedo from diffuse and normal, conditioned on the features of a trained SegFormer.

    ``segformer`` names the frozen network: a curriculum in the same runs directory (``segformer`` for its
    last phase, or ``segformer.S1``).
    """

    kind: Literal["albedo"] = "albedo"
    model: MapModel = UNetSpec()
    segformer: str = "segformer"


class GlossInput(Spec):
    """Options of the gloss input: the old gloss, which is the alpha channel of the old normal map.

    Attributes:
        use_gloss: Adds the gloss, and a flag that marks textures with a gloss, to the network's input.
        gloss_dropout: Share of the training samples whose gloss is hidden, so that the network also works
            without a gloss. Required with ``use_gloss``, not allowed without it.
    """

    use_gloss: bool | None = None
    gloss_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)

    @field_validator("use_gloss")
    @classmethod
    def _read_false_as_none(cls, use_gloss: bool | None) -> bool | None:
        """Return None for False, so that the option is absent from files and fingerprints."""
        return use_gloss or None

    @model_validator(mode="after")
    def _check_gloss_dropout(self) -> Self:
        if self.use_gloss and self.gloss_dropout is None:
            raise ValueError(
                "got use_gloss without gloss_dropout; expected both. "
                "Set gloss_dropout to the share of samples without gloss."
            )
        if not self.use_gloss and self.gloss_dropout is not None:
            raise ValueError("got gloss_dropout without use_gloss; expected both. Set use_gloss: true.")
        return self


class RoughnessSpec(GlossInput):
    """Spec of the roughness from predicted albedo, normal and class probabilities (family M)."""

    kind: Literal["roughness"] = "roughness"
    model: MapModel = UNetSpec()
    segformer: str = "segformer"
    albedo: str = "albedo"


class MetallicSpec(GlossInput):
    """Spec of the metallic from predicted albedo, class probabilities, and with ``use_normal`` the normal.

    The last bias starts at ``log(p / (1 - p))`` with p = ``initial_share``; ``measured`` uses the share of
    metal in the phase's training textures. Metallic belongs to family M.
    """

    kind: Literal["metallic"] = "metallic"
    model: MapModel = UNetSpec()
    segformer: str = "segformer"
    albedo: str = "albedo"
    use_normal: bool = False
    initial_share: OpenShare | Literal["measured"] = 0.06


class HeightSpec(Spec):
    """Spec of the height from normal, curvature and Poisson-coarse height (family P)."""

    kind: Literal["height"] = "height"
    model: MapModel = UNetSpec()
    segformer: str = "segformer"


class AoSpec(Spec):
    """Spec of the ambient occlusion from normal, curvature and Poisson-coarse height (family P)."""

    kind: Literal["ao"] = "ao"
    model: MapModel = UNetSpec()
    segformer: str = "segformer"


MapSpec = RoughnessSpec | MetallicSpec | HeightSpec | AoSpec
TaskSpec = Annotated[SegmentationSpec | AlbedoSpec | MapSpec, Field(discriminator="kind")]


def target_map(spec: TaskSpec) -> str:
    """Return the map that the task predicts; ``mask`` for segmentation."""
    return MASK.name if spec.kind == "segmentation" else spec.kind


def merged_classes(spec: TaskSpec) -> Mapping[str, str]:
    """Return the classes that this task merges, with the class that replaces each."""
    return (spec.merge or {}) if spec.kind == "segmentation" else {}


def maps_read(spec: TaskSpec) -> tuple[str, ...]:
    """Return the maps to read for a batch of this task, if a sample has them.

    Diffuse and gloss are baked from the modern maps of a sample that lacks them, so the bake's inputs are
    always read.
    """
    gloss = (GLOSS.name,) if isinstance(spec, GlossInput) and spec.use_gloss else ()
    return tuple(dict.fromkeys((DIFFUSE.name, *BAKE_INPUTS, *gloss, target_map(spec), *_relief(spec))))


def maps_required(spec: TaskSpec) -> tuple[str, ...]:
    """Return the maps that a sample must have to be drawn for this task: target and modern inputs."""
    return (NORMAL.name, *_relief(spec), target_map(spec))


def _relief(spec: TaskSpec) -> tuple[str, ...]:
    """Return the relief if the task's network reads it; it is stored, as it needs the whole texture."""
    reads = () if spec.kind == "segmentation" else ROLE_INPUTS[spec.kind]
    return (RELIEF.name,) if "relief" in reads else ()
