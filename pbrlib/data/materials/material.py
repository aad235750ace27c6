"""Materials, and the interface of the sources that read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pbrlib.maps import Stored


@dataclass(frozen=True)
class Entry:
    """A listed material of a source that is not read yet.

    ``relatives`` are the other families of a blended material. ``place`` is a locator of the source, so that
    a task can load the material without listing all materials. ``label`` is the class, or None if it is
    unknown before reading or there are several.
    """

    id: str
    family: str
    relatives: tuple[str, ...] = ()
    place: str = ""
    label: str | None = None


@dataclass(frozen=True)
class Material:
    """A decoded material: stored maps ``(H, W, C)`` of one common size, normals in OpenGL.

    ``label`` is a class name, or None if the class is unknown or the mask has several. A height that is not
    constant is scaled to [0, 1]; ``height_range`` are its original minimum and maximum, or None if there is
    no height or it was not scaled. ``licence`` and ``attribution`` are written to the index.
    """

    id: str
    family: str
    source: str
    label: str | None
    tileable: bool
    licence: str
    attribution: str
    maps: Mapping[str, Stored]
    height_range: tuple[float, float] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.maps["normal"].shape[:2]
        return int(height), int(width)


class Source(Protocol):
    """A source of materials; picklable, so that Ray tasks can read entries in parallel."""

    @property
    def name(self) -> str:
        """The name of the source in the index and in metrics."""
        ...

    def entries(self) -> Iterable[Entry]:
        """List the materials cheaply in a stable order; raises DataError if the source does not exist."""
        ...

    def load(self, entry: Entry) -> Material:
        """Read one material; raises DataError with the file and the problem."""
        ...

    def stamp(self, entry: Entry) -> str:
        """Return a text that changes with every input of ``load``: settings, and files by `file_stamp`.

        Pictures are not read. Equal stamps mean an equal material if the code is the same.
        """
        ...


def file_stamp(path: Path) -> str:
    """Return path, size and mtime of a file, which make and rsync compare too; the path if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return str(path)
    return f"{path} {found.st_size} {found.st_mtime_ns}"
