import pytest
import torch

from pbrlib.losses.base import mean
from pbrlib.losses.target import LossTarget

IMAGE_LOSS = {
    "l1": 1.0,
    "ms_ssim": 0.1,
    "grad_diff": 0.25,
    "tv": 0.06,
    "sobel": 0.15,
    "normal_reproj": {"weight": 0.15, "final_weight": 0.1},
    "laplacian_pyramid": 0.1,
    "focal_relative_l1": 0.5,
}
METALLIC_LOSS = {"focal_bce": 1.0, "focal_tversky": 0.7, "bce": 0.1}
SEGMENTATION_LOSS = {
    "cross_entropy": 0.6,
    "focal": {"weight": 0.3, "gamma": {"ceramic": 0.5, "stone": 2.0}},
    "dice": 0.1,
}


def image_batch(samples, *, side=24, seed=0):
    """Logits and target of a one-channel map, a part of its pixels not valid."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, 1, side, side, generator=generator)
    normal = torch.randn(samples, 3, side, side, generator=generator) * 0.3
    normal[:, 2] = 1.0
    valid = torch.rand(samples, 1, side, side, generator=generator) > 0.02
    target = LossTarget(
        map=torch.rand(samples, 1, side, side, generator=generator),
        labels=None,
        valid=valid,
        normal=torch.nn.functional.normalize(normal, dim=1),
    )
    return logits, target


def label_batch(samples, *, side=8, seed=0):
    """Logits and labels, a part of them ignored, another part not valid."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, 7, side, side, generator=generator)
    labels = torch.randint(0, 5, (samples, side, side), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) > 0.8] = 255
    valid = torch.rand(samples, 1, side, side, generator=generator) > 0.1
    return logits, LossTarget(map=None, labels=labels, valid=valid)


def part(target, start, stop):
    """Return some samples of a target."""

    def cut(x):
        return None if x is None else x[start:stop]

    return LossTarget(
        map=cut(target.map),
        labels=cut(target.labels),
        valid=cut(target.valid),
        normal=cut(target.normal),
        regions=cut(target.regions),
    )


def mean_of(errors, weights):
    """Return the mean of a term over one or more parts."""
    errors = errors if isinstance(errors, tuple | list) else (errors,)
    weights = weights if isinstance(weights, tuple | list) else (weights,)
    return mean(errors, weights)


def value(errors, weights):
    return mean_of(errors, weights).item()


def tiny(*shape):
    generator = torch.Generator().manual_seed(11)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def leaf():
    """A map small enough for gradcheck; compared with TARGET where MASK is set."""
    return (tiny(1, 1, 5, 6).flip(-1) * 0.9 + 0.05).requires_grad_()


TARGET = tiny(1, 1, 5, 6)
MASK = torch.ones(1, 1, 5, 6, dtype=torch.bool)
MASK[..., 2, 3] = False


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(3)
    return torch.rand(2, 2, 3, 14, 18, generator=generator, dtype=torch.float64).unbind()


@pytest.fixture
def everything(pictures):
    return torch.ones(2, 1, 14, 18, dtype=torch.bool)


@pytest.fixture
def batch():
    """Log probabilities of four classes, and labels of three of them."""
    generator = torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(2, 4, 6, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 6, 7), generator=generator)
    return logits.log_softmax(dim=1), labels


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
