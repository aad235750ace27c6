"""What the name of a picture says: which map it holds, or which in each channel, and of which material.

The names themselves stand with the maps, in `pbrlib.maps`. They are found at the end of a file name, in any
case and with any separators, before what says only resolution and format: ``Bark014_2K-JPG_NormalGL``,
``rock_058_nor_gl_2k``, ``Wall_AmbientOcclusion``, ``base color``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pbrlib.maps import MAPS, MASK, NORMAL, PACKED

OTHERS = {
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
"""Names of pictures that are known and not read, and what they show."""

_OPENGL = ("gl", "ogl")
_WORD = re.compile(r"[^\s_\-.]+")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])")
_NOISE = re.compile(
    r"\d{1,2}k|(256|512|1024|2048|4096|8192)(px)?|\d{3,5}x\d{3,5}|png|jpe?g|webp|tiff?|exr|tga|bmp|lod\d|\d{1,2}bit"
    r"|srgb|linear|raw"
)
_MOST_WORDS = 4


@dataclass(frozen=True)
class PictureName:
    """What the name of a picture says.

    Attributes:
        prefix: What stands before the name of the map: the name of a material, or empty.
        maps: The one map that it holds, or the map of each channel, None where a channel holds none.
        rank: The smaller, the rather it is taken for the map, of several.
        opposite: It holds the opposite of the map: gloss, or a normal whose green points down.
        is_opengl: The name says that the green of a normal points up.
    """

    prefix: str
    maps: tuple[str | None, ...]
    rank: int
    opposite: bool = False
    is_opengl: bool = False

    @property
    def is_packed(self) -> bool:
        """Whether each channel holds a map of its own."""
        return len(self.maps) > 1


def parse_name(stem: str) -> PictureName | None:
    """Read the name of a picture, without its suffix; None if it names no map."""
    for name, prefix, num_words in _endings(stem):
        if name in OTHERS:
            return None
        if name in PACKED and num_words == 1:
            maps = tuple(None if kind is None else kind.name for kind in PACKED[name])
            return PictureName(prefix, maps, rank=len(_SINGLE))
        found = _SINGLE.get(name) or _SINGLE.get(name.removesuffix("map"))
        if found is None or (found.maps == (MASK.name,) and prefix):
            continue
        says = found.maps == (NORMAL.name,) and name.endswith(_OPENGL)
        return PictureName(prefix, found.maps, found.rank, found.opposite, is_opengl=says)
    return None


def describe_other(stem: str) -> str | None:
    """Return what a picture shows that is known and not read; None if its name says nothing."""
    return next((OTHERS[name] for name, _, _ in _endings(stem) if name in OTHERS), None)


def plain_stem(stem: str) -> str:
    """Return a file name without what says only resolution and format, in lower case."""
    words = _without_noise(list(_WORD.finditer(stem)))
    return stem[: words[-1].end()].lower() if words else stem.lower()


def _endings(stem: str) -> Iterator[tuple[str, str, int]]:
    """The ends of a name, in lower case and joined: with what stands before, and from how many words.

    Words are parted by separators first, then at their capitals; the longest ends come first.
    """
    words = _without_noise(list(_WORD.finditer(stem)))
    coarse = [(word.start(), word.group()) for word in words]
    fine = [(start + offset, part) for start, word in coarse for offset, part in _parts(word)]
    for spans in (coarse, fine):
        for count in range(min(_MOST_WORDS, len(spans)), 0, -1):
            start = spans[-count][0]
            yield "".join(part for _, part in spans[-count:]).lower(), _prefix(stem[:start]), count


def _parts(word: str) -> Iterator[tuple[int, str]]:
    """The parts of a word that begin with capitals, and where."""
    bounds = [0, *(match.start() for match in _HUMPS.finditer(word)), len(word)]
    for start, stop in pairwise(bounds):
        yield start, word[start:stop]


def _prefix(text: str) -> str:
    words = _without_noise(list(_WORD.finditer(text)), least=0)
    return text[: words[-1].end()] if words else ""


def _without_noise(words: list[re.Match[str]], *, least: int = 1) -> list[re.Match[str]]:
    count = len(words)
    while count > least and _NOISE.fullmatch(words[count - 1].group().lower()):
        count -= 1
    return words[:count]


def _single_names() -> dict[str, PictureName]:
    """Every name of a map by itself."""
    names = {}
    for kind in MAPS.values():
        if kind.file is None:
            continue
        for rank, name in enumerate((kind.file, *kind.aliases, *kind.inverted_aliases)):
            names[name] = PictureName("", (kind.name,), rank, opposite=name in kind.inverted_aliases)
    return names


_SINGLE = _single_names()
