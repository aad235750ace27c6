"""Confusion matrices of class predictions."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from pbrlib.maps import IGNORE


def confusion(
    prediction: Int64[Tensor, "*shape"],
    labels: Int64[Tensor, "*shape"],
    *,
    num_classes: int,
    valid: Bool[Tensor, "*shape"] | None = None,
) -> Int64[Tensor, "k k"]:
    """Count pixels by (true class, predicted class), without pixels that are labelled 255 or not valid."""
    counted = labels != IGNORE
    if valid is not None:
        counted = counted & valid
    cells = labels[counted] * num_classes + prediction[counted]
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)
