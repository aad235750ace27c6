"""Tests that terms over neighbouring pixels ignore seams, and that each region has its own scale."""

import dataclasses

import pytest
import torch

from pbrlib.data.augment.assembly import region_map
from pbrlib.data.draws.mosaic import Layout
from pbrlib.geometry.normals import normal_from_height
from pbrlib.losses.lossspec import LossSpec
from pbrlib.losses.masks import seams, windows
from pbrlib.losses.recipe import LossReport, Recipe
from pbrlib.losses.reprojection import fitted_relief, normal_reproj
from pbrlib.losses.target import LossTarget
from pbrlib.losses.termspec import ClassTermSpec
from tests.losses.conftest import image_batch, part

NEIGHBOURS = ("grad_diff", "tv", "sobel", "normal_reproj", "laplacian_pyramid")
MAP_TERMS = [
    name
    for name, spec in LossSpec.term_types().items()
    if not issubclass(spec, ClassTermSpec) and name != "lpips"
]
MOSAICS = (Layout.SIDE_BY_SIDE, Layout.STACKED, Layout.QUARTERS, Layout.SINGLE)


def regions_of(*layouts, side=24):
    return region_map(layouts, size=(side, side), device=torch.device("cpu"))


def mosaic_batch(*layouts):
    logits, target = image_batch(len(layouts))
    return logits, dataclasses.replace(target, regions=regions_of(*layouts))


def only(name):
    return Recipe(LossSpec.model_validate({name: 1.0}))


def test_the_band_is_three_pixels_on_each_side_of_a_seam():
    left_right, above, quarters, whole = seams(regions_of(*MOSAICS))[:, 0]
    band = torch.zeros(24, dtype=torch.bool)
    band[9:15] = True
    assert torch.equal(left_right, band.expand(24, 24))
    assert torch.equal(above, band[:, None].expand(24, 24))
    assert torch.equal(quarters, band | band[:, None])
    assert not whole.any()


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_terms_over_neighbours_ignore_the_band(name):
    logits, target = mosaic_batch(*MOSAICS)
    band = seams(target.regions)
    loss = only(name)
    value = loss(logits.requires_grad_(), target).total
    value.backward()
    assert logits.grad[band].abs().max() == 0.0
    assert all(x.abs().max() > 0 for x in logits.grad)
    other = torch.where(band, 5.0, logits.detach())
    torch.testing.assert_close(loss(other, target).total, value.detach(), rtol=1e-6, atol=0)
    step = torch.where(band, 1.0 - target.map, target.map)
    elsewhere = loss(logits.detach(), dataclasses.replace(target, map=step)).total
    torch.testing.assert_close(elsewhere, value.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["l1", "focal_relative_l1", "focal_bce", "focal_tversky", "bce"])
def test_terms_over_single_pixels_include_the_band(name):
    logits, target = mosaic_batch(*MOSAICS)
    only(name)(logits.requires_grad_(), target).total.backward()
    seen = seams(target.regions) & target.valid
    assert logits.grad[seen].abs().min() > 0.0


@pytest.mark.parametrize("name", MAP_TERMS)
def test_a_sample_beside_mosaics_has_the_same_loss_bit_for_bit(name):
    logits, target = image_batch(2)
    marked = dataclasses.replace(target, regions=regions_of(Layout.SINGLE, Layout.SINGLE))
    grads = []
    for given in (target, marked):
        leaf = logits.clone().requires_grad_()
        report = only(name)(leaf, given)
        report.total.backward()
        grads.append((report.total.detach(), leaf.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    assert torch.equal(grads[0][1], grads[1][1])
    assert torch.equal(only(name).counts(target), only(name).counts(marked))


def hills(side, *, seed):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 6, 6, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)
    return smooth.clamp(0.0, 1.0)


@pytest.mark.parametrize("layout", MOSAICS)
def test_every_region_has_its_own_scale_exactly(layout):
    side, scales = 48, [7.0, 60.0, 25.0, 90.0][: layout.parts]
    regions = regions_of(layout, side=side)
    height = torch.zeros(1, 1, side, side, dtype=torch.float64)
    normal = torch.zeros(1, 3, side, side, dtype=torch.float64)
    for number, scale in enumerate(scales):
        own = hills(side, seed=number)
        height = torch.where(regions == number, own, height)
        normal = torch.where(
            regions == number, normal_from_height(own, scale_px=scale / 10, tileable=False), normal
        )
    valid = ~seams(regions)
    found = fitted_relief(height * 0.1, normal, valid, regions=regions)
    for number, scale in enumerate(scales):
        assert found[regions == number].tolist() == pytest.approx([scale] * int((regions == number).sum()))
    error = normal_reproj(height * 0.1, normal, valid, regions=regions)
    assert error[windows(valid)].abs().max() < 1e-12
    if len(scales) > 1:
        together = normal_reproj(height * 0.1, normal, valid)
        assert together[windows(valid)].mean() > 1e-3


def test_the_term_fits_region_by_region():
    height, regions = hills(48, seed=1) * 0.8 + 0.1, regions_of(Layout.STACKED, side=48)
    normal = normal_from_height(height, scale_px=40.0, tileable=False).float()
    seen = torch.where(regions == 0, height, 0.5 * height).float()
    valid = torch.ones_like(regions, dtype=torch.bool)
    target = LossTarget(map=seen, labels=None, valid=valid, normal=normal, regions=regions)
    assert only("normal_reproj")(seen.logit(), target).total.item() < 1e-6
    together = dataclasses.replace(target, regions=None)
    assert only("normal_reproj")(seen.logit(), together).total.item() > 1e-3


def test_the_fit_of_a_region_ignores_the_others():
    height, regions = hills(48, seed=1), regions_of(Layout.SIDE_BY_SIDE, side=48)
    normal = normal_from_height(height, scale_px=20.0, tileable=False)
    valid, right = ~seams(regions), regions == 1
    halved = torch.where(right, 0.5 * height, height)
    found = fitted_relief(halved, normal, valid, regions=regions)
    assert found[~right].unique().tolist() == pytest.approx([20.0])
    assert found[right].unique().tolist() == pytest.approx([40.0])


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_micro_batches_with_and_without_mosaics_add_up(name):
    logits, target = mosaic_batch(Layout.SINGLE, Layout.QUARTERS, Layout.STACKED, Layout.SINGLE)
    loss = only(name)
    whole = loss(logits, target).total
    parts = [part(target, a, b) for a, b in ((0, 1), (1, 3), (3, 4))]
    parts = [dataclasses.replace(p, regions=p.regions if p.regions.any() else None) for p in parts]
    assert [p.regions is None for p in parts] == [True, False, True]
    counts = sum(loss.counts(p) for p in parts)
    reports = [loss(x, p, step_counts=counts) for x, p in zip(logits.split([1, 2, 1]), parts, strict=True)]
    torch.testing.assert_close(LossReport.merge(reports).total, whole)
