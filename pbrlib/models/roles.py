"""The networks of the chain by role: what each reads and answers, as a declaration that rebuilds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Tag, TypeAdapter

from pbrlib.maps import CLASSES, DIFFUSE, GLOSS, MAPS, NORMAL, RELIEF
from pbrlib.models.modelspec import MapModel, SegmentationModel, Size, unfetched
from pbrlib.spec import Spec

INPUTS: Final[Mapping[str, int]] = {
    "colour": DIFFUSE.channels,  # the diffuse, or in its place the albedo
    "normal": NORMAL.channels,
    "classes": len(CLASSES),
    "relief": RELIEF.channels,
    "gloss": GLOSS.channels + 1,  # with a flag that says whether there is one
}
"""What a network can read, by meaning, and the channels of each."""

READS: Final[Mapping[str, tuple[str, ...]]] = {
    "albedo": ("colour", "normal"),
    "roughness": ("colour", "normal", "classes"),
    "metallic": ("colour", "classes"),
    "height": ("normal", "relief"),
    "ao": ("normal", "relief"),
}
"""What the network of each map reads, in order, without options; the keys are the roles of map networks."""

CONDITIONING_STRIDE: Final = 32
"""The stride of every segmentation network: what it conditions is trained on multiples of this too."""


def _known_role(role: str) -> str:
    if role not in READS:
        raise ValueError(f"{role!r} is no map that a network learns. Known: {', '.join(READS)}.")
    return role


def _channels(inputs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}.{number}" for name in inputs for number in range(INPUTS[name]))


class SegmentationNetwork(Spec):
    """Class logits from (diffuse or albedo) and normal; gives the features that condition the others.

    ``merge`` names classes that it never answers, and those that stand for them.
    """

    role: Literal["segmentation"] = "segmentation"
    model: SegmentationModel
    merge: Mapping[str, str] | None = None
    condition_channels: ClassVar[None] = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the network reads, in order; each a key of ``INPUTS``."""
        return ("colour", "normal")

    @property
    def channels(self) -> tuple[str, ...]:
        """The meaning of each input channel, such as ``normal.1``; equal in every network that reads it."""
        return _channels(self.inputs)

    @property
    def outputs(self) -> Mapping[str, int]:
        """What the network answers, and the channels of each."""
        return dict.fromkeys(CLASSES, 1)


class MapNetwork(Spec):
    """One map from what its role reads; ``condition_channels`` are those of the segmentation's features.

    ``use_normal`` and ``use_gloss`` add an input that the role does not read by itself.
    """

    role: Annotated[str, AfterValidator(_known_role)]
    model: MapModel
    condition_channels: Size
    use_normal: bool = False
    use_gloss: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the network reads, in order; each a key of ``INPUTS``."""
        options = {"normal": self.use_normal, "gloss": self.use_gloss}
        own = READS[self.role]
        return (*own, *(name for name, used in options.items() if used and name not in own))

    @property
    def channels(self) -> tuple[str, ...]:
        """The meaning of each input channel, such as ``normal.1``; equal in every network that reads it."""
        return _channels(self.inputs)

    @property
    def outputs(self) -> Mapping[str, int]:
        """What the network answers, and the channels of each."""
        return {self.role: MAPS[self.role].channels}


def _tag_of(value: Any) -> str:
    role = value.get("role") if isinstance(value, Mapping) else getattr(value, "role", None)
    return "segmentation" if role == "segmentation" else "map"


Declared: TypeAlias = Annotated[
    Annotated[SegmentationNetwork, Tag("segmentation")] | Annotated[MapNetwork, Tag("map")],
    Discriminator(_tag_of),
]
"""The declaration that lies in every checkpoint and model folder, enough to rebuild its network."""

DECLARED: Final[TypeAdapter[SegmentationNetwork | MapNetwork]] = TypeAdapter(Declared)
"""Reads one."""


def without_donor(declared: Declared) -> Declared:
    """The declaration of a network whose weights are at hand: nothing is to be fetched for it."""
    return declared.model_copy(update={"model": unfetched(declared.model)})
