from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pbrlib.data.materials.contact import as_picture, contact_sheet
from pbrlib.maps import CLASS_COLOURS, HEIGHT, IGNORE, MAPS, MASK, RELIEF, class_id


def test_every_map_becomes_a_picture() -> None:
    for kind in MAPS.values():
        stored = np.full((4, 6, kind.channels), kind.fill, kind.dtype)
        picture = as_picture(stored, kind)
        assert picture.shape == (4, 6, 3), kind.name
        assert picture.dtype == np.uint8


def test_sixteen_bits_become_greys_and_labels_palette_colours() -> None:
    assert as_picture(np.full((1, 1, 1), 65535, np.uint16), HEIGHT).tolist() == [[[255, 255, 255]]]
    two = np.stack((np.full((1, 1), 65535), np.full((1, 1), 0)), axis=-1).astype(np.uint16)
    assert as_picture(two, RELIEF).tolist() == [[[255, 255, 255]]]
    labels = np.array([[[class_id("wood")], [IGNORE]]], np.uint8)
    assert as_picture(labels, MASK).tolist() == [[list(CLASS_COLOURS[class_id("wood")]), [0, 0, 0]]]


def test_every_picture_is_in_its_cell_of_the_sheet() -> None:
    red, blue = (np.tile(np.array(c, np.uint8), (40, 20, 1)) for c in ((255, 0, 0), (0, 0, 255)))
    rows = [("first", {"albedo": red, "normal": blue}), ("zweites ä", {"normal": red[:4, :4]})]
    sheet = np.asarray(
        Image.open(io.BytesIO(contact_sheet(rows, columns=("albedo", "normal"), thumbnail=32)))
    )
    assert sheet.shape == (14 + 2 * (32 + 14), 64, 3)
    first, second = sheet[28:60], sheet[74:106]
    assert first[4, 4].tolist() == [255, 0, 0]
    assert first[4, 36].tolist() == [0, 0, 255]
    assert first[4, 25].tolist() == [255, 255, 255]  # a tall picture leaves the right of its cell white
    assert second[28, 60].tolist() == [255, 0, 0]  # a small one is enlarged
    assert second[4, 4].tolist() not in ([255, 0, 0], [255, 255, 255])  # an absent one is grey
