import dataclasses

import pytest
import torch

from pbrlib.losses.base import RatioTerm
from pbrlib.losses.lossspec import LossSpec
from pbrlib.losses.recipe import LossReport, Recipe
from pbrlib.losses.target import LossContext, LossTarget
from pbrlib.losses.termmodules import module_of
from pbrlib.losses.termspec import ClassTermSpec
from tests.losses.conftest import IMAGE_LOSS, METALLIC_LOSS, SEGMENTATION_LOSS, image_batch, label_batch, part

TERMS = LossSpec.term_types()
CLASS_TERMS = {name for name, spec in TERMS.items() if issubclass(spec, ClassTermSpec)}
RATIOS = {name for name, spec in TERMS.items() if issubclass(module_of(spec.model_construct()), RatioTerm)}


def recipe(declared, **context):
    return Recipe(LossSpec.model_validate(declared), LossContext(**context))


def only(name):
    """Return a loss with one term."""
    return recipe({name: {"weight": 1.0, "backbone": "random"} if name == "lpips" else 1.0})


def batch_for(name, samples=2, *, seed=0):
    if name in CLASS_TERMS:
        return label_batch(samples, seed=seed)
    return image_batch(samples, side=64 if name == "lpips" else 24, seed=seed)


@pytest.mark.parametrize("name", TERMS)
def test_term_has_a_positive_value_and_a_gradient(name):
    logits, target = batch_for(name)
    report = only(name)(logits.requires_grad_(), target)
    report.total.backward()
    assert report.total.item() > 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("name", TERMS)
def test_measured_loss_is_that_of_a_step_and_nothing_counts_without_a_pixel(name):
    logits, target = batch_for(name)
    loss = only(name)
    value, counted = loss.measure(logits.requires_grad_(), target)
    assert value.requires_grad is False
    assert counted.item() == 1.0
    torch.testing.assert_close(value, loss(logits, target).total.detach())
    none = dataclasses.replace(target, valid=torch.zeros_like(target.valid))
    value, counted = loss.measure(logits, none)
    assert counted.item() == 0.0
    assert value.isfinite()


