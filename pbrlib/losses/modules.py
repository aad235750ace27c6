"""The module of each loss term: terms that compare images here, those over classes beside them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pbrlib.losses import perceptual, terms
from pbrlib.losses.base import MeanTerm, Term, counted_samples
from pbrlib.losses.class_terms import CrossEntropy, Dice, Focal, FocalTversky
from pbrlib.losses.lossspec import (
    BceSpec,
    FocalBceSpec,
    FocalRelativeL1Spec,
    LpipsSpec,
    NormalReprojSpec,
)
from pbrlib.losses.target import LossContext, LossTarget, Output


class _Errors(MeanTerm):
    """Errors per pixel with the weights that average them; by default one part, over the valid pixels."""

    def counts(self, target: LossTarget) -> Tensor:
        """The weights of each part, once a channel."""
        return terms.weight_totals(self._weights(target), channels=target.image.shape[1])

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """The weighted errors of each part."""
        return terms.weighted_totals(self._errors(output, target), self._weights(target))

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return (target.valid,)

    @abstractmethod
    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]: ...


class L1(_Errors):
    """:func:`pbrlib.losses.terms.l1`."""

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return (terms.l1(output.image, target.image),)


class FocalRelativeL1(_Errors):
    """:func:`pbrlib.losses.terms.focal_relative_l1`."""

    spec: FocalRelativeL1Spec

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        gamma = self.spec.gamma
        return (terms.focal_relative_l1(output.image, target.image, target.valid, gamma=gamma),)


class Bce(_Errors):
    """:func:`pbrlib.losses.terms.bce`."""

    spec: BceSpec

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return (terms.bce(output.logits, target.image, pos_weight=self.spec.pos_weight),)


class FocalBce(_Errors):
    """:func:`pbrlib.losses.terms.focal_bce`."""

    spec: FocalBceSpec

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        spec = self.spec
        return (terms.focal_bce(output.logits, target.image, alpha=spec.alpha, gamma=spec.gamma),)


class Tv(_Errors):
    """:func:`pbrlib.losses.terms.tv`."""

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return terms.pairs(target.off_seams)

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return terms.tv(output.image)


class GradDiff(Tv):
    """:func:`pbrlib.losses.terms.grad_diff`."""

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return terms.grad_diff(output.image, target.image)


class Sobel(_Errors):
    """:func:`pbrlib.losses.terms.sobel`."""

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return (terms.windows(target.off_seams),)

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return (terms.sobel(output.image, target.image),)


class NormalReproj(Sobel):
    """:func:`pbrlib.losses.terms.normal_reproj`."""

    spec: NormalReprojSpec

    def weight(self, progress: float) -> float:
        """Moves linearly to the final weight, where there is one; exact at both ends."""
        start, final = self.spec.weight, self.spec.final_weight
        return start if final is None else start * (1.0 - progress) + final * progress

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        assert target.normal is not None, (
            "normal_reproj compares with the input normal, and the target has none"
        )
        counted, regions = target.off_seams, target.regions
        return (terms.normal_reproj(output.image, target.normal, counted, regions=regions),)


class LaplacianPyramid(_Errors):
    """:func:`pbrlib.losses.terms.laplacian_pyramid`."""

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return terms.pyramid_weights(target.off_seams, dtype=target.image.dtype)

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return terms.laplacian_pyramid(output.image, target.image, target.off_seams)


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


class OneMinusMsSsim(_PerSample):
    """``1 -`` :func:`pbrlib.losses.perceptual.ms_ssim`."""

    def _distance(self, image: Tensor, target: Tensor) -> Tensor:
        return 1.0 - perceptual.ms_ssim(image, target)


class Lpips(_PerSample):
    """:func:`pbrlib.losses.perceptual.lpips_distance`; named ``lpips_random`` where its trunk is random.

    The frozen network is not a submodule: it stays in eval mode, out of the state that is saved, and out
    of what DDP sends around.
    """

    def __init__(self, spec: LpipsSpec, context: LossContext, *, name: str) -> None:
        super().__init__(spec, context, name=f"{name}_random" if spec.backbone == "random" else name)
        self._frozen = (perceptual.load_lpips(net=spec.net, backbone=spec.backbone),)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Lpips:
        self._frozen[0]._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _distance(self, image: Tensor, target: Tensor) -> Tensor:
        return perceptual.lpips_distance(self._frozen[0], image, target)


TERMS: dict[str, type[Term]] = {
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "dice": Dice,
    "l1": L1,
    "ms_ssim": OneMinusMsSsim,
    "lpips": Lpips,
    "grad_diff": GradDiff,
    "tv": Tv,
    "sobel": Sobel,
    "normal_reproj": NormalReproj,
    "laplacian_pyramid": LaplacianPyramid,
    "focal_relative_l1": FocalRelativeL1,
    "focal_bce": FocalBce,
    "focal_tversky": FocalTversky,
    "bce": Bce,
}
"""The module of each field of :class:`pbrlib.losses.lossspec.LossSpec`."""
