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
from jaxtyping import Float
from pytorch_msssim import ms_ssim as library_ms_ssim
from pytorch_msssim.ssim import _fspecial_gauss_1d, _ssim
from torch import Tensor, nn

from pbrlib.errors import ConfigError
from pbrlib.losses.base import MeanTerm, counted_samples
from pbrlib.losses.lossspec import LpipsSpec, Trunk
from pbrlib.losses.target import LossContext, LossTarget, Output

log = logging.getLogger(__name__)

WINDOW = 11
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Wang, Simoncelli and Bovik 2003."""


class _PerSample(MeanTerm):
    """A distance per sample; pixels that do not count are made equal to the target."""

    def counts(self, target: LossTarget) -> Tensor:
        """The samples with a pixel that counts."""
        return counted_samples(target).sum().float().view(1)

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """The distances of the samples that count."""
        compared = torch.where(target.valid, output.image, target.image)
        return (self._distance(compared, target.image) * counted_samples(target)).sum().view(1)

    @abstractmethod
    def _distance(self, image: Tensor, target: Tensor) -> Tensor: ...


def ms_ssim(prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Multi-scale structural similarity of each sample, the mean over its channels, at most 1.

    Images in [0, 1], at least 11 px a side. Over 160 px this is pytorch-msssim; below, which it refuses,
    the same with as many of the finest scales as fit and their weights renormalised to sum 1; outside of a
    compiled graph a warning says so once. Raises ValueError for a side under 11 px.
    """
    side = min(prediction.shape[-2:])
    scales = num_scales(side)
    if not torch.compiler.is_compiling():  # a log call would split the graph; `pbr plan` names the scales too
        _warn_of_scales(side, scales)
    if scales == len(SCALE_WEIGHTS):
        value: Tensor = library_ms_ssim(prediction, target, data_range=1.0, size_average=False)
        return value
    return ms_ssim_of_scales(prediction, target, scales=scales)


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
    prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], *, scales: int
) -> Float[Tensor, " n"]:
    """MS-SSIM over the ``scales`` finest scales, from pytorch-msssim's SSIM; with 5 equal to its own."""
    weights = prediction.new_tensor(SCALE_WEIGHTS[:scales])
    weights = weights / weights.sum()
    window = _fspecial_gauss_1d(WINDOW, 1.5).repeat([prediction.shape[1], 1, 1, 1])
    factors = []
    for scale in range(scales):
        similarity, contrast = _ssim(prediction, target, data_range=1.0, win=window, size_average=False)
        if scale == scales - 1:
            factors.append(similarity.relu())
            break
        factors.append(contrast.relu())
        padding = [side % 2 for side in prediction.shape[2:]]
        prediction = F.avg_pool2d(prediction, 2, padding=padding)
        target = F.avg_pool2d(target, 2, padding=padding)
    return torch.stack(factors).pow(weights.view(-1, 1, 1)).prod(dim=0).mean(dim=1)


class OneMinusMsSsim(_PerSample):
    """``1 -`` :func:`ms_ssim`."""

    def _distance(self, image: Tensor, target: Tensor) -> Tensor:
        return 1.0 - ms_ssim(image, target)


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
    """:func:`lpips_distance`; named ``lpips_random`` where its trunk is random.

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

    def _distance(self, image: Tensor, target: Tensor) -> Tensor:
        return lpips_distance(self._frozen[0], image, target)
