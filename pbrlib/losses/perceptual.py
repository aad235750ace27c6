"""MS-SSIM and LPIPS per sample, so that the mean over samples is exact for any split of the batch."""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pbrlib.errors import ConfigError
from pbrlib.geometry.fields import masked_mean
from pbrlib.losses.base import MeanTerm, counted_samples
from pbrlib.losses.lossspec import LpipsSpec, Trunk
from pbrlib.losses.target import LossContext, LossTarget, Output

log = logging.getLogger(__name__)

WINDOW, SIGMA_PX = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
"""The constants of SSIM: Wang, Bovik, Sheikh and Simoncelli 2004."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The exponents of the scales: Wang, Simoncelli and Bovik 2003; they sum to 1.0001."""

MIN_FACTOR = 1e-3
"""Below this factor the slope of the power, infinite at 0, is replaced by the factor's weight."""


class _PerSample(MeanTerm):
    """A mean over samples of a distance between two images, computed on the valid pixels."""

    def counts(self, target: LossTarget) -> Tensor:
        """Return the number of samples with a valid pixel."""
        return counted_samples(target).sum().float().view(1)

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """Return the sum of the distances of the samples with a valid pixel."""
        distance = self._distance(output.image, target.image, target.valid)
        return (distance * counted_samples(target)).sum().view(1)

    @abstractmethod
    def _distance(self, image: Tensor, target: Tensor, valid: Tensor) -> Tensor: ...


def ms_ssim(
    prediction: Float[Tensor, "n c h w"],
    target: Float[Tensor, "n c h w"],
    valid: Bool[Tensor, "n 1 h w"] | None = None,
) -> Float[Tensor, " n"]:
    """Return the multi-scale structural similarity of each sample, averaged over channels, in [0, 1].

    Images are in [0, 1], with sides of at least 11 px. Over 160 px the value equals pytorch-msssim's. Smaller
    images, which pytorch-msssim rejects, use as many of the finest scales as fit, with weights renormalised
    to sum 1, and a warning is logged once outside of compiled graphs. Raises ValueError for a side under
    11 px.
    """
    side = min(prediction.shape[-2:])
    scales = num_scales(side)
    if not torch.compiler.is_compiling():  # a log call would break the graph; `pbr plan` shows the scales too
        _warn_of_scales(side, scales)
    return ms_ssim_of_scales(prediction, target, valid, scales=scales)


def num_scales(side_px: int) -> int:
    """Return how many scales fit: at the coarsest scale the side must be larger than the window."""
    if side_px < WINDOW:
        raise ValueError(f"MS-SSIM: got {side_px} px; expected {WINDOW} px or more. Use a larger crop.")
    fitting = [n for n in range(1, len(SCALE_WEIGHTS) + 1) if side_px > (WINDOW - 1) * 2 ** (n - 1)]
    return fitting[-1]


_announced: set[int] = set()


def _warn_of_scales(side_px: int, scales: int) -> None:
    """Log a warning, once per image size, if not all scales fit."""
    if scales < len(SCALE_WEIGHTS) and side_px not in _announced:
        _announced.add(side_px)
        log.warning("MS-SSIM uses %d of 5 scales at %d px: all need over 160 px.", scales, side_px)


def ms_ssim_of_scales(
    prediction: Float[Tensor, "n c h w"],
    target: Float[Tensor, "n c h w"],
    valid: Bool[Tensor, "n 1 h w"] | None = None,
    *,
    scales: int,
) -> Float[Tensor, " n"]:
    """Return MS-SSIM over the ``scales`` finest scales: the product of factors to the power of their weights.

    The factor of a scale is the mean of contrast times structure; that of the coarsest scale is the mean of
    the whole similarity. Windows and downsampling average valid pixels only, and a window's weight is its
    share of valid pixels.
    """
    if valid is None:
        valid = torch.ones_like(prediction[:, :1], dtype=torch.bool)
    weights = prediction.new_tensor(SCALE_WEIGHTS[:scales])
    weights = weights if scales == len(SCALE_WEIGHTS) else weights / weights.sum()
    x, y = (torch.where(valid, image, 0.0) for image in (prediction, target))
    share, factors = valid.to(prediction.dtype), []
    for scale in range(scales):
        similarity, contrast = _similarity(x, y, share)
        if scale == scales - 1:
            factors.append(similarity)
            break
        factors.append(contrast)
        x, y, share = _halved(x, y, share)
    return _product(torch.stack(factors), weights.view(-1, 1, 1)).mean(dim=1)


