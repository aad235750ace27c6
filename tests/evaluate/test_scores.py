import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.evaluate.compare import compare
from pbrlib.evaluate.scores import NET, Lpips, Scores, fit_height
from pbrlib.losses.perceptual import load_lpips
from pbrlib.maps import IGNORE

VALID = torch.ones(1, 16, 16, dtype=torch.bool)


@given(scale=st.floats(0.05, 3.0), shift=st.floats(-1.0, 1.0))
def test_fitted_height_does_not_depend_on_scale_and_shift(scale: float, shift: float) -> None:
    generator = torch.Generator().manual_seed(1)
    prediction, truth = (torch.rand(1, 16, 16, generator=generator) for _ in range(2))
    plain = fit_height(prediction, truth=truth, valid=VALID)
    changed = fit_height(prediction * scale + shift, truth=truth, valid=VALID)
    torch.testing.assert_close(plain, changed, atol=1e-4, rtol=0)


def test_height_of_another_scale_and_shift_is_perfect_once_fitted() -> None:
    truth = torch.linspace(0, 1, 256).view(1, 16, 16)
    scores = Scores()
    scores.add_map("height", {NET: truth * 0.3 + 0.5}, sample="a", truth=truth, valid=VALID)
    found = scores.values["height"]
    assert found["rmse_fitted"][NET]["a"] == pytest.approx(0.0, abs=1e-6)
    assert found["rmse"][NET]["a"] > 0.1


def test_inverted_height_gains_nothing_but_the_mean() -> None:
    truth = torch.linspace(0, 1, 256).view(1, 16, 16)
    fitted = fit_height(1.0 - truth, truth=truth, valid=VALID)
    torch.testing.assert_close(fitted, torch.full_like(truth, 0.5))


def test_flat_prediction_of_height_is_fitted_to_the_mean_of_the_truth() -> None:
    truth = torch.linspace(0, 1, 256).view(1, 16, 16)
    fitted = fit_height(torch.full_like(truth, 0.2), truth=truth, valid=VALID)
    torch.testing.assert_close(fitted, torch.full_like(truth, 0.5))


def test_figures_of_a_constant_error_are_known() -> None:
    truth = torch.full((3, 16, 16), 0.5)
    scores = Scores()
    scores.add_map("albedo", {NET: truth + 0.25}, sample="a", truth=truth, valid=VALID)
    found = scores.values["albedo"]
    assert found["mae"][NET]["a"] == pytest.approx(0.25)
    assert found["rmse"][NET]["a"] == pytest.approx(0.25)


def test_there_is_no_lpips_without_weights_and_its_name_says_the_net_with_them() -> None:
    truth = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    lpips = Lpips(load_lpips(net="squeeze", backbone="random"), "squeeze", "a.pth")
    without, with_it = Scores(), Scores(lpips=lpips)
    for scores in (without, with_it):
        scores.add_map("albedo", {NET: truth}, sample="a", truth=truth, valid=valid)
        scores.add_map("ao", {NET: truth[:1]}, sample="a", truth=truth[:1], valid=valid)
    assert set(without.values["albedo"]) == {"mae", "rmse", "ssim"}
    assert with_it.values["albedo"]["lpips_squeeze"][NET]["a"] == pytest.approx(0.0, abs=1e-6)
    assert set(with_it.values["ao"]) == {"mae", "rmse", "ssim"}


def test_mean_iou_comes_from_one_matrix_and_not_from_means_of_textures() -> None:
    scores = Scores()
    first, second = torch.zeros(4, 4, dtype=torch.int64), torch.zeros(4, 4, dtype=torch.int64)
    second[0] = 1
    everywhere = torch.zeros(4, 4, dtype=torch.int64)
    for name, truth in (("a", first), ("b", second)):
        scores.add_classes({NET: everywhere}, sample=name, truth=truth)
    figures = {found.metric: found.methods[NET].mean for found in compare(scores)}
    # 28 of 32 pixels are class 0, 32 are called so; 4 pixels of class 1 are missed.
    assert figures["iou/ceramic"] == pytest.approx(28 / 32)
    assert figures["iou/fabric"] == 0.0
    assert figures["miou"] == pytest.approx(14 / 32)


def test_a_texture_without_any_class_is_left_out_of_segmentation() -> None:
    scores = Scores()
    unknown = torch.full((4, 4), IGNORE)
    scores.add_classes({NET: torch.zeros(4, 4, dtype=torch.int64)}, sample="a", truth=unknown)
    assert scores.left_out["segmentation"] == ["a"]
    assert compare(scores) == []
