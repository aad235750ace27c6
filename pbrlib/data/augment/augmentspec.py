"""What happens to a batch on the device, as a curriculum declares it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from pbrlib.maps import CLASSES, IGNORE
from pbrlib.rendering.bakespec import BakeSpec
from pbrlib.spec import Spec

Preset: TypeAlias = Literal["rev7", "v4"]
"""Names for ranges of `pbrlib.data.augment.photometric`."""

LARGEST_WARP = 0.02
"""Nodes moved by up to this share of the side never fold the picture."""

LIMITS: Mapping[str, Mapping[str, float]] = MappingProxyType(
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
"""The prohibitions: the most of a change that a class may ever see."""


class SkyPhotometricSpec(Spec):
    """Changes of light of old textures.

    Attributes:
        p: Probability for each draw.
        preset: ``rev7`` is tint, gamma and grain; ``v4`` is occlusion, cold white balance and vignette.
    """

    p: float = Field(ge=0.0, le=1.0)
    preset: Preset = "rev7"


class ColourJitterSpec(Spec):
    """Changes of the colour of materials whose old texture is baked.

    Attributes:
        hue: Largest turn of the hue either way, as a share of the colour circle (0.05 is 18 degrees).
        saturation: Largest change of the HSV saturation either way, as a share of it.
    """

    hue: float = Field(ge=0.0, le=0.5)
    saturation: float = Field(ge=0.0, le=1.0)


class ClassChanges(Spec):
    """What one class may see; None is nothing of it.

    Attributes:
        brightness: Largest change of the HSV value either way, as a share of it.
        hue: Largest turn either way, as a share of the colour circle.
        saturation: Largest change of the HSV saturation either way, as a share of it.
        grain: Largest share of the brightness that fine grain takes, within patches.
        dirt: Largest share of the brightness that patches of dirt take.
        specular: Alpha of a white sprite.
        warp: Largest displacement of a node of an elastic warp, as a share of the crop's side.
    """

    brightness: float | None = Field(default=None, gt=0.0, lt=1.0)
    hue: float | None = Field(default=None, gt=0.0, le=0.5)
    saturation: float | None = Field(default=None, gt=0.0, le=1.0)
    grain: float | None = Field(default=None, gt=0.0, le=1.0)
    dirt: float | None = Field(default=None, gt=0.0, le=1.0)
    specular: float | None = Field(default=None, gt=0.0, le=1.0)
    warp: float | None = Field(default=None, gt=0.0, le=LARGEST_WARP)


class CategorySpec(Spec):
    """Changes by material class, for samples whose class is known.

    Attributes:
        p: Probability for each draw of a known class.
        confidence: A sample without a label counts as the class whose probability, by the frozen
            SegFormer and averaged over the pixels, is above this; the map tasks ask it while training.
        may: What each class may see; a class that is not named sees nothing.
    """

    p: float = Field(ge=0.0, le=1.0)
    confidence: float = Field(ge=0.0, le=1.0)
    may: Mapping[str, ClassChanges]

    @model_validator(mode="after")
    def _within_limits(self) -> CategorySpec:
        for label, changes in self.may.items():
            if label not in CLASSES:
                raise ValueError(f"may: {label!r} is not a class. Classes: {', '.join(CLASSES)}.")
            for name, most in LIMITS[label].items():
                came = getattr(changes, name) or 0.0
                if came > most:
                    bound = f"at most {most:g} of it. Use {most:g} or less" if most else "it. Leave it out"
                    never = "sees" if most else "never sees"
                    raise ValueError(f"may.{label}.{name} is {came:g}, and {label} {never} {bound}.")
        return self

    def limit(self, class_id: int, change: Literal["hue", "saturation"]) -> float:
        """The most of a change that a class may see; an unknown one counts as the most sensitive of all."""
        labels = CLASSES if class_id == IGNORE else (CLASSES[class_id],)
        return min(LIMITS[label].get(change, 1.0) for label in labels)


class AugmentSpec(Spec):
    """What happens to a batch on the device. The default only bakes: the form that validation uses.

    Attributes:
        flip: Mirror left-right and top-bottom, each with probability one half.
        rotate90: Turn by 0, 90, 180 or 270 degrees, equally likely.
        sky_photometric: Change the light of diffuse textures that were not baked here.
        colour_jitter: Change hue and saturation of materials whose diffuse was baked here.
        category: Changes by material class; they stand in for the colour jitter of the draws that see
            any, and what they forbid to a class binds the jitter too.
        bake: How to make an old diffuse and gloss of materials that have none.
    """

    flip: bool = False
    rotate90: bool = False
    sky_photometric: SkyPhotometricSpec | None = None
    colour_jitter: ColourJitterSpec | None = None
    category: CategorySpec | None = None
    bake: BakeSpec = BakeSpec()
