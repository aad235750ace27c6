"""Tests that the entries of all maps are consistent, and compatible with existing files."""

from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pbrlib.data.draws.collate import stack
from pbrlib.data.materials.pictures import to_stored
from pbrlib.maps import MAPS, NORMAL, SEAM_MAPS, TARGETS, TRUE_PBR, Encoding


def test_the_order_of_shard_columns_is_fixed() -> None:
    known = (
        "diffuse",
        "gloss",
        "albedo",
        "normal",
        "roughness",
        "metallic",
        "ao",
        "height",
        "mask",
        "relief",
    )
    assert tuple(MAPS)[: len(known)] == known


@pytest.mark.parametrize("name", MAPS)
def test_an_entry_is_consistent(name: str) -> None:
    kind = MAPS[name]
    assert kind.name == name
    assert len(kind.fills) == kind.channels
    assert max(kind.fills) <= kind.maximum
    assert np.issubdtype(kind.dtype, np.unsignedinteger)
    assert kind.channels == 3 or kind.encoding not in (Encoding.SRGB, Encoding.NORMAL)
    assert (kind.encoding is Encoding.LABEL) == (name not in TARGETS and kind.target is not None)
    assert kind.encoding.range


@pytest.mark.parametrize("name", TARGETS)
def test_targets_with_a_sigmoid_are_in_zero_to_one_and_have_a_file(name: str) -> None:
    assert MAPS[name].encoding in (Encoding.SRGB, Encoding.LINEAR)
    assert MAPS[name].file is not None


def test_no_two_maps_share_a_file_or_a_true_pbr_channel() -> None:
    files = [kind.file for kind in MAPS.values() if kind.file is not None]
    assert len(files) == len(set(files))
    channels = {
        name: {(slot.ending, slot.channel + number) for number in range(MAPS[name].channels)}
        for name, slot in TRUE_PBR.items()
    }
    assert not any(channels[one] & channels[other] for one, other in combinations(channels, 2))


def test_every_true_pbr_map_has_a_network() -> None:
    assert set(TRUE_PBR) <= set(TARGETS)


def test_seams_are_tested_on_colours_and_normals() -> None:
    assert set(SEAM_MAPS) == {"diffuse", "albedo", "normal"}


GREY, BLACK, WHITE = (128,) * 3, (0,) * 3, (255,) * 3


@pytest.mark.parametrize("pixel", [GREY, (127,) * 3, (127, 128, 127), BLACK, WHITE, (2, 1, 0), (255, 0, 0)])
def test_a_normal_pixel_without_a_direction_is_flat(pixel: tuple[int, ...]) -> None:
    raw = torch.tensor([pixel, (200, 128, 230)], dtype=torch.uint8).T.reshape(1, 3, 1, 2)
    decoded = NORMAL.decode(raw)[0, :, 0].T
    assert decoded[0].tolist() == [0.0, 0.0, 1.0]
    assert decoded[1].tolist() == pytest.approx([0.577, 0.004, 0.816], abs=1e-3)
    stored = to_stored(np.array([[pixel, (200, 128, 230)]], np.uint8), NORMAL, size=2)
    assert stored[0, 0].tolist() == [128, 128, 255]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_every_8_bit_direction_is_kept(axis: int, sign: int) -> None:
    tilted = torch.randn(500, 3, generator=torch.Generator().manual_seed(axis))
    tilted[:, axis] = sign * (1.0 + tilted[:, axis].abs())
    unit = F.normalize(torch.cat((tilted, torch.full((1, 3), float(sign)))), dim=1)
    stored = NORMAL.quantise(unit.numpy()[None])
    decoded = NORMAL.decode(torch.from_numpy(stored.transpose(2, 0, 1).copy())[None])[0, :, 0].T
    torch.testing.assert_close(decoded, unit, atol=0.01, rtol=0)


def test_gaps_of_a_normal_map_do_not_change_averaged_neighbours() -> None:
    pixels = np.array([[BLACK, (128, 128, 255)], [WHITE, GREY]], np.uint8)
    assert to_stored(pixels, NORMAL, size=1)[0, 0].tolist() == [128, 128, 255]


@pytest.mark.parametrize("pixel", [(220, 128, 255), (220, 200, 255), (36, 36, 255)])
def test_a_normal_without_unit_length_is_no_gap(pixel: tuple[int, ...]) -> None:
    raw = torch.tensor(pixel, dtype=torch.uint8).view(1, 3, 1, 1)
    expected = F.normalize(raw.float() * (2 / 255) - 1, dim=1)
    torch.testing.assert_close(NORMAL.decode(raw), expected)


@pytest.mark.parametrize("name", MAPS)
def test_a_missing_map_has_its_fill_value_in_every_channel(name: str) -> None:
    kind, other = MAPS[name], "roughness" if name == "normal" else "normal"
    crop = {other: np.zeros((2, 3, MAPS[other].channels), MAPS[other].dtype)}
    raw = stack([crop], rows=[], seeds=[0], maps=[name])
    assert raw.maps[name].flatten(2)[0].T.tolist() == [list(kind.fills)] * 6
    assert raw.maps[name].dtype == torch.from_numpy(np.zeros(1, kind.dtype)).dtype
    if name == "normal":
        assert kind.decode(raw.maps[name])[0, 2].min() > 0.9999
