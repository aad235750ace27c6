"""Parses the names and licences of MatSynth's rows."""

from __future__ import annotations

import re

BLEND_PREFIX, BLEND_SEPARATOR = "ms_", "__"
"""The parts of the name of a blend: ``ms_bricks_005__concrete_021``."""

_NUMBER = re.compile(r"\d+|\d{2,}[a-z]")


def family_of(name: str) -> str:
    """Return the part of a name that variants of one original have in common.

    ``acg_planks_023_a``, ``acg_planks_024``: ``acg_planks``; ``0557_brick_uneven_stones``:
    ``brick_uneven_stones``. A number in front and everything from the next number on is removed, since
    numbers, and sizes and letters after them, distinguish variants. Blends have the name
    ``ms_<parent>__<parent>``, with the names of their parents without the prefix of their origin; they get
    the family of the first parent.
    """
    first = name.lower().removeprefix(BLEND_PREFIX).partition(BLEND_SEPARATOR)[0]
    words = first.split("_")
    while len(words) > 1 and words[0].isdigit():
        words = words[1:]
    count = next((i for i, word in enumerate(words) if _NUMBER.fullmatch(word)), len(words))
    return "_".join(words[:count]) or first


def licence_kind(licence: str) -> str:
    """Return a licence without its version: ``CC0 1.0`` is ``CC0``, ``cc-by-4.0`` is ``CC-BY``."""
    words = re.split(r"[\s_-]+", licence.strip().upper())
    return "-".join(word for word in words if not re.fullmatch(r"V?\d+(\.\d+)*", word)) or "UNKNOWN"


def without_leading_zeros(name: str) -> str:
    """Return a name whose numbers have no leading zeros, since blends write their parents in both ways."""
    return "_".join(str(int(word)) if word.isdecimal() else word for word in name.split("_"))
