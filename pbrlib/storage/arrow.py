"""S3 as a file system of Arrow, for libraries that ask for one.

Arrow's own client of S3 has another chain of credentials, other environment variables and other patience
than boto3's.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pa_fs

from pbrlib.storage.paths import S3Path
from pbrlib.storage.s3errors import SCHEME


def bucket_filesystem() -> pa_fs.FileSystem:
    """The file system of paths ``BUCKET/KEY``."""
    return pa_fs.PyFileSystem(_Handler())


def key_of(path: Path) -> str:
    """What the file system calls a path."""
    return str(path).removeprefix(SCHEME)


def from_key(key: str) -> S3Path:
    """The path that the file system calls ``key``."""
    return S3Path(f"{SCHEME}{key}")


class _Handler(pa_fs.FileSystemHandler):  # type: ignore[misc]
    """What Ray Train asks of a file system; the rest of Arrow's interface is refused rather than guessed."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handler)

    def __hash__(self) -> int:
        return hash(_Handler)

    def get_type_name(self) -> str:
        """For messages."""
        return "s3"

    def normalize_path(self, path: str) -> str:
        """As it is."""
        return path

    def get_file_info(self, paths: list[str]) -> list[pa_fs.FileInfo]:
        """Whether a path is an object, a folder or nothing."""
        return [_info(key) for key in paths]

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: a folder is there once something lies in it."""

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """The whole object."""
        return pa.BufferReader(from_key(path).read_bytes())

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        """Puts what is written in one step when the stream is closed."""
        return pa.PythonFile(_PutOnClose(from_key(path)), mode="w")

    def _refused(self, *given: Any) -> Any:
        raise NotImplementedError("Ray Train has not asked for this until now")

    get_file_info_selector = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = (
        _refused
    )
    move = copy_file = open_input_file = open_append_stream = _refused


class _PutOnClose(io.BytesIO):
    """Goes to S3 when it is closed."""

    def __init__(self, path: S3Path) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._path.write_bytes(self.getvalue())
        super().close()


def _info(key: str) -> pa_fs.FileInfo:
    path = from_key(key)
    if path.is_file():
        return pa_fs.FileInfo(key, pa_fs.FileType.File)
    return pa_fs.FileInfo(key, pa_fs.FileType.Directory if path.is_dir() else pa_fs.FileType.NotFound)
