"""Perceptual distances per sample, so that a mean over samples is exact under any split of the batch."""

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
from pbrlib.geometry.fields import mean_of_counted
from pbrlib.losses.base import MeanTerm, counted_samples
from pbrlib.losses.lossspec import LpipsSpec, Trunk
from pbrlib.losses.target import LossContext, LossTarget, Output

log = logging.getLogger(__name__)

WINDOW, SIGMA_PX = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
"""Wang, Bovik, Sheikh and Simoncelli 2004."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Wang, Simoncelli and Bovik 2003; they sum to 1.0001."""

LEAST_FACTOR = 1e-3
"""Below it the slope of a factor's power, infinite at 0, is replaced by the factor's weight."""


class _PerSample(MeanTerm):
    """A distance per sample, of the pixels that count alone."""

    def counts(self, target: LossTarget) -> Tensor:
        """The samples with a pixel that counts."""
        return counted_samples(target).sum().float().view(1)

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """The distances of the samples that count."""
        distance = self._distance(output.image, target.image, target.valid)
        return (distance * counted_samples(target)).sum().view(1)

    @abstractmethod
    def _distance(self, image: Tensor, target: Tensor, valid: Tensor) -> Tensor: ...


def ms_ssim(
    prediction: Float[Tensor, "n c h w"],
    target: Float[Tensor, "n c h w"],
    valid: Bool[Tensor, "n 1 h w"] | None = None,
) -> Float[Tensor, " n"]:
    """Multi-scale structural similarity of each sample, the mean over its channels, in [0, 1].

    Images in [0, 1], at least 11 px a side. Over 160 px the value is pytorch-msssim's; below, which it
    refuses, the same with as many of the finest scales as fit and their weights renormalised to sum 1;
    outside of a compiled graph a warning says so once. Raises ValueError for a side under 11 px.
    """
    side = min(prediction.shape[-2:])
    scales = num_scales(side)
    if not torch.compiler.is_compiling():  # a log call would split the graph; `pbr plan` names the scales too
        _warn_of_scales(side, scales)
    return ms_ssim_of_scales(prediction, target, valid, scales=scales)


def num_scales(side_px: int) -> int:
    """How many scales fit: the window has to be smaller than the side at the coarsest one."""
    if side_px < WINDOW:
        raise ValueError(f"MS-SSIM of {side_px} px: the window has {WINDOW} px. Use a larger crop.")
    fitting = [n for n in range(1, len(SCALE_WEIGHTS) + 1) if side_px > (WINDOW - 1) * 2 ** (n - 1)]
    return fitting[-1]


_announced: set[int] = set()


def _warn_of_scales(side_px: int, scales: int) -> None:
    """Log once a size that it is too small for all scales."""
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
    """MS-SSIM over the ``scales`` finest scales: a factor a scale, each to the power of its weight.

    The factors are the means of contrast times structure, at the coarsest scale of the whole similarity. What
    ``valid`` leaves out has no part in them: windows and halvings average the pixels that count, and a window
    weighs what counts within it.
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
    """Means over the windows of the similarity and of contrast times structure, for each sample and channel.

    ``share`` (N, 1, H, W) in [0, 1] is how much each pixel counts.
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
    """Gaussian means over all windows that lie inside the picture."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    taps = torch.exp(-offsets.square() / (2.0 * SIGMA_PX**2))
    taps = (taps / taps.sum()).expand(x.shape[1], 1, 1, WINDOW)
    return F.conv2d(F.conv2d(x, taps, groups=x.shape[1]), taps.transpose(2, 3), groups=x.shape[1])


def _halved(x: Tensor, y: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both pictures at half the size, averaged over what counts; odd sides have a line of 0 before them."""
    padding = [side % 2 for side in x.shape[2:]]
    halved = F.avg_pool2d(share, 2, padding=padding, count_include_pad=False)
    x, y = (F.avg_pool2d(z * share, 2, padding=padding) / halved.clamp_min(1e-6) for z in (x, y))
    return x, y, halved


