"""Scores by map, metric, method and texture, and confusion matrices by method and texture.

The networks are one method and each trivial baseline is another; the same code scores all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from pbrlib.losses.lossspec import Trunk
from pbrlib.losses.perceptual import lpips_distance
from pbrlib.maps import CLASSES, MAPS, TARGETS, Encoding
from pbrlib.metrics.confusion import confusion
from pbrlib.metrics.images import texture_metrics

NET = "net"
"""Name of the method of the networks."""

SEGMENTATION = "segmentation"

_LPIPS_SIDE = 64
"""Smallest side in pixels for LPIPS, whose trunks downsample five times."""


@dataclass(frozen=True)
class Lpips:
    """An LPIPS network with the names of its trunk and of its weights file."""

    network: nn.Module
    net: Trunk
    weights: str

    @property
    def metric(self) -> str:
        """The name of the metric, including the trunk."""
        return f"lpips_{self.net}"


@dataclass
class Scores:
    """The values of all metrics, filled texture by texture.

    Attributes:
        values: ``values[map][metric][method][id]``.
        confusions: ``confusions[method][id]``, pixel counts by (true class, predicted class).
        left_out: Textures by map that were not scored, since they have no ground truth.
    """

    lpips: Lpips | None = None
    values: dict[str, dict[str, dict[str, dict[str, float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    )
    confusions: dict[str, dict[str, Int64[Tensor, "k k"]]] = field(default_factory=lambda: defaultdict(dict))
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add_map(
        self,
        name: str,
        methods: Mapping[str, Float[Tensor, "c h w"]],
        *,
        sample: str,
        truth: Float[Tensor, "c h w"],
        valid: Bool[Tensor, "1 h w"],
    ) -> None:
        """Score each method's prediction of one map of one texture; all are in [0, 1]."""
        for method, prediction in methods.items():
            for metric, value in self._metrics(name, prediction, truth, valid).items():
                self.values[name][metric][method][sample] = value

    def add_classes(
        self, methods: Mapping[str, Int64[Tensor, "h w"]], *, sample: str, truth: Int64[Tensor, "h w"]
    ) -> None:
        """Add each method's confusion matrix; a texture without any true class is left out."""
        matrices = {
            method: confusion(predicted, truth, num_classes=len(CLASSES))
            for method, predicted in methods.items()
        }
        if not any(matrix.any() for matrix in matrices.values()):
            self.left_out[SEGMENTATION].append(sample)
            return
        for method, matrix in matrices.items():
            self.confusions[method][sample] = matrix

    def leave_out(self, maps: Iterable[str], *, sample: str) -> None:
        """Record that a texture has no ground truth for some maps."""
        for name in maps:
            self.left_out[name].append(sample)

    def _metrics(self, name: str, prediction: Tensor, truth: Tensor, valid: Tensor) -> dict[str, float]:
        found = texture_metrics(prediction, truth, valid)
        if TARGETS[name].relative and found:
            fitted = fit_height(prediction, truth=truth, valid=valid)
            errors = texture_metrics(fitted, truth, valid)
            found |= {f"{key}_fitted": errors[key] for key in ("mae", "rmse")}
        is_colour = MAPS[name].encoding is Encoding.SRGB
        if is_colour and self.lpips is not None and min(truth.shape[-2:]) >= _LPIPS_SIDE:
            with torch.no_grad():
                distance = lpips_distance(self.lpips.network, prediction[None], truth[None])
            found[self.lpips.metric] = float(distance)
        return found


def fit_height(
    prediction: Float[Tensor, "1 h w"], *, truth: Float[Tensor, "1 h w"], valid: Bool[Tensor, "1 h w"]
) -> Float[Tensor, "1 h w"]:
    """Scale and shift a predicted height to fit the truth by least squares.

    The scale is at least 0, so that an inverted height is not corrected. The result is not clipped to [0, 1].
    """
    x, y = prediction[valid].double(), truth[valid].double()
    spread = (x - x.mean()).square().sum()
    covariance = ((x - x.mean()) * (y - y.mean())).sum()
    scale = (covariance / spread).clamp_min(0.0) if spread > 1e-12 else torch.zeros_like(spread)
    fitted: Tensor = (prediction.double() - x.mean()) * scale + y.mean()
    return fitted.float()
