"""Tests of normal reprojection on heights with a known relief."""

import pytest
import torch
from torch.autograd import gradcheck

from pbrlib.geometry.normals import normal_from_height
from pbrlib.losses import reprojection
from pbrlib.losses.masks import windows
from tests.losses.conftest import MASK, leaf, mean_of, tiny


@pytest.fixture
def hills():
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    return (0.5 + 0.2 * torch.sin(columns / 5) * torch.cos(rows / 7)).double().expand(1, 1, 32, 32)


@pytest.mark.parametrize("relief_px", [5.0, 20.0, 60.0])
def test_normal_reproj_finds_the_relief_that_made_the_normals(hills, relief_px):
    everything = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    normal = normal_from_height(hills, scale_px=relief_px, tileable=False)
    assert reprojection.fitted_relief(hills, normal, everything).item() == pytest.approx(relief_px, rel=0.02)
    assert reprojection.normal_reproj(hills, normal, everything).mean() < 1e-4


def test_normal_reproj_ignores_scale_and_offset_of_the_height(hills):
    everything = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    normal = normal_from_height(hills + 0.05 * torch.rand_like(hills), scale_px=20.0, tileable=False)
    errors = [
        reprojection.normal_reproj(scale * hills + offset, normal, everything).mean().item()
        for scale, offset in ((1.0, 0.0), (0.5, 0.3), (2.0, -0.1))
    ]
    assert errors == pytest.approx([errors[0]] * 3, rel=1e-9)
    assert errors[0] > 1e-3


def test_normal_reproj_notices_a_flipped_green_channel(hills):
    everything = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    normal = normal_from_height(hills, scale_px=30.0, tileable=False)
    flipped = normal * torch.tensor([1.0, -1.0, 1.0]).view(1, 3, 1, 1)
    right = reprojection.normal_reproj(hills, normal, everything).mean()
    assert reprojection.normal_reproj(hills, flipped, everything).mean() > 100 * right


def test_a_flat_height_has_the_minimum_relief(hills):
    everything = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    normal = normal_from_height(hills, scale_px=30.0, tileable=False)
    assert reprojection.fitted_relief(torch.full_like(hills, 0.5), normal, everything).item() == 2.5
    assert reprojection.fitted_relief(1.0 - hills, normal, everything).item() == 2.5
    assert reprojection.fitted_relief(hills * 1e-3, normal, everything).item() == 115.0


def test_gradient_is_that_of_the_value():
    up = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    normal = torch.nn.functional.normalize(tiny(1, 3, 5, 6) + up, dim=1)

    def of_height(x):
        return mean_of(reprojection.normal_reproj(1e-3 * x, normal, MASK), windows(MASK))

    assert gradcheck(of_height, (leaf(),), atol=1e-6)
