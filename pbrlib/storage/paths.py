"""The one path type: a path of this machine, or one that stands for an S3 address."""

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
    """A ``pathlib.Path`` of an S3 address: what reads, writes, lists and removes asks S3.

    A folder is there as long as anything lies below it. There is no half-written file: ``write_bytes`` puts
    an object in one step. Whatever needs a file of this machine gets a TypeError rather than a file with an
    odd name; `pbrlib.storage.fetched` makes one.
    """

    def __str__(self) -> str:
        scheme, *parts = self.parts or ("",)
        return f"{SCHEME}{'/'.join(parts)}" if scheme == "s3:" else "/".join(self.parts)

    def __repr__(self) -> str:
        return f"S3Path({str(self)!r})"

    def __fspath__(self) -> str:
        raise TypeError(f"{self}: is no file of this machine")

    def is_absolute(self) -> bool:
        """An address means the same everywhere; what ``relative_to`` leaves of one does not."""
        return self.parts[:1] == ("s3:",)

    def resolve(self, strict: bool = False) -> S3Path:
        """Itself."""
        return self

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size and time; raises FileNotFoundError unless it is an object."""
        known = s3listing.head(str(self))
        return os.stat_result((0o100644, 0, 0, 1, 0, 0, known.size, *[known.modified] * 3))

    def lstat(self) -> os.stat_result:
        """As ``stat``."""
        return self.stat()

    def is_file(self) -> bool:
        """Whether there is an object; a bucket is none."""
        if len(self.parts) < 3:  # s3:, bucket, key
            return False
        try:
            s3listing.head(str(self))
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether anything lies below it."""
        return s3listing.is_folder(str(self))

    def is_symlink(self) -> bool:
        """Never."""
        return False

    def exists(self) -> bool:
        """Whether it is an object or a folder."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Generator[S3Path, None, None]:
        """What lies directly below."""
        yield from (self / name for name in s3listing.children(str(self)))

    def glob(self, pattern: str) -> Generator[S3Path, None, None]:
        """What lies as many levels below as the pattern has parts, and matches it."""
        first, _, rest = pattern.partition("/")
        for path in self.iterdir() if "*" in first else [self / first]:
            if not fnmatch.fnmatchcase(path.name, first):
                continue
            if rest:
                yield from path.glob(rest)
            elif "*" in first or path.exists():
                yield path

    def rglob(self, pattern: str) -> Generator[S3Path, None, None]:
        """All objects below whose name matches."""
        found = (S3Path(address) for address in s3listing.tree(str(self)))
        yield from (path for path in found if fnmatch.fnmatchcase(path.name, pattern))

    def open(self, mode: str = "r", *given: Any, **named: Any) -> Any:
        """The whole object in memory, to be read; raises FileNotFoundError, DataError if S3 refuses."""
        if mode not in ("r", "rb"):
            raise TypeError(f"{self}: S3 has no files that can be opened for writing")
        data = self.read_bytes()
        return io.BytesIO(data) if mode == "rb" else io.StringIO(data.decode())

    def read_bytes(self) -> bytes:
        """The whole object; errors as for ``open``."""
        return s3reading.read(str(self))

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """The whole object as text; errors as for ``open``."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: Any) -> int:
        """Puts an object in one step; raises DataError."""
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
        """Puts a text in one step; raises DataError."""
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder is there once something lies below it."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes an object; raises FileNotFoundError, unless it may be missing, and DataError."""
        if not missing_ok:
            s3listing.head(str(self))
        s3writing.remove([str(self)])


def to_path(location: str | Path) -> Path:
    """The path of a location as a user writes it; raises DataError for an address that names no bucket."""
    if str(location).startswith(SCHEME):
        split_address(str(location))
        return S3Path(str(location))
    return Path(location)
