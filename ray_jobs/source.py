"""Sources of materials as they are named on the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbrlib.data.material import Source


def parse_source(text: str, *, size: int, name: str | None) -> Source:
    """A source from the command line: a folder, or ``generated:count=...,size=...,seed=...``.

    A folder's source is called like the folder unless ``name`` is given.

    Raises:
        PbrError: The settings of ``generated`` cannot be read.
    """
    if text.startswith("generated:"):
        from pbrlib.data.sources.generated import GeneratedSource

        return GeneratedSource.parse(text)
    from pbrlib.data.sources.folder import FolderSource

    root = Path(text).resolve()
    return FolderSource(str(root), size, name or re.sub(r"[^A-Za-z0-9_-]+", "_", root.name) or "materials")
