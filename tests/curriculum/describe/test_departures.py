"""A plan lists where a runtime departs from the declared training."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.describe.departures import departures
from pbrlib.maps import CLASSES
from pbrlib.train.runtimespec import RuntimeSpec
from tests.curriculum.conftest import ROUGHNESS, SEGFORMER, row

EXACT = RuntimeSpec(workers=1)


def found(text: str, phase: str, runtime: RuntimeSpec) -> list[str]:
    """The first word or words of each departure."""
    curriculum = parse_curriculum(text)
    sentences = departures(curriculum.phases[phase], curriculum.task, runtime)
    return [sentence.partition(":")[0] for sentence in sentences]


def sentence(text: str, phase: str, runtime: RuntimeSpec) -> str:
    curriculum = parse_curriculum(text)
    return "; ".join(departures(curriculum.phases[phase], curriculum.task, runtime))


def test_one_worker_in_fp32_on_a_cpu_trains_as_written() -> None:
    assert found(SEGFORMER, "S0", EXACT) == []
    large = ROUGHNESS.replace("crop: 64", "crop: 192")
    assert found(large, "M0", EXACT) == []
    assert found(large, "M0", RuntimeSpec(workers=4)) == [], "every term of a map is exact over workers"
    assert found(large, "M0", RuntimeSpec(workers=2, batch_per_device=1)) == []


@pytest.mark.parametrize(
    ("runtime", "over"),
    [
        (RuntimeSpec(workers=2), "each worker's share"),
        (RuntimeSpec(workers=2, batch_per_device=2), "each worker's micro-batch"),
        (RuntimeSpec(workers=1, batch_per_device=2), "each micro-batch"),
        (RuntimeSpec(workers=2, device="cuda", batch_per_device=2), "each micro-batch"),
        (RuntimeSpec(workers=2, device="cuda"), None),
    ],
)
def test_batch_norm_uses_less_than_the_batch(runtime: RuntimeSpec, over: str | None) -> None:
    said = sentence(SEGFORMER, "S0", runtime)
    assert ("batch norm" in said) == (over is not None)
    if over is not None:
        assert f"batch norm of the decoder: statistics of {over}, not of the batch" in said
    assert "batch norm" not in sentence(ROUGHNESS, "M0", runtime), "a U-Net has none"


def test_a_class_too_rare_for_its_weight_is_named_where_the_loss_weighs_classes() -> None:
    curriculum = parse_curriculum(SEGFORMER)
    pixels = tuple({"stone": 10**6, "wood": 10**3}.get(name, 0) for name in CLASSES)
    rows = [replace(row("a"), class_pixels=pixels)]
    (text,) = departures(curriculum.phases["S0"], curriculum.task, EXACT, rows=rows)
    assert "wood 0.001 of the pixels of the most frequent class" in text
    other = parse_curriculum(ROUGHNESS.replace("crop: 64", "crop: 192"))
    assert departures(other.phases["M0"], other.task, EXACT, rows=rows) == []


def test_ratio_terms_are_taken_per_micro_batch() -> None:
    runtime = RuntimeSpec(workers=1, batch_per_device=3)
    assert "Dice: computed per micro-batch over all workers (3 per step)" in sentence(
        SEGFORMER, "S0", runtime
    )
    text = ROUGHNESS.replace("roughness", "metallic").replace("focal_relative_l1: 1.0", "focal_tversky: 0.7")
    assert "FocalTversky: computed per micro-batch over all workers (2 per step)" in sentence(
        text, "M0", runtime
    )
    assert "FocalTversky" not in sentence(text, "M0", EXACT)


def test_precision_is_named() -> None:
    large = ROUGHNESS.replace("crop: 64", "crop: 192")
    for device in ("cpu", "cuda"):
        assert found(large, "M0", RuntimeSpec(device=device)) == []
        assert found(large, "M0", RuntimeSpec(device=device, precision="bf16")) == ["bf16"]


@pytest.mark.parametrize(("crop", "scales"), [(32, 2), (64, 3), (160, 4)])
def test_small_crops_have_fewer_scales(crop: int, scales: int) -> None:
    said = sentence(ROUGHNESS.replace("crop: 64", f"crop: {crop}"), "M0", EXACT)
    assert said == f"MS-SSIM: only the {scales} finest of 5 scales, since a crop has {crop} px"


def test_lpips_with_random_weights_is_a_departure() -> None:
    text = ROUGHNESS.replace("roughness", "albedo").replace(", albedo: albedo.A2", "")
    text = text.replace("    starts_from: albedo.A2\n", "")
    text = text.replace("{focal_relative_l1: 1.0, ms_ssim: 0.1, sobel: 0.02}", "{lpips: LPIPS}")
    assert found(text.replace("LPIPS", "{weight: 1, backbone: random}"), "M0", EXACT) == ["LPIPS"]
    assert found(text.replace("LPIPS", "{weight: 1, backbone: a.pth}"), "M0", EXACT) == []
