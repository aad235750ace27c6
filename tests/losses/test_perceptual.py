import copy
import logging
from functools import partial
from pathlib import Path

import lpips
import pytest
import torch
import torch.nn.functional as F
from pytorch_msssim import ms_ssim as library_ms_ssim
from pytorch_msssim import ssim
from torch.autograd import gradcheck

from pbrlib.errors import ConfigError
from pbrlib.losses import perceptual


def pictures(side, *, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(side)
    x = torch.rand(2, channels, side, side, generator=generator, dtype=dtype)
    noise = 0.2 * torch.randn(x.shape, generator=generator, dtype=dtype)
    return x, (x + noise).clamp(0, 1)


@pytest.mark.parametrize("side", [176, 177])
def test_own_scales_agree_with_the_library_where_it_works(side):
    x, y = pictures(side)
    theirs = library_ms_ssim(x, y, data_range=1.0, size_average=False)
    torch.testing.assert_close(perceptual.ms_ssim_of_scales(x, y, scales=5), theirs)
    torch.testing.assert_close(perceptual.ms_ssim(x, y), theirs)
    x, y = x.double(), y.double()
    gradients = [
        torch.autograd.grad(value(x, z).sum(), z)[0]
        for value in (perceptual.ms_ssim, partial(library_ms_ssim, data_range=1.0, size_average=False))
        for z in [y.clone().requires_grad_()]
    ]
    # The library's window is rounded to fp32.
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-4 * gradients[1].abs().max().item())


@pytest.mark.parametrize(
    ("side", "scales"), [(11, 1), (20, 1), (21, 2), (64, 3), (128, 4), (160, 4), (161, 5)]
)
def test_number_of_scales_follows_the_window(side, scales):
    assert perceptual.num_scales(side) == scales


def test_one_scale_is_plain_ssim():
    x, y = pictures(20)
    expected = ssim(x, y, data_range=1.0, size_average=False)
    torch.testing.assert_close(perceptual.ms_ssim(x, y), expected)


@pytest.mark.parametrize("side", [32, 64, 176])
def test_ms_ssim_of_equal_pictures_is_one_and_falls_with_noise(side):
    x, y = pictures(side, channels=1)
    torch.testing.assert_close(perceptual.ms_ssim(x, x), torch.ones(2))
    assert (perceptual.ms_ssim(x, y) < 0.99).all()


def test_ms_ssim_refuses_a_picture_below_its_window():
    with pytest.raises(ValueError, match="larger crop"):
        perceptual.ms_ssim(*pictures(10))


def test_fewer_scales_are_logged_once(caplog):
    perceptual._announced.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            perceptual.ms_ssim(*pictures(64))
    assert len(caplog.records) == 1
    assert "3 of 5 scales at 64 px" in caplog.text


def test_ms_ssim_gradient_is_finite_where_structure_is_inverted():
    x, _ = pictures(64)
    inverted = (1 - x).requires_grad_()
    perceptual.ms_ssim(inverted, x).sum().backward()
    assert inverted.grad is not None
    assert inverted.grad.isfinite().all()


