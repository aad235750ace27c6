import logging
from pathlib import Path

import lpips
import pytest
import torch
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
    # The library leaves the published weights at their sum of 1.0001.
    torch.testing.assert_close(perceptual.ms_ssim_of_scales(x, y, scales=5), theirs, rtol=1e-4, atol=0)
    torch.testing.assert_close(perceptual.ms_ssim(x, y), theirs)


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


def test_fewer_scales_are_said_once(caplog):
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


def test_random_trunk_is_the_same_each_time_and_leaves_the_generator_alone(random_lpips):
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
    with pytest.raises(ConfigError, match="there is no file"):
        perceptual.load_lpips(net="alex", backbone=str(tmp_path / "absent.pth"))
    del weights["features.3.weight"]
    torch.save(weights, tmp_path / "short.pth")
    with pytest.raises(ConfigError, match=r"features\.3\.weight"):
        perceptual.load_lpips(net="alex", backbone=str(tmp_path / "short.pth"))
    (tmp_path / "noise.pth").write_bytes(b"no weights at all")
    with pytest.raises(ConfigError, match="not a torch weights file"):
        perceptual.load_lpips(net="alex", backbone=str(tmp_path / "noise.pth"))


def test_heads_are_the_published_ones(random_lpips):
    published = torch.load(Path(lpips.__file__).parent / "weights/v0.1/alex.pth", map_location="cpu")
    torch.testing.assert_close(random_lpips.lin0.model[1].weight.data, published["lin0.model.1.weight"])
