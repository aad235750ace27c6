"""The folder in which a phase's journal grows: the phase's own, or one of this machine that is sent to S3."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from pbrlib.errors import DataError
from pbrlib.storage import files as storage
from pbrlib.storage.lines import append

SEND_EVERY_S = 15.0
SHARE_OF_TIME = 0.05
"""S3 cannot add to an object, so a journal is sent whole, and less often as it grows, to take no more."""


class Outbox:
    """What is written into ``folder`` is found in the phase's ``directory``: at once, or when it is sent.

    Lines given to ``add`` go to files that others add to as well, before and after.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.is_remote = storage.is_remote(directory)
        self.folder = directory
        if self.is_remote:
            self._here = tempfile.TemporaryDirectory(prefix="pbr-journal-")
            self.folder = Path(self._here.name)
        self._sizes: dict[Path, int] = {}
        self._lines: dict[str, str] = {}
        self._due = time.monotonic() + SEND_EVERY_S

    def add(self, name: str, line: str) -> None:
        """Adds a line to a file of the phase."""
        if self.is_remote:
            self._lines[name] = self._lines.get(name, "") + line
        else:
            append(self.directory / name, line)

    def send(self) -> None:
        """Sends what is new; raises DataError when S3 refuses, and keeps it for the next time."""
        if not self.is_remote:
            return
        began = time.monotonic()
        try:
            for path in sorted(self.folder.rglob("*")):
                size = path.stat().st_size
                if path.is_file() and self._sizes.get(path) != size:
                    storage.put_file(path, self.directory / path.relative_to(self.folder).as_posix())
                    self._sizes[path] = size
            for name in list(self._lines):
                append(self.directory / name, self._lines[name])
                del self._lines[name]
        finally:
            now = time.monotonic()
            self._due = now + max(SEND_EVERY_S, (now - began) / SHARE_OF_TIME)

    @property
    def is_due(self) -> bool:
        """Whether it is time to send for those who watch."""
        return self.is_remote and time.monotonic() >= self._due

    def send_what_goes(self) -> None:
        """Sends for those who watch: what S3 refuses now is sent with the next checkpoint, or that fails."""
        try:
            self.send()
        except DataError:
            return

    def close(self) -> None:
        """Removes the folder of this machine."""
        if self.is_remote:
            self._here.cleanup()
