from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.data.shards.index import from_table, tile_order, tile_ranks, to_table
from pbrlib.errors import DataError
from tests.data.shards.materials import index_row


def test_rows_equal_those_of_their_table() -> None:
    full = dataclasses.replace(
        index_row(size=(300, 500), maps=("albedo", "ao")),
        label="metal",
        class_pixels=(0, 1, 2, 3, 4, 5, 2**40),
        cells=b"\x00\xff",
        means={"albedo": (0.1, 0.2, 1 / 3), "ao": (0.5,)},
        attribution="Müller – CC-BY",
        phash=2**64 - 1,
    )
    rows = (full, index_row(size=(1, 1)))
    assert from_table(to_table(rows)) == rows
    assert from_table(to_table([])) == ()


def test_a_table_of_other_columns_is_a_data_error() -> None:
    with pytest.raises(DataError, match="index: got the columns"):
        from_table(to_table([index_row(size=(1, 1))]).drop_columns(["means"]))


@given(st.integers(1, 20), st.integers(1, 20))
def test_tile_order_has_every_tile_once(down: int, across: int) -> None:
    order = tile_order(down, across)
    assert sorted(order) == list(range(down * across))
    assert [order[rank] for rank in tile_ranks(down, across)] == list(range(down * across))


def test_four_neighbouring_tiles_are_consecutive() -> None:
    assert tile_order(4, 4)[:8] == (0, 1, 4, 5, 2, 3, 6, 7)
