"""The module twin of each loss term: what it counts, what it sums, and its value from global sums."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pbrlib.losses import perceptual, segmentation, terms
from pbrlib.losses.spec import (
    BceSpec,
    FocalBceSpec,
    FocalRelativeL1Spec,
    FocalSpec,
    FocalTverskySpec,
    LpipsSpec,
    NormalReprojSpec,
    TermSpec,
)
from pbrlib.losses.target import LossContext, LossTarget, Output


class Term(nn.Module):
    """One term of a loss, split so that sums and counts can be added up over ranks and micro-batches."""

    def __init__(self, spec: Any, context: LossContext, *, name: str) -> None:
        super().__init__()
        self.spec, self.name = spec, name

    def weight(self, progress: float) -> float:
        """The weight at a point of the phase, 0 its first step, 1 its last."""
        weight: float = self.spec.weight
        return weight

    @abstractmethod
    def counts(self, target: LossTarget) -> Float[Tensor, " counts"]:
        """What the term averages over in this batch, from the target alone."""

    @abstractmethod
    def sums(self, output: Output, target: LossTarget) -> Float[Tensor, " sums"]:
        """Differentiable sums over this batch."""

    @abstractmethod
    def value(
        self,
        sums: Float[Tensor, " sums"],
        counts: Float[Tensor, " counts"],
        step_counts: Float[Tensor, " counts"],
    ) -> Float[Tensor, ""]:
        """The part of these sums in the value of the step; the whole of it where the counts are equal."""


class _Mean(Term):
    """A term that is a sum of means; exact over any split of a step."""

    def value(self, sums: Tensor, counts: Tensor, step_counts: Tensor) -> Tensor:
        """The sums over the counts of the step."""
        return (sums / step_counts.clamp_min(1.0)).sum()


class _Ratio(Term):
    """A ratio of sums over a micro-batch of all ranks, which counts by its samples."""

    def counts(self, target: LossTarget) -> Tensor:
        """The samples with a pixel that counts."""
        return _samples(target).sum().float().view(1)

    def value(self, sums: Tensor, counts: Tensor, step_counts: Tensor) -> Tensor:
        """The ratio, times the share of the step's samples."""
        return self._ratio(sums) * (counts / step_counts.clamp_min(1.0)).sum()

    @abstractmethod
    def _ratio(self, sums: Tensor) -> Tensor: ...


class _Entropy(_Mean):
    """A weighted entropy per pixel, over the number of labelled pixels (not over the sum of weights)."""

    class_weights: Tensor

    def __init__(self, spec: TermSpec, context: LossContext, *, name: str) -> None:
        super().__init__(spec, context, name=name)
        weights = context.class_weights
        weights = torch.ones(len(context.classes)) if weights is None else weights.float()
        self.register_buffer("class_weights", weights, persistent=False)

    def counts(self, target: LossTarget) -> Tensor:
        """The labelled pixels."""
        return target.labelled.sum().float().view(1)

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """The weighted entropy."""
        return (self._entropy(output, target) * target.labelled).sum().view(1)

    @abstractmethod
    def _entropy(self, output: Output, target: LossTarget) -> Tensor: ...


class CrossEntropy(_Entropy):
    """:func:`pbrlib.losses.segmentation.cross_entropy`."""

    def _entropy(self, output: Output, target: LossTarget) -> Tensor:
        return segmentation.cross_entropy(
            output.log_probabilities, target.class_ids, class_weights=self.class_weights
        )


class Focal(_Entropy):
    """:func:`pbrlib.losses.segmentation.focal`."""

    gammas: Tensor

    def __init__(self, spec: FocalSpec, context: LossContext, *, name: str) -> None:
        super().__init__(spec, context, name=name)
        self.register_buffer("gammas", torch.tensor(spec.gammas(context.classes)), persistent=False)

    def _entropy(self, output: Output, target: LossTarget) -> Tensor:
        return segmentation.focal(
            output.log_probabilities, target.class_ids, class_weights=self.class_weights, gammas=self.gammas
        )


class Dice(_Ratio):
    """:func:`pbrlib.losses.segmentation.dice`."""

    def counts(self, target: LossTarget) -> Tensor:
        """The samples with a labelled pixel."""
        return target.labelled.flatten(1).any(dim=1).sum().float().view(1)

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """:func:`pbrlib.losses.segmentation.dice_sums`."""
        return segmentation.dice_sums(output.log_probabilities, target.class_ids, target.labelled).flatten()

    def _ratio(self, sums: Tensor) -> Tensor:
        return segmentation.dice(sums.view(3, -1))


class FocalTversky(_Ratio):
    """:func:`pbrlib.losses.segmentation.focal_tversky`."""

    spec: FocalTverskySpec

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """:func:`pbrlib.losses.segmentation.tversky_sums`."""
        return segmentation.tversky_sums(output.image, target.image, target.valid)

    def _ratio(self, sums: Tensor) -> Tensor:
        return segmentation.focal_tversky(
            sums,
            false_positive=self.spec.false_positive,
            false_negative=self.spec.false_negative,
            gamma=self.spec.gamma,
        )


class _Errors(_Mean):
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
        return terms.pairs(target.valid)

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return terms.tv(output.image)


class GradDiff(Tv):
    """:func:`pbrlib.losses.terms.grad_diff`."""

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return terms.grad_diff(output.image, target.image)


class Sobel(_Errors):
    """:func:`pbrlib.losses.terms.sobel`."""

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return (terms.windows(target.valid),)

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return (terms.sobel(output.image, target.image),)


class NormalReproj(Sobel):
    """:func:`pbrlib.losses.terms.normal_reproj`."""

    spec: NormalReprojSpec

    def weight(self, progress: float) -> float:
        """Moves linearly to the final weight, where there is one."""
        final = self.spec.final_weight
        start = self.spec.weight
        return start if final is None else start + (final - start) * progress

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        assert target.normal is not None, (
            "normal_reproj compares with the input normal, and the target has none"
        )
        return (terms.normal_reproj(output.image, target.normal, target.valid),)


class LaplacianPyramid(_Errors):
    """:func:`pbrlib.losses.terms.laplacian_pyramid`."""

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return terms.pyramid_weights(target.valid, dtype=target.image.dtype)

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return terms.laplacian_pyramid(output.image, target.image, target.valid)


class _PerSample(_Mean):
    """A distance per sample; pixels that do not count are made equal to the target."""

    def counts(self, target: LossTarget) -> Tensor:
        """The samples with a pixel that counts."""
        return _samples(target).sum().float().view(1)

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """The distances of the samples that count."""
        compared = torch.where(target.valid, output.image, target.image)
        return (self._distance(compared, target.image) * _samples(target)).sum().view(1)

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


def _samples(target: LossTarget) -> Tensor:
    """Which samples have a pixel that counts. Shape (n,)."""
    return target.valid.flatten(1).any(dim=1)


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
"""The module of each field of :class:`pbrlib.losses.spec.LossSpec`."""
