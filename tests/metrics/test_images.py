import numpy as np
import pytest
import torch
from pytorch_msssim import ssim as library_ssim

from pbrlib.metrics.images import map_metrics, texture_metrics


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 3, 3, 16, 16, generator=generator).unbind()
    return prediction, target, torch.rand(3, 1, 16, 16, generator=generator) > 0.3


def test_l1_and_rmse_are_over_the_valid_pixels(maps):
    prediction, target, valid = maps
    difference = (prediction - target).numpy()[np.broadcast_to(valid.numpy(), prediction.shape)]
    found = map_metrics(prediction, target, valid, prefix="val/all/albedo").results()
    assert found["val/all/albedo/l1"] == pytest.approx(np.abs(difference).mean(), rel=1e-5)
    assert found["val/all/albedo/rmse"] == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-5)


def test_ssim_is_the_librarys_where_everything_counts(maps):
    prediction, target, valid = maps
    found = map_metrics(prediction, target, torch.ones_like(valid), prefix="a").results()
    assert found["a/ssim"] == pytest.approx(library_ssim(prediction, target, data_range=1.0).item(), rel=1e-5)


def test_pixels_that_do_not_count_change_no_metric(maps):
    prediction, target, valid = maps
    other = torch.where(valid, prediction, 0.0)
    before = map_metrics(prediction, target, valid, prefix="a").results()
    assert map_metrics(other, target, valid, prefix="a").results() == pytest.approx(before)


def test_equal_maps_have_no_error(maps):
    _, target, valid = maps
    found = map_metrics(target, target, valid, prefix="a").results()
    assert found == pytest.approx({"a/l1": 0.0, "a/rmse": 0.0, "a/ssim": 1.0})


def test_set_of_textures_equals_their_merged_sums(maps):
    prediction, target, valid = maps
    whole = map_metrics(prediction, target, valid, prefix="a")
    first = map_metrics(prediction[:1], target[:1], valid[:1], prefix="a")
    first.merge(map_metrics(prediction[1:], target[1:], valid[1:], prefix="a"))
    assert first.results() == pytest.approx(whole.results(), rel=1e-6)


def test_texture_without_a_valid_pixel_has_no_metrics(maps):
    prediction, target, valid = maps
    assert texture_metrics(prediction[0], target[0], torch.zeros_like(valid[0])) == {}


def test_metrics_of_one_texture(maps):
    prediction, target, valid = maps
    whole = map_metrics(prediction[:1], target[:1], valid[:1], prefix="a").results()
    found = texture_metrics(prediction[0], target[0], valid[0])
    assert found == {"mae": whole["a/l1"], "rmse": whole["a/rmse"], "ssim": whole["a/ssim"]}


def test_texture_smaller_than_the_window_has_no_ssim():
    small = torch.rand(1, 1, 8, 8)
    found = map_metrics(small, small, torch.ones(1, 1, 8, 8, dtype=torch.bool), prefix="a").results()
    assert set(found) == {"a/l1", "a/rmse"}