def _product(factors: Float[Tensor, "s n c"], weights: Float[Tensor, "s 1 1"]) -> Float[Tensor, "n c"]:
    """The product of ``max(factor, 0) ** weight``, with a gradient for factors of 0 and below too.

    There, where structure is lost or inverted, the power has no slope: the gradient is that of
    ``weight * factor``, and the other factors see :data:`LEAST_FACTOR` in its place.
    """
    value = factors.relu().pow(weights).prod(dim=0)
    sloped = factors.clamp_min(LEAST_FACTOR).pow(weights).prod(dim=0)
    sloped = sloped + (weights * factors.clamp_max(LEAST_FACTOR)).sum(dim=0)
    return value.detach() + (sloped - sloped.detach())


class OneMinusMsSsim(_PerSample):
    """``1 -`` :func:`ms_ssim`."""

    def _distance(self, image: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return 1.0 - ms_ssim(image, target, valid)


def load_lpips(*, net: Trunk, backbone: str) -> nn.Module:
    """LPIPS (Zhang et al. 2018) with its published linear heads, frozen; nothing is downloaded.

    Args:
        net: The trunk.
        backbone: A file of torchvision's ImageNet weights for that trunk, or ``random``: a trunk with
            random weights, the same ones each time. That is no LPIPS and must be reported as
            ``lpips_random``.

    Raises:
        ConfigError: the file is not there, or does not hold the weights of the trunk.
    """
    import lpips  # two seconds of torchvision that only this term needs

    weights = None if backbone == "random" else _trunk_weights(Path(backbone))
    with torch.random.fork_rng(devices=()), warnings.catch_warnings():
        # lpips asks torchvision for its trunk by the deprecated argument `pretrained`.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision.models._utils")
        torch.manual_seed(0)
        network: nn.Module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    if weights is not None:
        _fill_trunk(network, weights, place=f"lpips.backbone: {backbone}", net=net)
    return network.requires_grad_(False).eval()


def lpips_distance(
    network: nn.Module, prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]
) -> Float[Tensor, " n"]:
    """Perceptual distance of each sample, 0 for equal images; sRGB or grey in [0, 1]."""
    if prediction.shape[1] == 1:
        prediction, target = prediction.expand(-1, 3, -1, -1), target.expand(-1, 3, -1, -1)
    distance: Tensor = network(prediction, target, normalize=True)
    return distance.flatten()


def _trunk_weights(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ConfigError(
            f"lpips.backbone: there is no file {path}. Give torchvision's weights of the trunk, or `random`."
        )
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the bytes lead it to
        raise ConfigError(
            f"lpips.backbone: {path} is not a torch weights file ({error}). Give the .pth of torchvision."
        ) from error
    if not isinstance(weights, Mapping):
        raise ConfigError(
            f"lpips.backbone: {path} holds a {type(weights).__name__}, no weights by name. "
            "Give the .pth of torchvision."
        )
    return weights


def _fill_trunk(network: nn.Module, weights: Mapping[str, Any], *, place: str, net: str) -> None:
    """Fills ``net.sliceK.I.*`` of lpips from ``features.I.*`` of torchvision, every one of them."""
    for name, parameter in network.named_parameters():
        if not name.startswith("net."):
            continue
        source = "features." + name.split(".", maxsplit=2)[2]
        value = weights.get(source)
        if value is None or value.shape != parameter.shape:
            came = "nothing" if value is None else f"shape {tuple(value.shape)}"
            raise ConfigError(
                f"{place}: {source} should have shape {tuple(parameter.shape)}, and there is {came}. "
                f"Give torchvision's weights of {net}."
            )
        parameter.data.copy_(value)


class Lpips(_PerSample):
    """:func:`lpips_distance` with the pixels that do not count at the target's mean in both pictures.

    It is named ``lpips_random`` where its trunk is random.

    The frozen network is not a submodule: it stays in eval mode, out of the state that is saved, and out
    of what DDP sends around.
    """

    def __init__(self, spec: LpipsSpec, context: LossContext, *, name: str) -> None:
        super().__init__(spec, context, name=f"{name}_random" if spec.backbone == "random" else name)
        self._frozen = (load_lpips(net=spec.net, backbone=spec.backbone),)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Lpips:
        self._frozen[0]._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _distance(self, image: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        level = mean_of_counted(target, valid)
        return lpips_distance(self._frozen[0], *(torch.where(valid, x, level) for x in (image, target)))
