"""Parse sources of materials from the command line."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pbrlib.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pbrlib.data.materials.material import Source

KINDS = ("generated", "matsynth", "skyrim")
"""Sources that are written as ``KIND:key=value,...``."""

_PATH_KEYS = {"generated": (), "matsynth": ("path",), "skyrim": ("old", "new", "masks")}
"""The settings of these sources that are paths."""


def parse_source(text: str, *, size: int, name: str | None) -> Source:
    """Return a source: a folder, or one of ``KINDS`` with its settings, ``KIND:key=value,...``.

    The source of a folder has the name of the folder unless ``name`` is given, any other that of its kind.

    Args:
        text: The word of the command line.
        size: Upper bound of the longer side in pixels; generated materials have their own size.
        name: Name of the source of a folder.

    Raises:
        PbrError: There is no such kind or folder, or the settings cannot be read.
    """
    kind, colon, settings = text.partition(":")
    match kind if colon else "":
        case "generated":
            from pbrlib.data.sources.generated import GeneratedSource

            return GeneratedSource.parse(text)
        case "matsynth":
            from pbrlib.data.sources.matsynth import MatSynthSource

            return MatSynthSource.parse(text, size=size)
        case "skyrim":
            from pbrlib.data.sources.skyrim import SkyrimSource

            return SkyrimSource.parse(text, size=size)
    if "=" in settings and not Path(text).exists():
        near = get_close_matches(kind, KINDS, n=1)
        way_out = f"Did you mean {near[0]}?" if near else "Use one of them, or give a folder."
        raise ConfigError(
            f"{text}: got the kind of source {kind}; expected one of {', '.join(KINDS)}. {way_out}"
        )
    from pbrlib.data.sources.folder import FolderSource

    root = Path(text).resolve()
    if not root.is_dir():
        raise DataError(
            f"{root}: got a path that is not a folder; expected a folder with a subfolder for each material. "
            "Give one."
        )
    return FolderSource(str(root), size, name or re.sub(r"[^A-Za-z0-9_-]+", "_", root.name) or "materials")


def paths_of_source(text: str) -> list[str]:
    """Return the paths that a source reads; none for generated materials."""
    kind, _, settings = text.partition(":")
    if kind not in KINDS:
        return [text]
    values = [setting.partition("=") for setting in settings.split(",")]
    return [path for key, _, path in values if key in _PATH_KEYS[kind]]