@pytest.mark.parametrize("side", [16, 64])
@pytest.mark.parametrize("start", ["inverted", "flat", "unrelated"])
def test_ms_ssim_gradient_restores_lost_or_inverted_structure(side, start):
    x, _ = pictures(side, channels=1)
    target = F.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False)
    target = (target - target.amin()) / (target.amax() - target.amin())
    given = {"inverted": 1 - target, "flat": torch.full_like(target, 0.5), "unrelated": target.flip(0)}[start]
    seen = given.clone().requires_grad_()
    optimizer = torch.optim.Adam([seen], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        (1 - perceptual.ms_ssim(seen, target)).sum().backward()
        assert (seen.grad.flatten(1).abs().amax(dim=1) > 0).all()
        optimizer.step()
    assert (perceptual.ms_ssim(seen, target) > 0.5).all()


def test_ms_ssim_keeps_its_value_of_zero_where_structure_is_inverted():
    x, _ = pictures(64)
    assert perceptual.ms_ssim(1 - x, x).tolist() == [0.0, 0.0]


def test_masked_ms_ssim_of_a_quarter_equals_that_of_the_cropped_quarter_except_at_its_border():
    side = 176
    x, y = pictures(2 * side, channels=1)
    valid = torch.zeros(2, 1, 2 * side, 2 * side, dtype=torch.bool)
    valid[..., :side, :side] = True
    scales = perceptual.num_scales(side)
    own = perceptual.ms_ssim_of_scales(x[..., :side, :side], y[..., :side, :side], scales=scales)
    masked = perceptual.ms_ssim_of_scales(x, y, valid, scales=scales)
    torch.testing.assert_close(masked, own, rtol=0, atol=0.03)


def test_ms_ssim_gradient_is_that_of_the_value():
    x, y = pictures(12, channels=1, dtype=torch.float64)
    x, y = x[:1], y[:1].requires_grad_()
    assert gradcheck(lambda z: perceptual.ms_ssim(z, x), (y,), fast_mode=True)


@pytest.fixture(scope="module")
def random_lpips():
    return perceptual.load_lpips(net="alex", backbone="random")


def test_lpips_is_zero_for_equal_pictures_and_positive_for_others(random_lpips):
    x, y = pictures(64)
    assert perceptual.lpips_distance(random_lpips, x, x).tolist() == [0.0, 0.0]
    assert (perceptual.lpips_distance(random_lpips, x, y) > 0).all()


def alexnet_features(weights, x):
    """The five activations that LPIPS compares, written out from AlexNet's table of layers."""
    features = []
    for number, (stride, padding) in {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}.items():
        if number in (3, 6):
            x = F.max_pool2d(x, kernel_size=3, stride=2)
        weight, bias = weights[f"{number}.weight"], weights[f"{number}.bias"]
        x = F.conv2d(x, weight, bias, stride=stride, padding=padding).clamp_min(0.0)
        features.append(x)
    return features


@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_is_the_weighted_distance_of_unit_features(random_lpips, channels):
    x, y = pictures(64, channels=channels)
    weights = {n.split(".", 2)[2]: p for n, p in random_lpips.named_parameters() if n.startswith("net.")}
    assert len(weights) == 10
    mean, deviation = (
        torch.tensor(of_imagenet).view(1, 3, 1, 1)
        for of_imagenet in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    features = [alexnet_features(weights, (z.expand(-1, 3, -1, -1) - mean) / deviation) for z in (x, y)]
    published = torch.load(Path(lpips.__file__).parent / "weights/v0.1/alex.pth", map_location="cpu")
    expected = torch.zeros(2)
    for number, pair in enumerate(zip(*features, strict=True)):
        one, other = (F.normalize(activation, dim=1) for activation in pair)
        head = published[f"lin{number}.model.1.weight"].view(1, -1, 1, 1)
        expected += ((one - other).square() * head).sum(dim=1).mean(dim=(1, 2))
    torch.testing.assert_close(perceptual.lpips_distance(random_lpips, y, x), expected, rtol=1e-5, atol=0)


def test_lpips_gradient_is_that_of_the_value(random_lpips):
    network = copy.deepcopy(random_lpips).double()
    x, y = pictures(32, dtype=torch.float64)
    x, y = x[:1], y[:1].requires_grad_()
    # The distance times 100, so that its gradient is large beside the tolerance.
    assert gradcheck(lambda z: 100 * perceptual.lpips_distance(network, z, x), (y,), fast_mode=True)


def test_a_random_trunk_is_reproducible_and_does_not_use_the_global_generator(random_lpips):
    before = torch.get_rng_state()
    again = perceptual.load_lpips(net="alex", backbone="random")
    assert torch.equal(before, torch.get_rng_state())
    for one, other in zip(random_lpips.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_lpips_is_frozen(random_lpips):
    assert not random_lpips.training
    assert not any(parameter.requires_grad for parameter in random_lpips.parameters())


def test_lpips_reads_torchvisions_weights_and_nothing_else(tmp_path, random_lpips):
    weights = {
        f"features.{name.split('.', 2)[2]}": torch.full_like(value, 0.01)
        for name, value in random_lpips.named_parameters()
        if name.startswith("net.")
    }
    torch.save(weights, tmp_path / "alexnet.pth")
    filled = perceptual.load_lpips(net="alex", backbone=str(tmp_path / "alexnet.pth"))
    assert all((p == 0.01).all() for n, p in filled.named_parameters() if n.startswith("net."))
    with pytest.raises(ConfigError, match="which does not exist"):
        perceptual.load_lpips(net="alex", backbone=str(tmp_path / "absent.pth"))
    del weights["features.3.weight"]
    torch.save(weights, tmp_path / "short.pth")
    with pytest.raises(ConfigError, match=r"features\.3\.weight"):
        perceptual.load_lpips(net="alex", backbone=str(tmp_path / "short.pth"))
    torch.save({**weights, "features.3.weight": torch.zeros(192, 64, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"got shape \(192, 64, 3, 3\); expected shape \(192, 64, 5, 5\)"):
        perceptual.load_lpips(net="alex", backbone=str(tmp_path / "other.pth"))
    torch.save([*weights.values()], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match="with a list; expected weights by name"):
        perceptual.load_lpips(net="alex", backbone=str(tmp_path / "list.pth"))
    (tmp_path / "noise.pth").write_bytes(b"no weights at all")
    with pytest.raises(ConfigError, match="which torch cannot load"):
        perceptual.load_lpips(net="alex", backbone=str(tmp_path / "noise.pth"))


def test_heads_are_the_published_ones(random_lpips):
    published = torch.load(Path(lpips.__file__).parent / "weights/v0.1/alex.pth", map_location="cpu")
    torch.testing.assert_close(random_lpips.lin0.model[1].weight.data, published["lin0.model.1.weight"])
