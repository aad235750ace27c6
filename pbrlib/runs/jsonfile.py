"""Reads a run's JSON files: leniently for display, strictly for decisions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pbrlib.errors import DataError


def read_leniently(path: Path) -> dict[str, Any]:
    """Read a mapping for display; empty if the file is missing, unreadable or not a mapping."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_strictly(path: Path) -> dict[str, Any]:
    """Read a mapping that decides which files are removed; empty if the file is missing.

    Raises:
        DataError: The file exists but cannot be read, so the checkpoints that it needs are unknown.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}), so nothing is removed. Restore it, or remove its folder."
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"{path}: got another value; expected a mapping. Nothing is removed. Restore the file, or "
            "remove its folder."
        )
    return found
