import pytest
from pydantic import ValidationError

from pbrlib.losses.lossspec import LossSpec
from pbrlib.maps import CLASSES


def test_bare_number_is_short_for_a_weight():
    short = LossSpec.model_validate({"l1": 1, "ms_ssim": 0.15})
    long = LossSpec.model_validate({"l1": {"weight": 1.0}, "ms_ssim": {"weight": 0.15}})
    assert short == long


def test_formula_reads_like_the_recipe():
    spec = LossSpec.model_validate(
        {"cross_entropy": 0.6, "focal": {"weight": 0.25, "gamma": {"stone": 2.0}}, "dice": 0.15}
    )
    assert spec.formula() == "0.6 CE(w_c) + 0.25 Focal(w_c, gamma per class) + 0.15 Dice"


def test_formula_shows_a_weight_that_moves():
    spec = LossSpec.model_validate({"l1": 1, "normal_reproj": {"weight": 0.15, "final_weight": 0.1}})
    assert spec.formula() == "1 L1 + 0.15 -> 0.1 NormalReproj"


def test_formula_never_calls_a_random_trunk_lpips():
    spec = LossSpec.model_validate({"lpips": {"weight": 0.05, "backbone": "random"}})
    assert spec.formula() == "0.05 LPIPS_random(alex)"


def test_a_class_missing_in_a_mapping_has_the_default_gamma():
    focal = LossSpec.model_validate({"focal": {"weight": 1, "gamma": {"wood": 1.5}}}).focal
    assert focal is not None
    gammas = dict(zip(CLASSES, focal.gammas(CLASSES), strict=True))
    assert gammas.pop("wood") == 1.5
    assert set(gammas.values()) == {2.0}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({}, "no term"),
        ({"l1": -1}, "greater than or equal to 0"),
        ({"l1": float("nan")}, "finite"),
        ({"l2": 1}, "Extra inputs"),
        ({"l1": True}, "valid dictionary"),
        ({"lpips": 0.1}, "Field required"),
        ({"focal": {"weight": 1, "gamma": {"stoen": 1}}}, "got 'stoen'; expected one of the classes"),
        ({"bce": {"weight": 1, "pos_weight": 16}, "focal_bce": 1}, "both weight the positive pixels"),
    ],
)
def test_mistakes_are_errors(declared, message):
    with pytest.raises(ValidationError, match=message):
        LossSpec.model_validate(declared)
