"""What a network answered and what it should have answered, as loss terms see it."""

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
    """The truth of a batch; a term that needs what is None is a mistake of the task.

    Attributes:
        map: The target map in [0, 1].
        labels: Class ids, 255 = ignore.
        valid: The pixels that count.
        normal: The unit OpenGL normal that the network saw.
        regions: The number of the part of a mosaic at each pixel; None where all samples are whole.
    """

    map: Float[Tensor, "n c h w"] | None
    labels: Int64[Tensor, "n h w"] | None
    valid: Bool[Tensor, "n 1 h w"]
    normal: Float[Tensor, "n 3 h w"] | None = None
    regions: UInt8[Tensor, "n 1 h w"] | None = None

    @property
    def off_seams(self) -> Bool[Tensor, "n 1 h w"]:
        """The pixels that count where neighbours are compared: none beside the seam of a mosaic."""
        return self.valid if self.regions is None else self.valid & ~seams(self.regions)

    @property
    def image(self) -> Float[Tensor, "n c h w"]:
        """The target map, which has to be there."""
        assert self.map is not None, "this loss term compares maps, and the target has none"
        return self.map

    @property
    def labelled(self) -> Bool[Tensor, "n h w"]:
        """The pixels that count and have a class."""
        assert self.labels is not None, "this loss term compares classes, and the target has no labels"
        return self.valid[:, 0] & (self.labels != IGNORE)

    @property
    def class_ids(self) -> Int64[Tensor, "n h w"]:
        """The labels with 0 in place of ignore, so that they can index; mask with ``labelled``."""
        assert self.labels is not None, "this loss term compares classes, and the target has no labels"
        return torch.where(self.labels == IGNORE, 0, self.labels)


class Output:
    """The logits of a network, and what several terms make of them, made once.

    (Not by ``functools.cached_property``, whose lock splits a compiled graph on Python 3.11.)
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
        """Log probabilities of the classes."""
        if self._log_probabilities is None:
            self._log_probabilities = F.log_softmax(self.logits, dim=1)
        return self._log_probabilities


@dataclass(frozen=True)
class LossContext:
    """What terms know beside their spec: the weight of each class (None: all 1), and the classes."""

    class_weights: Float[Tensor, " k"] | None = None
    classes: tuple[str, ...] = CLASSES
