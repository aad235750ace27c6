from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.geometry import normal_from_height
from pbrlib.inference.chain import MARGIN, mirrored_normal
from pbrlib.inference.padding import pad_to_stride

SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))


@given(size=SIZES, stride=st.sampled_from([1, 8, 32]), margin=st.integers(0, 80), tileable=st.booleans())
def test_padding_keeps_the_texture_at_the_margin_and_reaches_the_stride(
    size: tuple[int, int], stride: int, margin: int, tileable: bool
) -> None:
    x = torch.arange(size[0] * size[1], dtype=torch.float32).reshape(1, 1, *size)
    padded = pad_to_stride(x, stride=stride, margin=margin, tileable=tileable)
    assert torch.equal(padded[..., margin : margin + size[0], margin : margin + size[1]], x)
    for have, own in zip(padded.shape[-2:], size, strict=True):
        assert have % stride == 0
        assert own + 2 * margin <= have < own + 2 * margin + stride


@pytest.mark.parametrize(("tileable", "mode"), [(True, "circular"), (False, "reflect")])
def test_padding_by_less_than_a_side_is_torchs_own(tileable: bool, mode: str) -> None:
    x = torch.rand(1, 2, 24, 40)
    wanted = F.pad(x, (8, 8, 8, 8), mode=mode)
    assert torch.equal(pad_to_stride(x, stride=8, margin=8, tileable=tileable), wanted)


@given(size=st.integers(1, 20))
def test_padding_beyond_a_side_continues_tiling(size: int) -> None:
    x = torch.rand(1, 1, size, size)
    padded = pad_to_stride(x, stride=1, margin=50, tileable=True)
    assert torch.equal(padded[0, 0, 50 % size, 50 % size], x[0, 0, 0, 0])
    inner = padded[..., : 100 // size * size, : 100 // size * size]
    assert torch.equal(inner[..., size:, :], inner[..., : inner.shape[-2] - size, :])


def test_mirrored_normals_are_the_normals_of_the_mirrored_height() -> None:
    generator = torch.Generator().manual_seed(1)
    height = F.avg_pool2d(torch.rand(1, 1, 44, 52, generator=generator), 5)
    normal = normal_from_height(height, scale_px=4.0, tileable=False)
    height_of = pad_to_stride(height, stride=32, margin=MARGIN, tileable=False)
    wanted = normal_from_height(height_of, scale_px=4.0, tileable=False)
    padded = pad_to_stride(normal, stride=32, margin=MARGIN, tileable=False)
    ours = mirrored_normal(padded, height=height.shape[-2], width=height.shape[-1], stride=32)
    # At the folds themselves one-sided and central differences differ.
    rows = [r for r in range(1, ours.shape[-2] - 1) if (r - MARGIN) % (height.shape[-2] - 1)]
    columns = [c for c in range(1, ours.shape[-1] - 1) if (c - MARGIN) % (height.shape[-1] - 1)]
    torch.testing.assert_close(ours[..., rows, :][..., columns], wanted[..., rows, :][..., columns])
