"""Sources of materials as they are named on the command line."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pbrlib.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pbrlib.data.materials.material import Source

KINDS = ("generated", "matsynth", "skyrim")
"""The sources that are named by a word and their settings."""


def parse_source(text: str, *, size: int, name: str | None) -> Source:
    """A source from the command line: a folder, or one of ``KINDS`` and its settings, ``KIND:key=value,...``.

    A folder's source is called like the folder unless ``name`` is given, any other like its kind.

    Args:
        text: As it was given.
        size: Upper bound of the longer side in pixels; generated materials have a size of their own.
        name: For a folder.

    Raises:
        PbrError: There is no such kind, or its settings cannot be read.
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
        way_out = f"Did you mean {near[0]}?" if near else f"Use {', '.join(KINDS)}, or give a folder."
        raise ConfigError(f"{text}: there is no kind of source called {kind}. {way_out}")
    from pbrlib.data.sources.folder import FolderSource

    root = Path(text).resolve()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Give a folder with a subfolder for each material.")
    return FolderSource(str(root), size, name or re.sub(r"[^A-Za-z0-9_-]+", "_", root.name) or "materials")
