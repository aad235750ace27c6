"""One figure for each map, metric, method and texture; a confusion matrix for each method and texture.

The networks' answer is one method, each trivial baseline another: all are scored by the same code.
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
"""The method that baselines are compared with."""

SEGMENTATION = "segmentation"

_LPIPS_SIDE = 64
"""Pixels of the shortest side that LPIPS is computed for: its trunks halve five times."""


@dataclass(frozen=True)
class Lpips:
    """A perceptual metric, and the names of its trunk and of the file that its weights came from."""

    network: nn.Module
    net: Trunk
    weights: str

    @property
    def metric(self) -> str:
        """The name of the figure says which net it is."""
        return f"lpips_{self.net}"


@dataclass
class Scores:
    """Figures by map, metric, method and texture, filled texture by texture.

    Attributes:
        values: ``values[map][metric][method][id]``.
        confusions: ``confusions[method][id]``, pixel counts by (true class, predicted class).
        left_out: Textures by map that were not scored, as they have no truth.
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
        """Scores what each method says of one map of one texture, all in [0, 1]."""
        for method, prediction in methods.items():
            for metric, value in self._metrics(name, prediction, truth, valid).items():
                self.values[name][metric][method][sample] = value

    def add_classes(
        self, methods: Mapping[str, Int64[Tensor, "h w"]], *, sample: str, truth: Int64[Tensor, "h w"]
    ) -> None:
        """Counts the pixels of each method's class ids; a truth without any class is left out."""
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
        """Notes that a texture has no truth for some maps."""
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
    """The prediction after the scale and shift that bring it nearest to the truth, by least squares.

    The scale is at least 0: bumps that were taken for dents are no match. Not cut to [0, 1].
    """
    x, y = prediction[valid].double(), truth[valid].double()
    spread = (x - x.mean()).square().sum()
    covariance = ((x - x.mean()) * (y - y.mean())).sum()
    scale = (covariance / spread).clamp_min(0.0) if spread > 1e-12 else torch.zeros_like(spread)
    fitted: Tensor = (prediction.double() - x.mean()) * scale + y.mean()
    return fitted.float()