def _similarity(x: Tensor, y: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of similarity and of contrast times structure over windows, per sample and channel.

    ``share`` (N, 1, H, W) in [0, 1] is the weight of each pixel.
    """
    total = _windowed(share)
    mean_x, mean_y, square_x, square_y, product = (
        _windowed(z * share) / total.clamp_min(1e-6) for z in (x, y, x * x, y * y, x * y)
    )
    variances = square_x - mean_x * mean_x + square_y - mean_y * mean_y
    contrast = (2.0 * (product - mean_x * mean_y) + C2) / (variances + C2)
    luminance = (2.0 * mean_x * mean_y + C1) / (mean_x * mean_x + mean_y * mean_y + C1)
    over, windows = (2, 3), total.sum(dim=(2, 3)).clamp_min(1e-6)
    return (luminance * contrast * total).sum(over) / windows, (contrast * total).sum(over) / windows


def _windowed(x: Tensor) -> Tensor:
    """Return the Gaussian means of all windows inside the image."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    taps = torch.exp(-offsets.square() / (2.0 * SIGMA_PX**2))
    taps = (taps / taps.sum()).expand(x.shape[1], 1, 1, WINDOW)
    return F.conv2d(F.conv2d(x, taps, groups=x.shape[1]), taps.transpose(2, 3), groups=x.shape[1])


def _halved(x: Tensor, y: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Halve both images, averaging valid pixels; odd sides are padded with a line of zeros at the start."""
    padding = [side % 2 for side in x.shape[2:]]
    halved = F.avg_pool2d(share, 2, padding=padding, count_include_pad=False)
    x, y = (F.avg_pool2d(z * share, 2, padding=padding) / halved.clamp_min(1e-6) for z in (x, y))
    return x, y, halved


def _product(factors: Float[Tensor, "s n c"], weights: Float[Tensor, "s 1 1"]) -> Float[Tensor, "n c"]:
    """Return the product of ``max(factor, 0) ** weight``, with a gradient also for factors up to 0.

    A factor up to 0 means lost or inverted structure, and the power has no slope there. Its gradient is that
    of ``weight * factor``, and the gradients of the other factors use :data:`MIN_FACTOR` in its place.
    """
    value = factors.relu().pow(weights).prod(dim=0)
    sloped = factors.clamp_min(MIN_FACTOR).pow(weights).prod(dim=0)
    sloped = sloped + (weights * factors.clamp_max(MIN_FACTOR)).sum(dim=0)
    return value.detach() + (sloped - sloped.detach())


class OneMinusMsSsim(_PerSample):
    """The mean of ``1 -`` :func:`ms_ssim`."""

    def _distance(self, image: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return 1.0 - ms_ssim(image, target, valid)


def load_lpips(*, net: Trunk, backbone: str) -> nn.Module:
    """Load LPIPS (Zhang et al. 2018) with its published linear heads, frozen; nothing is downloaded.

    Args:
        net: Architecture of the trunk.
        backbone: A file of torchvision's ImageNet weights for that trunk, or ``random`` for random weights
            with a fixed seed. A random trunk gives no true LPIPS and must be reported as ``lpips_random``.

    Raises:
        ConfigError: The file is missing, or does not hold the weights of the trunk.
    """
    import lpips  # imports torchvision, which takes two seconds and which only this term needs

    weights = None if backbone == "random" else _trunk_weights(Path(backbone))
    with torch.random.fork_rng(devices=()), warnings.catch_warnings():
        # lpips passes the deprecated argument `pretrained` to torchvision.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision.models._utils")
        torch.manual_seed(0)
        network: nn.Module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    if weights is not None:
        _fill_trunk(network, weights, place=f"lpips.backbone: {backbone}", net=net)
    return network.requires_grad_(False).eval()


def lpips_distance(
    network: nn.Module, prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]
) -> Float[Tensor, " n"]:
    """Return the perceptual distance of each sample, 0 for equal images; sRGB or grey in [0, 1]."""
    if prediction.shape[1] == 1:
        prediction, target = prediction.expand(-1, 3, -1, -1), target.expand(-1, 3, -1, -1)
    distance: Tensor = network(prediction, target, normalize=True)
    return distance.flatten()


def _trunk_weights(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ConfigError(
            f"lpips.backbone: got {path}, which does not exist; expected a file of torchvision's weights. "
            "Set the path of the trunk's weights, or `random`."
        )
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many exception types for damaged files
        raise ConfigError(
            f"lpips.backbone: got {path}, which torch cannot load ({error}); expected a weights file. "
            "Use the .pth of torchvision."
        ) from error
    if not isinstance(weights, Mapping):
        raise ConfigError(
            f"lpips.backbone: got {path} with a {type(weights).__name__}; expected weights by name. "
            "Use the .pth of torchvision."
        )
    return weights


def _fill_trunk(network: nn.Module, weights: Mapping[str, Any], *, place: str, net: str) -> None:
    """Copy every ``features.I.*`` of torchvision to ``net.sliceK.I.*`` of lpips."""
    for name, parameter in network.named_parameters():
        if not name.startswith("net."):
            continue
        source = "features." + name.split(".", maxsplit=2)[2]
        value = weights.get(source)
        if value is None or value.shape != parameter.shape:
            found = "nothing" if value is None else f"shape {tuple(value.shape)}"
            raise ConfigError(
                f"{place}: {source}: got {found}; expected shape {tuple(parameter.shape)}. "
                f"Give torchvision's weights of {net}."
            )
        parameter.data.copy_(value)


class Lpips(_PerSample):
    """The mean of :func:`lpips_distance`, with ignored pixels set to the target's mean in both pictures.

    The term is named ``lpips_random`` if its trunk is random.

    The frozen network is not a submodule, so that it stays in eval mode, out of the saved state, and out of
    DDP's broadcasts.
    """

    def __init__(self, spec: LpipsSpec, context: LossContext, *, name: str) -> None:
        super().__init__(spec, context, name=f"{name}_random" if spec.backbone == "random" else name)
        self._frozen = (load_lpips(net=spec.net, backbone=spec.backbone),)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Lpips:
        self._frozen[0]._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _distance(self, image: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        level = masked_mean(target, valid)
        return lpips_distance(self._frozen[0], *(torch.where(valid, x, level) for x in (image, target)))
