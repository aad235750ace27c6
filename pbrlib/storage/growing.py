"""A folder of files that grow while a phase trains."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from pbrlib.errors import DataError
from pbrlib.storage import s3writing
from pbrlib.storage.lines import append_to_object, open_for_lines

SEND_EVERY_S = 15.0
SHARE_OF_TIME = 0.05
"""S3 cannot add to an object, so files are sent whole, and less often as they grow, to take no more."""


class GrowingFolder:
    """What is written into ``path`` is found in the folder: here at once, since it is the folder itself."""

    def __init__(self, folder: Path) -> None:
        self.path = folder

    def append(self, name: str, lines: str) -> None:
        """Adds lines to a file that others add to as well, before and after."""
        with open_for_lines(self.path / name) as file:
            file.write(lines)

    def send(self) -> None:
        """Puts what is new into the folder; raises DataError when S3 refuses, and keeps it then."""

    @property
    def is_due(self) -> bool:
        """Whether it is time to send for readers."""
        return False

    def try_to_send(self) -> None:
        """Sends for readers: what S3 refuses now is sent with the next checkpoint, or that fails."""

    def close(self) -> None:
        """Removes what is kept on this machine alone."""


class SentFolder(GrowingFolder):
    """A growing folder on S3: files grow in a temporary folder and are sent whole."""

    def __init__(self, folder: Path) -> None:
        self._here = tempfile.TemporaryDirectory(prefix="pbr-journal-")
        super().__init__(Path(self._here.name))
        self._folder = folder
        self._sizes: dict[Path, int] = {}
        self._lines: dict[str, str] = {}
        self._due = time.monotonic() + SEND_EVERY_S

    def append(self, name: str, lines: str) -> None:
        """Keeps the lines until they are sent."""
        self._lines[name] = self._lines.get(name, "") + lines

    def send(self) -> None:
        """Sends the files that have grown, and adds the lines."""
        began = time.monotonic()
        try:
            for path in sorted(self.path.rglob("*")):
                size = path.stat().st_size
                if path.is_file() and self._sizes.get(path) != size:
                    s3writing.upload(path, f"{self._folder}/{path.relative_to(self.path).as_posix()}")
                    self._sizes[path] = size
            for name in list(self._lines):
                append_to_object(f"{self._folder}/{name}", self._lines[name].encode())
                del self._lines[name]
        finally:
            now = time.monotonic()
            self._due = now + max(SEND_EVERY_S, (now - began) / SHARE_OF_TIME)

    @property
    def is_due(self) -> bool:
        """After ``SEND_EVERY_S``, later where sending takes long."""
        return time.monotonic() >= self._due

    def try_to_send(self) -> None:
        """Sends; what is refused stays."""
        try:
            self.send()
        except DataError:
            return

    def close(self) -> None:
        """Removes the temporary folder."""
        self._here.cleanup()
