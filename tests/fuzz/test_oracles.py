"""The oracles of the fuzzer, tried on what it begins from."""

from __future__ import annotations

from pathlib import Path

import pytest

from pbrlib.textures.blocks import Bytes
from pbrlib.textures.formats import D3D
from pbrlib.textures.layouts import Layout, Palette, level_bytes
from tests.fuzz import oracles
from tests.fuzz.oracles import ORACLES
from tests.fuzz.run import SHARES
from tests.fuzz.seeds import SEEDS, plain_dds


@pytest.mark.parametrize("target", SHARES)
def test_every_seed_is_accepted_and_half_a_seed_refused(target: str) -> None:
    for case in SEEDS[target]():
        assert ORACLES[target](case)
        is_pixels = target == "tile" and case[3] & 2
        assert not ORACLES[target](case[: len(case) // 2]) or is_pixels


@pytest.mark.parametrize("layout", [D3D[23], D3D[36], D3D[60], D3D[116], Layout("P8", Palette(bytes(1024)))])
def test_a_reader_that_is_wrong_in_a_pixel_is_found(monkeypatch: pytest.MonkeyPatch, layout: Layout) -> None:
    case = plain_dds(bytes(level_bytes(layout.pixels, 5, 3)), layout=layout, width=5, height=3)
    assert oracles.check_dds(case)
    right = oracles.read_picture

    def wrong(path: Path) -> Bytes:
        pixels = right(path)
        pixels[-1, -1, 0] ^= 128
        return pixels

    monkeypatch.setattr(oracles, "read_picture", wrong)
    with pytest.raises(AssertionError):
        oracles.check_dds(case)


def test_a_part_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracles, "decode_part", lambda blob, out, **window: out.fill(7))
    with pytest.raises(AssertionError, match="a part differs"):
        oracles.check_tile(SEEDS["tile"]()[-1])
