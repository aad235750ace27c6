"""Files that a command writes beside its result: a report, a picture."""

from __future__ import annotations

from pathlib import Path

from pbrlib.errors import DataError


def write_file(path: Path, content: bytes, *, place: str | None = None) -> None:
    """Writes a file and the folders above it.

    Args:
        path: The file.
        content: All of it.
        place: What the error calls it, such as an option with its value; the path by default.

    Raises:
        DataError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise DataError(
            f"{place or path}: cannot be written ({error.strerror}). Name another file."
        ) from error
