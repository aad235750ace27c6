"""What a network answered and what it should have answered, as loss terms see it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pbrlib.maps import CLASSES, IGNORE


@dataclass(frozen=True)
class LossTarget:
    """The truth of a batch; a term that needs what is None is a mistake of the task.

    Attributes:
        map: The target map in [0, 1].
        labels: Class ids, 255 = ignore.
        valid: The pixels that count.
        normal: The unit OpenGL normal that the network saw.
    """

    map: Float[Tensor, "n c h w"] | None
    labels: Int64[Tensor, "n h w"] | None
    valid: Bool[Tensor, "n 1 h w"]
    normal: Float[Tensor, "n 3 h w"] | None = None

    @property
    def image(self) -> Float[Tensor, "n c h w"]:
        """The target map, which has to be there."""
        assert self.map is not None, "this loss term compares maps, and the target has none"
        return self.map

    @cached_property
    def labelled(self) -> Bool[Tensor, "n h w"]:
        """The pixels that count and have a class."""
        assert self.labels is not None, "this loss term compares classes, and the target has no labels"
        return self.valid[:, 0] & (self.labels != IGNORE)

    @cached_property
    def class_ids(self) -> Int64[Tensor, "n h w"]:
        """The labels with 0 in place of ignore, so that they can index; mask with ``labelled``."""
        assert self.labels is not None, "this loss term compares classes, and the target has no labels"
        return torch.where(self.labels == IGNORE, 0, self.labels)


@dataclass(frozen=True)
class Output:
    """The logits of a network, and what several terms make of them."""

    logits: Float[Tensor, "n c h w"]

    @cached_property
    def image(self) -> Float[Tensor, "n c h w"]:
        """The predicted map in [0, 1]."""
        return self.logits.sigmoid()

    @cached_property
    def log_probabilities(self) -> Float[Tensor, "n c h w"]:
        """Log probabilities of the classes."""
        return F.log_softmax(self.logits, dim=1)


@dataclass(frozen=True)
class LossContext:
    """What terms know beside their spec: the weight of each class (None: all 1), and the classes."""

    class_weights: Float[Tensor, " k"] | None = None
    classes: tuple[str, ...] = CLASSES
