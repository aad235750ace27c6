"""The network output, the target and the context that loss terms work on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from pbrlib.losses.masks import seams
from pbrlib.maps import CLASSES, IGNORE


@dataclass(frozen=True)
class LossTarget:
    """The ground truth of a batch; a task must set every field that its loss terms use.

    Attributes:
        map: The target map in [0, 1].
        labels: Class ids, 255 = ignore.
        valid: Mask of the pixels that the loss averages over.
        normal: The unit OpenGL normal, an input of the network.
        regions: The region number of each pixel of a mosaic; None if the batch has no mosaics.
    """

    map: Float[Tensor, "n c h w"] | None
    labels: Int64[Tensor, "n h w"] | None
    valid: Bool[Tensor, "n 1 h w"]
    normal: Float[Tensor, "n 3 h w"] | None = None
    regions: UInt8[Tensor, "n 1 h w"] | None = None

    @property
    def ignores_seams(self) -> Bool[Tensor, "n 1 h w"]:
        """The valid pixels without those beside the seam of a mosaic, for terms that compare neighbours."""
        return self.valid if self.regions is None else self.valid & ~seams(self.regions)

    @property
    def image(self) -> Float[Tensor, "n c h w"]:
        """The target map; the task must have set it."""
        assert self.map is not None, "target: got no map; expected one, since this loss term compares maps"
        return self.map

    @property
    def labelled(self) -> Bool[Tensor, "n h w"]:
        """The valid pixels that have a class."""
        assert self.labels is not None, (
            "target: got no labels; expected some, since this term compares classes"
        )
        return self.valid[:, 0] & (self.labels != IGNORE)

    @property
    def class_ids(self) -> Int64[Tensor, "n h w"]:
        """The labels with 0 instead of the ignore id, usable as indices; mask results with ``labelled``."""
        assert self.labels is not None, (
            "target: got no labels; expected some, since this term compares classes"
        )
        return torch.where(self.labels == IGNORE, 0, self.labels)


class Output:
    """The logits of a network, with derived values that several terms share and that are computed once.

    ``functools.cached_property`` is not used, since its lock breaks compiled graphs on Python 3.11.
    """

    def __init__(self, logits: Float[Tensor, "n c h w"]) -> None:
        self.logits = logits
        self._image: Tensor | None = None
        self._log_probabilities: Tensor | None = None

    @property
    def image(self) -> Float[Tensor, "n c h w"]:
        """The predicted map in [0, 1]."""
        if self._image is None:
            self._image = self.logits.sigmoid()
        return self._image

    @property
    def log_probabilities(self) -> Float[Tensor, "n c h w"]:
        """The log probabilities of the classes."""
        if self._log_probabilities is None:
            self._log_probabilities = F.log_softmax(self.logits, dim=1)
        return self._log_probabilities


@dataclass(frozen=True)
class LossContext:
    """The class names and the weight of each class (None: all 1), which terms need besides their spec."""

    class_weights: Float[Tensor, " k"] | None = None
    classes: tuple[str, ...] = CLASSES
