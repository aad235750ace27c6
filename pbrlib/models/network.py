"""The common protocol of all networks, on which tasks, inference and tables rely."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn


class NetworkOutput(NamedTuple):
    """The output of a network for a batch of images.

    Attributes:
        logits: Logits at the size of the input, computed by :func:`exact_logits`.
        features: The deepest features of the encoder; those of the segmentation condition the other networks.
    """

    logits: Float[Tensor, "n k h w"]
    features: Float[Tensor, "n c h_deep w_deep"]


class Network(Protocol):
    """The protocol of a network; `pbrlib.models.build` lists the implementations.

    The parameters are called ``encoder.stages.K.*``, ``decoder.*``, ``film.*`` and ``head.*``: optimizer
    rules, layer decay and warm starts rely on these names.
    """

    @property
    def stride(self) -> int:
        """The sides of an input are multiples of this."""
        ...

    @property
    def stem_names(self) -> tuple[str, ...]:
        """Names of the convolution weights that read the input channels."""
        ...

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the parameters of the head, which computes the logits."""
        ...

    @property
    def label(self) -> str:
        """A short description for tables, such as ``unet 96 x 4``."""
        ...

    @property
    def feature_channels(self) -> int:
        """Number of channels of the output's features."""
        ...

    def __call__(
        self, x: Float[Tensor, "n c h w"], cond: Float[Tensor, "n f p q"] | None = None
    ) -> NetworkOutput:
        """Compute logits and features.

        Args:
            x: Input maps, sides multiples of ``stride``.
            cond: Conditioning features of any size; None runs without conditioning.

        Raises:
            ValueError: Sides are no multiples of the stride, or the network takes no conditioning.
        """
        ...


def check_sides(x: Float[Tensor, "n c h w"], *, stride: int) -> None:
    """Raise ValueError unless height and width are multiples of a network's stride."""
    height, width = x.shape[2:]
    if height % stride or width % stride:
        raise ValueError(f"network input: got {height} x {width} px; expected multiples of {stride}. Pad it.")


def exact_logits(head: nn.Conv2d, deep: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
    """Compute the head's logits in the precision of its weights, with autocast off.

    bf16 has 8 significant bits, so neighbouring pixels of a smooth map would have equal logits, and terms
    over their differences would have no gradient direction. Every network computes its logits with this
    function.
    """
    device = "cpu" if deep.is_meta else deep.device.type  # torch.autocast does not support the meta device
    with torch.autocast(device, enabled=False):
        logits: Tensor = head(deep.to(head.weight.dtype))
    return logits
