"""Tests of elastic warps of heights, normals and labels."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pbrlib.data.augment.augmentspec import MAX_WARP
from pbrlib.geometry import normal_from_height, smooth_displacement, warp, warp_labels, warp_normal
from pbrlib.geometry.warp import NODES
from tests.geometry.test_geometry import bump, smooth_height

SEEDS = st.integers(0, 2**31)
quick = settings(max_examples=25)


def displacement(seed: int, *, size: int = 64, share: float = MAX_WARP) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    nodes = (torch.rand(1, 2, NODES, NODES, generator=generator) * 2.0 - 1.0) * share * size
    return smooth_displacement(nodes, size=(size, size))


def degrees(a: Tensor, b: Tensor) -> Tensor:
    return torch.rad2deg(torch.acos((a * b).sum(dim=1).clamp(-1.0, 1.0)))


@given(seed=SEEDS)
@quick
def test_the_normal_of_a_warped_height_equals_the_warped_normal(seed: int) -> None:
    size = 192
    height = smooth_height(seed, size=size) * 8.0
    field = displacement(seed, size=size)
    derived_last = normal_from_height(warp(height, displacement=field), scale_px=1.0, tileable=False)
    normal = normal_from_height(height, scale_px=1.0, tileable=False)
    derived_first = warp_normal(normal, displacement=field)
    error = degrees(derived_last, derived_first)[:, 2:-2, 2:-2]
    assert float(error.mean()) < 0.5
    only_moved = torch.nn.functional.normalize(warp(normal, displacement=field), dim=1)
    assert float(error.mean()) < 0.4 * float(degrees(derived_last, only_moved)[:, 2:-2, 2:-2].mean())


def test_slopes_of_stretched_and_sheared_planes_have_known_values() -> None:
    """Uses the columns ``x -> 1.5 x`` and ``x -> x + 0.5 row`` of a plane that rises along columns."""
    plane = torch.arange(9.0).expand(1, 1, 9, 9)
    normal = normal_from_height(plane, scale_px=1.0, tileable=False)
    centre = torch.arange(9.0) - 4.0
    stretch = torch.stack((0.5 * centre.expand(9, 9), torch.zeros(9, 9)))[None]
    shear = torch.stack((0.5 * centre.view(-1, 1).expand(9, 9), torch.zeros(9, 9)))[None]
    for field, slopes in ((stretch, (1.5, 0.0)), (shear, (1.0, 0.5))):
        x, y, z = warp_normal(normal, displacement=field)[0, :, 4, 4].tolist()
        torch.testing.assert_close(torch.tensor([-x / z, y / z]), torch.tensor(slopes))


@given(seed=SEEDS)
@quick
def test_warped_normals_are_unit_vectors_and_warps_do_not_fold(seed: int) -> None:
    field = displacement(seed)
    normal = normal_from_height(bump(), scale_px=3.0, tileable=False)
    lengths = warp_normal(normal, displacement=field).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    axis = torch.arange(64.0)
    columns, rows = axis + field[0, 0], axis.view(-1, 1) + field[0, 1]
    dx = (columns.diff(dim=1)[:-1], columns.diff(dim=0)[:, :-1])
    dy = (rows.diff(dim=1)[:-1], rows.diff(dim=0)[:, :-1])
    assert float((dx[0] * dy[1] - dx[1] * dy[0]).min()) > 0.0
    for place in (columns, rows):
        assert float(place.min()) > -1e-3
        assert float(place.max()) < 63.0 + 1e-3


@given(seed=SEEDS)
@quick
def test_a_warp_keeps_the_border_and_zero_displacement_changes_nothing(seed: int) -> None:
    x = torch.rand(1, 2, 64, 64, generator=torch.Generator().manual_seed(seed))
    warped = warp(x, displacement=displacement(seed))
    for edge in ((0, slice(None)), (-1, slice(None)), (slice(None), 0), (slice(None), -1)):
        torch.testing.assert_close(warped[(..., *edge)], x[(..., *edge)], atol=1e-3, rtol=0)
    torch.testing.assert_close(warp(x, displacement=torch.zeros(1, 2, 64, 64)), x, atol=1e-4, rtol=0)


@given(seed=SEEDS)
@quick
def test_warped_labels_are_labels_of_the_source(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randint(0, 7, (1, 8, 8), generator=generator).repeat_interleave(8, 1)
    labels = patches.repeat_interleave(8, 2)
    labels[labels == 6] = 255
    field = displacement(seed)
    warped = warp_labels(labels, displacement=field)
    assert set(warped.unique().tolist()) <= set(labels.unique().tolist())
    for label in labels.unique().tolist():
        share = warp((labels == label).float().unsqueeze(1), displacement=field)[:, 0]
        certain = (share - 0.5).abs() > 0.5 - 1e-3
        assert torch.equal((warped == label)[certain], (share > 0.5)[certain])
