"""The entries of all maps agree with each other and with what is on disks already."""

from itertools import combinations

import numpy as np
import pytest

from pbrlib.maps import BORDERS, MAPS, TARGETS, TRUE_PBR, Encoding


def test_the_columns_of_shards_keep_their_order() -> None:
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
def test_an_entry_agrees_with_itself(name: str) -> None:
    kind = MAPS[name]
    assert kind.name == name
    assert kind.fill <= kind.maximum
    assert np.issubdtype(kind.dtype, np.unsignedinteger)
    assert kind.channels == 3 or kind.encoding not in (Encoding.SRGB, Encoding.NORMAL)
    assert (kind.encoding is Encoding.LABEL) == (name not in TARGETS and kind.target is not None)
    assert kind.encoding.range


@pytest.mark.parametrize("name", TARGETS)
def test_what_goes_through_a_sigmoid_lies_between_0_and_1_and_comes_from_a_folder(name: str) -> None:
    assert MAPS[name].encoding in (Encoding.SRGB, Encoding.LINEAR)
    assert MAPS[name].file is not None


def test_no_two_maps_take_one_file_or_one_channel_of_true_pbr() -> None:
    files = [kind.file for kind in MAPS.values() if kind.file is not None]
    assert len(files) == len(set(files))
    channels = {
        name: {(slot.ending, slot.channel + number) for number in range(MAPS[name].channels)}
        for name, slot in TRUE_PBR.items()
    }
    assert not any(channels[one] & channels[other] for one, other in combinations(channels, 2))


def test_a_conversion_needs_only_what_a_network_answers() -> None:
    assert set(TRUE_PBR) <= set(TARGETS)


def test_colours_and_normals_show_whether_a_material_tiles() -> None:
    assert set(BORDERS) == {"diffuse", "albedo", "normal"}
