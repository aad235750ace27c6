"""Paths of local files and of S3 objects, with one interface."""

from __future__ import annotations

import fnmatch
import io
import os
from collections.abc import Generator
from pathlib import Path, PosixPath
from typing import Any

from pbrlib.storage import s3listing, s3reading, s3writing
from pbrlib.storage.s3errors import SCHEME, split_address


class S3Path(PosixPath):
    """A ``pathlib.Path`` of an S3 address: its methods read, write, list and remove objects of S3.

    A folder exists while it has objects. Files are never incomplete: ``write_bytes`` puts an object in one
    step. A function that needs a local file gets a TypeError instead of a file with an
    odd name; `pbrlib.storage.fetched` makes one.
    """

    def __str__(self) -> str:
        scheme, *parts = self.parts or ("",)
        return f"{SCHEME}{'/'.join(parts)}" if scheme == "s3:" else "/".join(self.parts)

    def __repr__(self) -> str:
        return f"S3Path({str(self)!r})"

    def __fspath__(self) -> str:
        raise TypeError(f"{self}: got an S3 path; expected a local file")

    def is_absolute(self) -> bool:
        """Whether the path begins with a scheme; the results of ``relative_to`` do not."""
        return self.parts[:1] == ("s3:",)

    def resolve(self, strict: bool = False) -> S3Path:
        """Return the path itself."""
        return self

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return size and time of an object; raises FileNotFoundError if there is none."""
        known = s3listing.head(str(self))
        return os.stat_result((0o100644, 0, 0, 1, 0, 0, known.size, *[known.modified] * 3))

    def lstat(self) -> os.stat_result:
        """Return the result of ``stat``."""
        return self.stat()

    def is_file(self) -> bool:
        """Whether the path is an object; a bucket is not."""
        if len(self.parts) < 3:  # s3:, bucket, key
            return False
        try:
            s3listing.head(str(self))
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether there is an object below the path."""
        return s3listing.is_folder(str(self))

    def is_symlink(self) -> bool:
        """Return False, since S3 has no links."""
        return False

    def exists(self) -> bool:
        """Whether the path is an object or a folder."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Generator[S3Path, None, None]:
        """Yield the objects and folders directly below the path."""
        yield from (self / name for name in s3listing.children(str(self)))

    def glob(self, pattern: str) -> Generator[S3Path, None, None]:
        """Yield the paths that match a pattern; ``*`` matches within one level."""
        first, _, rest = pattern.partition("/")
        for path in self.iterdir() if "*" in first else [self / first]:
            if not fnmatch.fnmatchcase(path.name, first):
                continue
            if rest:
                yield from path.glob(rest)
            elif "*" in first or path.exists():
                yield path

    def rglob(self, pattern: str) -> Generator[S3Path, None, None]:
        """Yield all objects below the path whose name matches."""
        found = (S3Path(address) for address in s3listing.tree(str(self)))
        yield from (path for path in found if fnmatch.fnmatchcase(path.name, pattern))

    def open(self, mode: str = "r", *given: Any, **named: Any) -> Any:
        """Read an object into memory; raises FileNotFoundError, or DataError if S3 refuses the request."""
        if mode not in ("r", "rb"):
            raise TypeError(f"{self}: S3 objects cannot be opened for writing")
        data = self.read_bytes()
        return io.BytesIO(data) if mode == "rb" else io.StringIO(data.decode())

    def read_bytes(self) -> bytes:
        """Return the content of an object; raises the errors of ``open``."""
        return s3reading.read(str(self))

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Return the content of an object as text; raises the errors of ``open``."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: Any) -> int:
        """Put an object in one step; raises DataError."""
        content = bytes(data)
        s3writing.write(str(self), content)
        return len(content)

    def write_text(
        self,
        data: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> int:
        """Put a text in one step; raises DataError."""
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing, since a folder exists once it has an object."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove an object; raises FileNotFoundError unless ``missing_ok``, and DataError if S3 refuses."""
        if not missing_ok:
            s3listing.head(str(self))
        s3writing.remove([str(self)])


def to_path(location: str | Path) -> Path:
    """Return the path of a location that a user wrote; raises DataError for an address without a bucket."""
    if str(location).startswith(SCHEME):
        split_address(str(location))
        return S3Path(str(location))
    return Path(location)
