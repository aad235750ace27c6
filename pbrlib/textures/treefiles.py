"""Lists the files of a texture tree: supported textures, and other files that may contain textures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pbrlib.skyrim import ARCHIVES, OTHER_PICTURES
from pbrlib.textures.decode import SUFFIXES
from pbrlib.textures.leftout import LeftOutFile, Outcome

SAVE_ADVICE = "Save it as DDS or PNG"
"""Advice for a picture in an unsupported format."""

_UNPACK = "Unpack it (BSA and BA2 with a tool such as BSA Browser) and convert the unpacked folder"


@dataclass
class TreeFiles:
    """The textures below a folder and other files that may contain textures, relative to the texture root."""

    textures: list[PurePosixPath] = field(default_factory=list)
    left_out: list[LeftOutFile] = field(default_factory=list)


def tree_files(root: Path, *, start: Path) -> TreeFiles:
    """List the files below ``start`` in a stable order; links to folders are left out with a reason.

    Args:
        root: The texture root, which returned paths are relative to.
        start: The root itself or a folder below it.
    """
    found = TreeFiles()

    def add_unlisted(error: OSError) -> None:
        place = _relative(root, Path(str(error.filename)))
        found.left_out.append(
            LeftOutFile(place, Outcome.UNREAD, f"cannot be listed ({error.strerror}). Check its permissions")
        )

    for folder, subfolders, names in os.walk(start, onerror=add_unlisted):
        subfolders.sort()
        for name in subfolders:
            if Path(folder, name).is_symlink():
                reason = "a link to a folder, which is not followed. Copy the folder, or give it as INPUT"
                found.left_out.append(
                    LeftOutFile(_relative(root, Path(folder, name)), Outcome.UNREAD, reason)
                )
        for name in sorted(names):
            path = Path(folder, name)
            reason = unread_reason(path)
            if reason:
                found.left_out.append(LeftOutFile(_relative(root, path), Outcome.UNREAD, reason))
            elif name.lower().endswith(SUFFIXES):
                found.textures.append(_relative(root, path))
    return found


def unread_reason(path: Path) -> str:
    """Return why a file that may contain textures is not read, with advice; empty for all other files."""
    suffix = path.suffix.lower()
    if suffix in ARCHIVES:
        return f"an archive, which is not supported. {_UNPACK}"
    if suffix in OTHER_PICTURES:
        return f"{suffix[1:].upper()} is not supported. {SAVE_ADVICE}"
    if suffix in SUFFIXES and not path.is_file():
        return "a link to a missing file" if path.is_symlink() else "no regular file"
    return ""


def archives_in(folder: Path) -> list[Path]:
    """Return the archives directly in a folder."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in ARCHIVES and path.is_file()]


def texture_files(root: Path) -> Iterator[PurePosixPath]:
    """Yield every texture file below a folder, relative to it, in a stable order."""
    yield from tree_files(root, start=root).textures


def subfolder(folder: Path, name: str) -> Path | None:
    """Return the subfolder with a lower-case name, ignoring case; None if there is none."""
    return next(iter(subfolders_named(folder, name)), None)


def subfolders_named(folder: Path, name: str) -> list[Path]:
    """Return the subfolders with a lower-case name, ignoring case."""
    return [path for path in sorted(folder.iterdir()) if path.name.lower() == name and path.is_dir()]


def _relative(root: Path, path: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(root).as_posix())
