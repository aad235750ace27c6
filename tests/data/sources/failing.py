"""Sources that fail or log what they read, in a module that Ray's workers can import."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from pbrlib.data.materials.material import Entry, Material
from pbrlib.data.sources.folder import FolderSource


@dataclass(frozen=True)
class Deadly:
    """A source whose third material kills the process that reads it, as a decoder with a bug does."""

    root: str
    name: str = "deadly"
    signal: int = signal.SIGKILL

    def entries(self) -> list[Entry]:
        return FolderSource(self.root).entries()

    def load(self, entry: Entry) -> Material:
        if entry == self.entries()[2]:
            os.kill(os.getpid(), self.signal)
        return FolderSource(self.root).load(entry)

    def stamp(self, entry: Entry) -> str:
        return FolderSource(self.root).stamp(entry)


@dataclass(frozen=True)
class Defective:
    """A source that raises in its second half."""

    root: str
    name: str = "defective"

    def entries(self) -> list[Entry]:
        return FolderSource(self.root).entries()

    def load(self, entry: Entry) -> Material:
        if entry.id > "wood 500":
            raise ZeroDivisionError
        return FolderSource(self.root).load(entry)

    def stamp(self, entry: Entry) -> str:
        return FolderSource(self.root).stamp(entry)


@dataclass(frozen=True)
class Logged:
    """A source that writes a line for every material that is read."""

    root: str
    log: str
    name: str = "logged"

    def entries(self) -> list[Entry]:
        return FolderSource(self.root).entries()

    def load(self, entry: Entry) -> Material:
        with Path(self.log).open("a") as lines:
            lines.write(f"{entry.id}\n")
        return FolderSource(self.root).load(entry)

    def stamp(self, entry: Entry) -> str:
        return FolderSource(self.root).stamp(entry)
