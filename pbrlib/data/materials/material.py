"""One material on its way from a source to a shard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pbrlib.maps import Stored


@dataclass(frozen=True)
class Entry:
    """What a source says of a material before reading it.

    ``relatives`` are further families of which it holds a part: a material blended of two. ``place`` is
    where the source finds it again, in its own words, so that a task that loads a few need not list all.
    ``label`` is its class; None where that is unknown before reading, or there are several.
    """

    id: str
    family: str
    relatives: tuple[str, ...] = ()
    place: str = ""
    label: str | None = None


@dataclass(frozen=True)
class Material:
    """A decoded material: stored maps ``(H, W, C)`` of one common size, normals in OpenGL.

    ``label`` is a class name or None (unknown, or several: see the mask). A height that is not
    constant spans all of [0, 1]; ``height_range`` are its extremes in the source's own [0, 1], None where
    there is no height or it never had others. ``licence`` and ``attribution`` travel into the index.
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
    """Where materials come from. Pickles, so that Ray tasks can read entries in parallel."""

    @property
    def name(self) -> str:
        """Of the source, in the index and in metrics."""
        ...

    def entries(self) -> Iterable[Entry]:
        """Lists the materials, cheaply, in a stable order; raises DataError if there is no such source."""
        ...

    def load(self, entry: Entry) -> Material:
        """Reads one material; raises DataError naming the file and what is wrong with it."""
        ...

    def stamp(self, entry: Entry) -> str:
        """A text that changes with all that ``load`` reads: settings, and files by `file_stamp`.

        Costs no reading of pictures. Equal stamps mean the same material to the same code.
        """
        ...


def file_stamp(path: Path) -> str:
    """Path, size and time of change of a file, as make and rsync compare them; of a missing file the path."""
    try:
        found = path.stat()
    except OSError:
        return str(path)
    return f"{path} {found.st_size} {found.st_mtime_ns}"
