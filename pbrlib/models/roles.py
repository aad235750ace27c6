"""Declarations of the networks by role: inputs, outputs and model, enough to rebuild each network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Tag, TypeAdapter

from pbrlib.maps import CLASSES, DIFFUSE, GLOSS, MAPS, NORMAL, RELIEF
from pbrlib.models.modelspec import MapModel, SegmentationModel, Size, without_pretrained_weights
from pbrlib.spec import Spec

INPUT_CHANNELS: Final[Mapping[str, int]] = {
    "colour": DIFFUSE.channels,  # the diffuse or the albedo
    "normal": NORMAL.channels,
    "classes": len(CLASSES),
    "relief": RELIEF.channels,
    "gloss": GLOSS.channels + 1,  # one more channel flags whether the texture has a gloss
}
"""Number of channels of every input that a network can have, by name."""

ROLE_INPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "albedo": ("colour", "normal"),
    "roughness": ("colour", "normal", "classes"),
    "metallic": ("colour", "classes"),
    "height": ("normal", "relief"),
    "ao": ("normal", "relief"),
}
"""The inputs of each map network by role, in order, without the optional ones."""

CONDITIONING_STRIDE: Final = 32
"""Stride of every segmentation network; the networks it conditions also train on multiples of this."""


def _known_role(role: str) -> str:
    if role not in ROLE_INPUTS:
        raise ValueError(f"role: got {role!r}; expected one of {', '.join(ROLE_INPUTS)}. Use one of these.")
    return role


def _channels(inputs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}.{number}" for name in inputs for number in range(INPUT_CHANNELS[name]))


class SegmentationDeclaration(Spec):
    """Declares a segmentation network: class logits from diffuse or albedo, and normal.

    Its features condition the map networks. ``merge`` maps each class that it never predicts to the class
    that replaces it.
    """

    role: Literal["segmentation"] = "segmentation"
    model: SegmentationModel
    merge: Mapping[str, str] | None = None
    condition_channels: ClassVar[None] = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The network's inputs in order; each is a key of ``INPUT_CHANNELS``."""
        return ("colour", "normal")

    @property
    def channels(self) -> tuple[str, ...]:
        """The name of each input channel, such as ``normal.1``; the same in every network with that input."""
        return _channels(self.inputs)

    @property
    def outputs(self) -> Mapping[str, int]:
        """The network's outputs and the number of channels of each."""
        return dict.fromkeys(CLASSES, 1)


class MapDeclaration(Spec):
    """Declares a network that predicts one map from the inputs of its role.

    ``condition_channels`` is the number of channels of the segmentation's features. ``use_normal`` and
    ``use_gloss`` add an input that ``ROLE_INPUTS`` does not list for the role.
    """

    role: Annotated[str, AfterValidator(_known_role)]
    model: MapModel
    condition_channels: Size
    use_normal: bool = False
    use_gloss: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The network's inputs in order; each is a key of ``INPUT_CHANNELS``."""
        options = {"normal": self.use_normal, "gloss": self.use_gloss}
        own = ROLE_INPUTS[self.role]
        return (*own, *(name for name, used in options.items() if used and name not in own))

    @property
    def channels(self) -> tuple[str, ...]:
        """The name of each input channel, such as ``normal.1``; the same in every network with that input."""
        return _channels(self.inputs)

    @property
    def outputs(self) -> Mapping[str, int]:
        """The network's outputs and the number of channels of each."""
        return {self.role: MAPS[self.role].channels}


def _tag_of(value: Any) -> str:
    role = value.get("role") if isinstance(value, Mapping) else getattr(value, "role", None)
    return "segmentation" if role == "segmentation" else "map"


NetworkDeclaration: TypeAlias = Annotated[
    Annotated[SegmentationDeclaration, Tag("segmentation")] | Annotated[MapDeclaration, Tag("map")],
    Discriminator(_tag_of),
]
"""A network's declaration; every checkpoint and model folder stores it, enough to rebuild the network."""

DECLARATION_ADAPTER: Final[TypeAdapter[SegmentationDeclaration | MapDeclaration]] = TypeAdapter(
    NetworkDeclaration
)
"""Validates a `NetworkDeclaration`."""


def without_pretrained(declared: NetworkDeclaration) -> NetworkDeclaration:
    """Return the declaration without pretrained weights, for a network that gets trained weights next."""
    return declared.model_copy(update={"model": without_pretrained_weights(declared.model)})
