"""Arrow file system for S3 on top of boto3, for libraries that require an Arrow file system.

Arrow's own S3 client is not used, since its credentials, environment variables and retries differ from those
of boto3.
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
    """Return the file system; its paths have the form ``BUCKET/KEY``."""
    return pa_fs.PyFileSystem(_Handler())


def key_of(path: Path) -> str:
    """Return the key of a path in the file system."""
    return str(path).removeprefix(SCHEME)


def from_key(key: str) -> S3Path:
    """Return the path of a ``key`` of the file system."""
    return S3Path(f"{SCHEME}{key}")


class _Handler(pa_fs.FileSystemHandler):  # type: ignore[misc]
    """Implements the part of Arrow's file system interface that Ray Train uses; other methods raise."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handler)

    def __hash__(self) -> int:
        return hash(_Handler)

    def get_type_name(self) -> str:
        """Return the name of the file system for messages."""
        return "s3"

    def normalize_path(self, path: str) -> str:
        """Return the path unchanged."""
        return path

    def get_file_info(self, paths: list[str]) -> list[pa_fs.FileInfo]:
        """Return for each path whether it is a file, a folder or missing."""
        return [_info(key) for key in paths]

    def create_dir(self, path: str, recursive: bool) -> None:
        """Do nothing, since a folder exists once it has an object."""

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Return a stream of the object, which is read into memory."""
        return pa.BufferReader(from_key(path).read_bytes())

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        """Return a stream that puts the object in one step when it is closed."""
        return pa.PythonFile(_PutOnClose(from_key(path)), mode="w")

    def _unsupported(self, *given: Any) -> Any:
        raise NotImplementedError("this file system has only the methods that Ray Train uses")

    get_file_info_selector = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = (
        _unsupported
    )
    move = copy_file = open_input_file = open_append_stream = _unsupported


class _PutOnClose(io.BytesIO):
    """A buffer that is put to S3 when it is closed."""

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
