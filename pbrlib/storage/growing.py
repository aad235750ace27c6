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
"""Files are sent at most every ``SEND_EVERY_S``, and sending takes at most this share of the time.

S3 cannot append to an object, so that whole files are sent; large files are sent less often.
"""


class GrowingFolder:
    """A folder of growing files; ``path`` is the local folder to write to, here the folder itself."""

    def __init__(self, folder: Path) -> None:
        self.path = folder

    def append(self, name: str, lines: str) -> None:
        """Append lines to a file that other processes append to."""
        with open_for_lines(self.path / name) as file:
            file.write(lines)

    def send(self) -> None:
        """Send new content to the folder; if S3 refuses, raise DataError and keep the content."""

    @property
    def is_due(self) -> bool:
        """Whether new content should be sent now, so that readers see it."""
        return False

    def try_to_send(self) -> None:
        """Send new content; if S3 refuses, it is sent again with the next checkpoint."""

    def close(self) -> None:
        """Remove the temporary local files."""


class SentFolder(GrowingFolder):
    """A growing folder on S3; files grow in a temporary folder and are uploaded completely."""

    def __init__(self, folder: Path) -> None:
        self._here = tempfile.TemporaryDirectory(prefix="pbr-journal-")
        super().__init__(Path(self._here.name))
        self._folder = folder
        self._sizes: dict[Path, int] = {}
        self._lines: dict[str, str] = {}
        self._due = time.monotonic() + SEND_EVERY_S

    def append(self, name: str, lines: str) -> None:
        """Keep the lines until ``send``."""
        self._lines[name] = self._lines.get(name, "") + lines

    def send(self) -> None:
        """Send the files that have grown, and append the lines."""
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
        """Whether ``SEND_EVERY_S`` has passed, or more time if sending is slow."""
        return time.monotonic() >= self._due

    def try_to_send(self) -> None:
        """Send new content, and keep what S3 refuses."""
        try:
            self.send()
        except DataError:
            return

    def close(self) -> None:
        """Remove the temporary folder."""
        self._here.cleanup()
