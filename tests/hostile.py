"""Hypothesis strategies for hostile files and values."""

from __future__ import annotations

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some, max_size=3),
    max_leaves=8,
)
"""Arbitrary small values."""


def changed(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return changed bytes: with a flipped byte, a truncated end, or appended bytes."""
    places = st.integers(0, len(whole) - 1)
    flipped = st.builds(
        lambda place, mask: whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :],
        places,
        st.integers(1, 255),
    )
    return flipped | places.map(lambda length: whole[:length]) | st.binary(min_size=1).map(whole.__add__)
