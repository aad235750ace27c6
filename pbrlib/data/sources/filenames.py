"""Parses the name of a picture: its map or the map of each channel, and the name of its material.

The names of maps are defined in `pbrlib.maps`. They are found at the end of a file name, in any case and with
any separators, before words for resolution and format: ``Bark014_2K-JPG_NormalGL``, ``rock_058_nor_gl_2k``,
``Wall_AmbientOcclusion``, ``base color``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pbrlib.maps import MAPS, MASK, NORMAL, PACKED

UNREAD_MAPS = {
    **dict.fromkeys(("opacity", "alpha", "transparency"), "opacity"),
    **dict.fromkeys(("specular", "spec", "specularlevel", "specularsmoothness"), "the specular workflow"),
    **dict.fromkeys(("emissive", "emission", "emit", "glow"), "emission"),
    **dict.fromkeys(("translucency", "transmission", "subsurface", "sss", "scattering"), "light inside"),
    **dict.fromkeys(("thickness", "fuzz", "sheen", "clearcoat", "anisotropy", "iridescence"), "a coat"),
    **dict.fromkeys(("cavity", "curvature", "id", "idmap", "position", "uv"), "a helper of its author"),
    **dict.fromkeys(
        ("worldspacenormal", "objectspacenormal", "normalobject", "normalworld"), "other normals"
    ),
    **dict.fromkeys(("maskmap", "metallicsmoothness"), "maps in alpha; save each as a file of its own"),
    **dict.fromkeys(("preview", "thumb", "thumbnail", "render", "sphere", "cube", "plane"), "a preview"),
}
"""Names of maps that are recognised and not read, with descriptions."""

_OPENGL = ("gl", "ogl")
_WORD = re.compile(r"[^\s_\-.]+")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])")
_NOISE = re.compile(
    r"\d{1,2}k|(256|512|1024|2048|4096|8192)(px)?|\d{3,5}x\d{3,5}|png|jpe?g|webp|tiff?|exr|tga|bmp|lod\d|\d{1,2}bit"
    r"|srgb|linear|raw"
)
_MAX_WORDS = 4


@dataclass(frozen=True)
class PictureName:
    """The parsed name of a picture.

    Attributes:
        prefix: The text before the name of the map: the name of a material, or empty.
        maps: The map of the picture, or the map of each channel; None for an unused channel.
        rank: Preference among several pictures of a map; the smallest rank is used.
        is_inverted: Whether the values are inverted: gloss, or a normal with green pointing down.
        is_opengl: Whether the name states that the green of a normal points up.
    """

    prefix: str
    maps: tuple[str | None, ...]
    rank: int
    is_inverted: bool = False
    is_opengl: bool = False

    @property
    def is_packed(self) -> bool:
        """Whether each channel has its own map."""
        return len(self.maps) > 1


def parse_name(stem: str) -> PictureName | None:
    """Parse the name of a picture, given without its suffix; returns None if it has no name of a map."""
    for name, prefix, num_words in _endings(stem):
        if name in UNREAD_MAPS:
            return None
        if name in PACKED and num_words == 1:
            maps = tuple(None if kind is None else kind.name for kind in PACKED[name])
            return PictureName(prefix, maps, rank=len(_SINGLE))
        found = _SINGLE.get(name) or _SINGLE.get(name.removesuffix("map"))
        if found is None or (found.maps == (MASK.name,) and prefix):
            continue
        is_opengl = found.maps == (NORMAL.name,) and name.endswith(_OPENGL)
        return PictureName(prefix, found.maps, found.rank, found.is_inverted, is_opengl=is_opengl)
    return None


def describe_unread_map(stem: str) -> str | None:
    """Return the description of a map that is recognised and not read, or None for other names."""
    return next((UNREAD_MAPS[name] for name, _, _ in _endings(stem) if name in UNREAD_MAPS), None)


def plain_stem(stem: str) -> str:
    """Return a file name in lower case, without words for resolution and format at its end."""
    words = _without_noise(list(_WORD.finditer(stem)))
    return stem[: words[-1].end()].lower() if words else stem.lower()


def _endings(stem: str) -> Iterator[tuple[str, str, int]]:
    """Yield the endings of a name in lower case, with the text before them and their number of words.

    Words are split at separators first, then also at capitals; the longest endings come first.
    """
    words = _without_noise(list(_WORD.finditer(stem)))
    coarse = [(word.start(), word.group()) for word in words]
    fine = [(start + offset, part) for start, word in coarse for offset, part in _parts(word)]
    for spans in (coarse, fine):
        for count in range(min(_MAX_WORDS, len(spans)), 0, -1):
            start = spans[-count][0]
            yield "".join(part for _, part in spans[-count:]).lower(), _prefix(stem[:start]), count


def _parts(word: str) -> Iterator[tuple[int, str]]:
    """Yield the parts of a word that begin with capitals, with their positions."""
    bounds = [0, *(match.start() for match in _HUMPS.finditer(word)), len(word)]
    for start, stop in pairwise(bounds):
        yield start, word[start:stop]


def _prefix(text: str) -> str:
    words = _without_noise(list(_WORD.finditer(text)), min_words=0)
    return text[: words[-1].end()] if words else ""


def _without_noise(words: list[re.Match[str]], *, min_words: int = 1) -> list[re.Match[str]]:
    count = len(words)
    while count > min_words and _NOISE.fullmatch(words[count - 1].group().lower()):
        count -= 1
    return words[:count]


def _single_names() -> dict[str, PictureName]:
    """Return the parsed names of pictures with one map, by the name of the map and its aliases."""
    names = {}
    for kind in MAPS.values():
        if kind.file is None:
            continue
        for rank, name in enumerate((kind.file, *kind.aliases, *kind.inverted_aliases)):
            names[name] = PictureName("", (kind.name,), rank, is_inverted=name in kind.inverted_aliases)
    return names


_SINGLE = _single_names()
