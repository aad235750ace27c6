"""What the names of MatSynth's rows say: families, blends, licences."""

from __future__ import annotations

import re

BLEND, BLENDED_WITH = "ms_", "__"
"""The parts of the name of a blend: ``ms_bricks_005__concrete_021``."""

_NUMBER = re.compile(r"\d+|\d{2,}[a-z]")


def family_of(name: str) -> str:
    """The part of a name that variants of one original share.

    ``acg_planks_023_a``, ``acg_planks_024``: ``acg_planks``; ``0557_brick_uneven_stones``:
    ``brick_uneven_stones``. Everything from the first number on goes, a number in front as well: variants
    are told apart by numbers, and their sizes and letters follow them. Blends are ``ms_<parent>__<parent>``,
    with their parents' names without the letters of where they come from: the first parent's is theirs, as
    far as the name alone can say.
    """
    first = name.lower().removeprefix(BLEND).partition(BLENDED_WITH)[0]
    words = first.split("_")
    while len(words) > 1 and words[0].isdigit():
        words = words[1:]
    count = next((i for i, word in enumerate(words) if _NUMBER.fullmatch(word)), len(words))
    return "_".join(words[:count]) or first


def licence_kind(licence: str) -> str:
    """A licence without its version: ``CC0 1.0`` is ``CC0``, ``cc-by-4.0`` and ``CC BY`` are ``CC-BY``."""
    words = re.split(r"[\s_-]+", licence.strip().upper())
    return "-".join(word for word in words if not re.fullmatch(r"V?\d+(\.\d+)*", word)) or "UNKNOWN"


def plain(name: str) -> str:
    """A name whose numbers have no leading zeros: parents of blends are written either way."""
    return "_".join(str(int(word)) if word.isdecimal() else word for word in name.split("_"))