@pytest.mark.parametrize("name", TERMS)
def test_invalid_pixels_change_neither_value_nor_gradient(name):
    logits, target = batch_for(name)
    loss = only(name)
    value = loss(logits.requires_grad_(), target).total
    value.backward()
    hidden = (~target.valid).expand_as(logits)
    assert logits.grad is not None
    assert logits.grad[hidden].abs().max() == 0.0
    other = torch.where(hidden, 5.0, logits.detach())
    torch.testing.assert_close(loss(other, target).total, value.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", sorted(set(TERMS) - CLASS_TERMS - {"ms_ssim", "lpips"}))
def test_target_of_pixels_that_do_not_count_is_never_read(name):
    logits, target = batch_for(name)
    other = dataclasses.replace(target, map=torch.where(target.valid, target.map, 0.77))
    loss = only(name)
    assert loss(logits, target).total.item() == pytest.approx(loss(logits, other).total.item(), rel=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_batch_without_valid_pixels_gives_zero_in_the_graph(name):
    logits, target = batch_for(name)
    target = dataclasses.replace(target, valid=torch.zeros_like(target.valid))
    loss = only(name)
    report = loss(logits.requires_grad_(), target)
    report.total.backward()
    assert report.total.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0.0
    assert loss.counts(target).abs().max() == 0.0


@pytest.mark.parametrize("name", TERMS)
def test_ignored_samples_do_not_dilute_the_others(name):
    logits, target = batch_for(name, samples=3)
    valid = target.valid.clone()
    valid[2] = False
    loss = only(name)
    with_ignored = loss(logits, dataclasses.replace(target, valid=valid)).total
    torch.testing.assert_close(with_ignored, loss(logits[:2], part(target, 0, 2)).total)


@pytest.mark.parametrize("name", sorted(set(TERMS) - RATIOS - {"lpips"}))
def test_micro_batches_of_means_add_up_to_the_full_batch(name):
    logits, target = batch_for(name, samples=5)
    loss = only(name)
    whole_logits = logits.clone().requires_grad_()
    whole = loss(whole_logits, target)
    whole.total.backward()
    logits.requires_grad_()
    parts = [(0, 1), (1, 3), (3, 5)]
    step_counts = sum(loss.counts(part(target, *ends)) for ends in parts)
    reports = [
        loss(logits[start:stop], part(target, start, stop), step_counts=step_counts) for start, stop in parts
    ]
    for report in reports:
        report.total.backward()
    merged = LossReport.merge(reports)
    torch.testing.assert_close(merged.total, whole.total.detach())
    torch.testing.assert_close(merged.terms[name], whole.terms[name])
    torch.testing.assert_close(logits.grad, whole_logits.grad)


def test_ratios_are_shared_by_samples():
    logits, target = label_batch(3)
    loss = only("dice")
    step_counts = loss.counts(target)
    parts = [(0, 1), (1, 3)]
    alone = [loss(logits[a:b], part(target, a, b)).total for a, b in parts]
    shares = [loss(logits[a:b], part(target, a, b), step_counts=step_counts).total for a, b in parts]
    torch.testing.assert_close(torch.stack(shares), torch.stack(alone) * torch.tensor([1 / 3, 2 / 3]))


def test_total_is_the_weighted_sum_of_the_terms():
    logits, target = image_batch(2)
    report = recipe(METALLIC_LOSS)(logits, target)
    assert set(report.terms) == set(METALLIC_LOSS)
    expected = sum(weight * report.terms[name] for name, weight in METALLIC_LOSS.items())
    torch.testing.assert_close(report.total, expected)
    assert not any(value.requires_grad for value in report.terms.values())


def test_class_weights_apply_to_cross_entropy_and_focal_but_not_to_their_divisor():
    logits, target = label_batch(2)
    once = recipe(SEGMENTATION_LOSS)(logits, target).terms
    twice = recipe(SEGMENTATION_LOSS, class_weights=torch.full((7,), 2.0))(logits, target).terms
    for name, factor in (("cross_entropy", 2.0), ("focal", 2.0), ("dice", 1.0)):
        torch.testing.assert_close(twice[name], factor * once[name])


def test_moving_weight_moves_linearly_over_the_phase():
    logits, target = image_batch(2)
    loss = recipe({"normal_reproj": {"weight": 0.15, "final_weight": 0.1}})
    term = loss(logits, target).terms["normal_reproj"].item()
    for progress, weight in ((0.0, 0.15), (0.5, 0.125), (1.0, 0.1)):
        assert loss(logits, target, progress=progress).total.item() == pytest.approx(weight * term)


def test_random_trunk_is_reported_as_such():
    logits, target = batch_for("lpips")
    assert set(only("lpips")(logits, target).terms) == {"lpips_random"}


def test_recipe_adds_nothing_to_state_or_parameters():
    loss = recipe({**SEGMENTATION_LOSS, "lpips": {"weight": 1.0, "backbone": "random"}})
    assert not loss.state_dict()
    assert not list(loss.parameters())


def test_frozen_trunk_follows_the_recipe_to_its_type_and_stays_in_eval_mode():
    loss = only("lpips").to(torch.float64).train()
    logits, target = batch_for("lpips")
    doubled = dataclasses.replace(target, map=target.map.double())
    values = {loss(logits.double(), doubled).total.item() for _ in range(2)}
    assert len(values) == 1


@pytest.mark.parametrize("declared", [IMAGE_LOSS, METALLIC_LOSS, SEGMENTATION_LOSS])
def test_loss_is_float32_under_autocast(declared):
    logits, target = label_batch(2) if declared is SEGMENTATION_LOSS else image_batch(2)
    loss = recipe(declared)
    exact = loss(logits.bfloat16().float(), target).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = loss(logits.bfloat16(), target).total
    assert under_autocast.dtype == torch.float32
    torch.testing.assert_close(under_autocast, exact)


@pytest.mark.parametrize("name", TERMS)
def test_memory_format_changes_nothing(name):
    logits, target = batch_for(name)
    if target.map is not None:
        logits = logits.expand(-1, 3, -1, -1) if name != "normal_reproj" else logits
        target = dataclasses.replace(target, map=target.map.expand_as(logits).contiguous())
    loss = only(name)
    last = logits.to(memory_format=torch.channels_last)
    torch.testing.assert_close(loss(last, target).total, loss(logits.contiguous(), target).total)


@pytest.mark.parametrize(
    "declared", [SEGMENTATION_LOSS, pytest.param({**IMAGE_LOSS, **METALLIC_LOSS}, marks=pytest.mark.slow)]
)
def test_loss_compiles_to_one_graph(declared):
    logits, target = label_batch(2) if declared is SEGMENTATION_LOSS else image_batch(2)
    loss = recipe(declared)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target).total, loss(logits, target).total)


def test_a_target_without_a_required_field_is_an_assertion_error():
    logits, target = image_batch(1)
    with pytest.raises(AssertionError, match="input normal"):
        only("normal_reproj")(logits, dataclasses.replace(target, normal=None))
    with pytest.raises(AssertionError, match="no labels"):
        only("cross_entropy")(logits, target)
    with pytest.raises(AssertionError, match="got no map"):
        only("l1")(*label_batch(1))


def test_loss_is_near_zero_at_the_target():
    _, target = image_batch(2)
    smooth = torch.sigmoid(torch.linspace(-3, 3, 24)).expand(2, 1, 24, 24)
    target = LossTarget(map=smooth, labels=None, valid=target.valid, normal=None)
    declared = {"l1": 1, "ms_ssim": 1, "grad_diff": 1, "sobel": 1, "laplacian_pyramid": 1}
    assert recipe(declared)(smooth.logit(), target).total.item() == pytest.approx(0.0, abs=1e-5)
