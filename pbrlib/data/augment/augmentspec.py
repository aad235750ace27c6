"""Declarations of augmentations in a curriculum."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from pbrlib.maps import CLASSES, IGNORE
from pbrlib.rendering.bakespec import BakeSpec
from pbrlib.spec import Spec

Preset: TypeAlias = Literal["rev7", "v4"]
"""Names of parameter ranges in `pbrlib.data.augment.photometric`."""

MAX_WARP = 0.02
"""The largest displacement of a control point, as a share of the side, that never folds the picture."""

CLASS_LIMITS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "wood": {"hue": 0.05, "saturation": 0.05},  # more would be a heavy tint
        "stone": {"hue": 0.0},
        "metal": {"hue": 0.0},
        "fabric": {"specular": 0.0},
        "leather": {"specular": 0.0},
        "ground": {"hue": 0.05},
        "ceramic": {"hue": 0.05},
    }
)
"""The upper limit of each change by class; a curriculum must not exceed it."""


class SkyPhotometricSpec(Spec):
    """Declares changes of the light in old textures.

    Attributes:
        p: Probability for each draw.
        preset: ``rev7`` is tint, gamma and grain; ``v4`` is occlusion, cold white balance and vignette.
    """

    p: float = Field(ge=0.0, le=1.0)
    preset: Preset = "rev7"


class ColourJitterSpec(Spec):
    """Declares changes of the colour of materials whose diffuse is baked.

    Attributes:
        hue: Maximum rotation of the hue in both directions, as a share of the colour circle (0.05 is 18
            degrees).
        saturation: Maximum relative change of the HSV saturation in both directions.
    """

    hue: float = Field(ge=0.0, le=0.5)
    saturation: float = Field(ge=0.0, le=1.0)


class ClassChanges(Spec):
    """Declares the changes for one class; None disables a change.

    Attributes:
        brightness: Maximum relative change of the HSV value in both directions.
        hue: Maximum rotation of the hue in both directions, as a share of the colour circle.
        saturation: Maximum relative change of the HSV saturation in both directions.
        grain: Maximum share of the brightness that patches of fine grain remove.
        dirt: Maximum share of the brightness that patches of dirt remove.
        specular: Alpha of a white highlight in its centre.
        warp: Maximum displacement of a control point of an elastic warp, as a share of the crop's side.
    """

    brightness: float | None = Field(default=None, gt=0.0, lt=1.0)
    hue: float | None = Field(default=None, gt=0.0, le=0.5)
    saturation: float | None = Field(default=None, gt=0.0, le=1.0)
    grain: float | None = Field(default=None, gt=0.0, le=1.0)
    dirt: float | None = Field(default=None, gt=0.0, le=1.0)
    specular: float | None = Field(default=None, gt=0.0, le=1.0)
    warp: float | None = Field(default=None, gt=0.0, le=MAX_WARP)


class CategorySpec(Spec):
    """Declares changes by material class, for samples with a known class.

    Attributes:
        p: Probability for each draw with a known class.
        confidence: Minimum confidence of a predicted class. A sample without a label gets the class whose
            probability, predicted by the frozen SegFormer and averaged over the pixels, is above this value.
            The tasks of maps predict it while they train.
        may: The changes of each class; a class without an entry is not changed.
    """

    p: float = Field(ge=0.0, le=1.0)
    confidence: float = Field(ge=0.0, le=1.0)
    may: Mapping[str, ClassChanges]

    @model_validator(mode="after")
    def _within_limits(self) -> CategorySpec:
        for label, changes in self.may.items():
            if label not in CLASSES:
                raise ValueError(f"may: got {label!r}; expected a class. Use one of: {', '.join(CLASSES)}.")
            for name, limit in CLASS_LIMITS[label].items():
                given = getattr(changes, name) or 0.0
                if given > limit:
                    expected = f"at most {limit:g}" if limit else f"no {name}"
                    remedy = f"Use {limit:g} or less" if limit else "Remove the key"
                    raise ValueError(
                        f"may.{label}.{name}: got {given:g}; expected {expected} for {label}. {remedy}."
                    )
        return self

    def limit(self, class_id: int, change: Literal["hue", "saturation"]) -> float:
        """Return the upper limit of a change for a class; for an unknown class, the lowest limit of all."""
        labels = CLASSES if class_id == IGNORE else (CLASSES[class_id],)
        return min(CLASS_LIMITS[label].get(change, 1.0) for label in labels)


class AugmentSpec(Spec):
    """Declares the augmentation of batches; the default, which validation uses, only bakes.

    Attributes:
        flip: Whether to mirror left-right and top-bottom, each with probability one half.
        rotate90: Whether to rotate by 0, 90, 180 or 270 degrees with equal probability.
        sky_photometric: Changes of the light in diffuse textures that were not baked here.
        colour_jitter: Changes of hue and saturation of materials whose diffuse was baked here.
        category: Changes by material class. A draw with such changes gets no colour jitter; for the other
            draws, the limits of their class also apply to the colour jitter.
        bake: How an old diffuse and gloss are made for materials that have none.
    """

    flip: bool = False
    rotate90: bool = False
    sky_photometric: SkyPhotometricSpec | None = None
    colour_jitter: ColourJitterSpec | None = None
    category: CategorySpec | None = None
    bake: BakeSpec = BakeSpec()
