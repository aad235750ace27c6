"""What every network promises, whatever its kind: what the tasks, the chain and the tables rely on."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Answer(NamedTuple):
    """What a network answers to a picture.

    Attributes:
        logits: At the size of the input, of :func:`exact_logits`.
        features: The deepest of the encoder; those of the segmentation condition the other networks.
    """

    logits: Float[Tensor, "n k h w"]
    features: Float[Tensor, "n c h_deep w_deep"]


class Network(Protocol):
    """A network of any kind; `pbrlib.models.build` lists the kinds.

    The parameters are called ``encoder.stages.K.*``, ``decoder.*``, ``film.*`` and ``head.*``: optimizer
    rules, layer decay and warm starts rely on these names.
    """

    @property
    def stride(self) -> int:
        """The sides of an input are multiples of this."""
        ...

    @property
    def stem_names(self) -> tuple[str, ...]:
        """The weights that read the input, channel by channel."""
        ...

    @property
    def head_names(self) -> tuple[str, ...]:
        """The parameters that give the logits."""
        ...

    @property
    def label(self) -> str:
        """The network in two or three words for people, such as ``unet 96 x 4``."""
        ...

    @property
    def feature_channels(self) -> int:
        """Channels of the features in an answer."""
        ...

    def __call__(self, x: Float[Tensor, "n c h w"], cond: Float[Tensor, "n f p q"] | None = None) -> Answer:
        """Answer a picture.

        Args:
            x: Input maps, sides multiples of ``stride``.
            cond: Conditioning features of any size; None where there are none.

        Raises:
            ValueError: Sides off the stride, or conditioning for a network that has no use for it.
        """
        ...


def check_sides(x: Float[Tensor, "n c h w"], *, stride: int) -> None:
    """Raises ValueError unless the sides of a picture are multiples of a network's stride."""
    height, width = x.shape[2:]
    if height % stride or width % stride:
        raise ValueError(f"{height} x {width} px: sides must be multiples of {stride}. Pad first.")


def exact_logits(head: nn.Conv2d, deep: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
    """The head's logits in the precision of its weights, whatever autocast says.

    bf16 has 8 significant bits: neighbouring pixels of a smooth map have equal logits then, and the terms
    over their differences no direction. Every network gives its logits through this.
    """
    device = "cpu" if deep.is_meta else deep.device.type  # autocast knows no meta device
    with torch.autocast(device, enabled=False):
        logits: Tensor = head(deep.to(head.weight.dtype))
    return logits
