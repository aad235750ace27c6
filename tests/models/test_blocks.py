from __future__ import annotations

import torch

from pbrlib.models.blocks import blur_downsample, resize
from pbrlib.models.film import FiLM


def test_halving_keeps_a_constant_up_to_the_border() -> None:
    x = torch.full((1, 3, 8, 12), 0.7)
    torch.testing.assert_close(blur_downsample(x), torch.full((1, 3, 4, 6), 0.7))


def test_halving_weighs_pixels_by_the_binomial() -> None:
    impulse = torch.zeros(1, 1, 1, 16).expand(1, 1, 16, 16).clone()
    impulse[..., 6] = 1.0
    columns = blur_downsample(impulse)[0, 0, 4]
    torch.testing.assert_close(columns, torch.tensor([0, 0, 1, 3, 0, 0, 0, 0]) / 8)


def test_halving_removes_the_finest_stripes() -> None:
    stripes = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 1, 16, 16)
    inner = blur_downsample(stripes)[..., 1:-1]
    torch.testing.assert_close(inner, torch.zeros_like(inner))


def test_halving_and_doubling_leave_a_ramp_in_place() -> None:
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    back = resize(blur_downsample(ramp), (32, 32))
    torch.testing.assert_close(back[..., 4:-4], ramp[..., 4:-4])


def film(*, dropout: float = 0.0) -> FiLM:
    """Return a FiLM with random weights."""
    torch.manual_seed(0)
    layer = FiLM(4, 6, dropout=dropout)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


def test_film_starts_as_the_identity() -> None:
    x, cond = torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)
    assert torch.equal(FiLM(4, 6, dropout=0.1)(x, cond, keep=None), x)


def test_film_is_the_published_formula() -> None:
    layer, x, cond = film(), torch.randn(2, 4, 8, 8), torch.randn(2, 6, 8, 8)
    expected = x * (1 + torch.tanh(layer.gamma(cond))) + layer.beta(cond)
    torch.testing.assert_close(layer(x, cond, keep=None), expected)


def test_masked_sample_passes_unchanged_and_its_neighbour_does_not() -> None:
    x, cond = torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)
    out = film()(x, cond, keep=torch.tensor([0.0, 1.0]))
    assert torch.equal(out[0], x[0])
    assert not torch.allclose(out[1], x[1])


def test_no_conditioning_is_the_same_as_all_masked() -> None:
    x, cond = torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)
    assert torch.equal(film()(x, None, keep=None), film()(x, cond, keep=torch.zeros(2)))


def test_dropped_conditioning_still_gives_every_parameter_a_gradient() -> None:
    layer = film()
    layer(torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4), keep=torch.zeros(2)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


def test_conditioning_dropout_acts_at_its_rate_and_only_while_training() -> None:
    layer = film(dropout=0.25)
    x, cond = torch.randn(1, 4, 1, 1).expand(4000, 4, 1, 1), torch.randn(1, 6, 1, 1).expand(4000, 6, 1, 1)
    torch.manual_seed(0)
    dropped = (layer(x, cond, keep=None) == x).flatten(1).all(dim=1).float().mean()
    assert 0.22 < float(dropped) < 0.28
    assert not (layer.eval()(x, cond, keep=None) == x).any()
