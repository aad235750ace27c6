"""Runs on S3 as Ray Train sees them: its record of checkpoints goes the way that everything of ours goes.

Ray would use pyarrow's own client of S3, with another chain of credentials, other environment variables and
other patience than boto3's.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pa_fs
import ray.train

from pbrlib.storage import s3
from pbrlib.storage.files import is_remote, move_folder
from pbrlib.storage.paths import S3Path
from pbrlib.train.checkpoint.state import STATE


def storage_of(folder: Path) -> dict[str, Any]:
    """Where Ray keeps what it notes of the fits in a folder, as arguments of ``RunConfig``."""
    if not is_remote(folder):
        return {"storage_path": str(folder)}
    return {"storage_path": _key(folder), "storage_filesystem": _filesystem()}


def sending_to(directory: Path) -> Callable[[ray.train.Checkpoint, str], ray.train.Checkpoint]:
    """How a checkpoint comes into the folder of a phase, of which Ray knows the name.

    On a disk it is renamed. On S3, where nothing can be, ``state.json``, by which a reader knows a
    checkpoint, goes last. So what a fault leaves of one is never taken for a whole one.
    """

    def send(checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        move_folder(Path(checkpoint.path), directory / name, last=STATE)
        return checkpoint_at(directory / name)

    return send


def checkpoint_at(folder: Path) -> ray.train.Checkpoint:
    """A folder as one of Ray's checkpoints."""
    if not is_remote(folder):
        return ray.train.Checkpoint.from_directory(str(folder))
    return ray.train.Checkpoint(_key(folder), filesystem=_filesystem())


def path_of(checkpoint: ray.train.Checkpoint) -> Path:
    """Where one of Ray's checkpoints lies."""
    if checkpoint.filesystem == _filesystem():
        return S3Path(f"{s3.SCHEME}{checkpoint.path}")
    return Path(checkpoint.path)


def _key(path: Path) -> str:
    return str(path).removeprefix(s3.SCHEME)


def _filesystem() -> pa_fs.FileSystem:
    return pa_fs.PyFileSystem(_OnS3())


class _OnS3(pa_fs.FileSystemHandler):  # type: ignore[misc]
    """What Ray Train asks of a file system, of ``BUCKET/KEY``; the rest of pyarrow's interface is refused."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _OnS3)

    def __hash__(self) -> int:
        return hash(_OnS3)

    def get_type_name(self) -> str:
        """For messages."""
        return "s3"

    def normalize_path(self, path: str) -> str:
        """As it is."""
        return path

    def get_file_info(self, paths: list[str]) -> list[pa_fs.FileInfo]:
        """Whether a path is an object, a folder or nothing."""
        return [_info(path) for path in paths]

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: a folder is there once something lies in it."""

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """The whole object."""
        return pa.BufferReader(_place(path).read_bytes())

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        """What is written is put in one step when the stream is closed."""
        return pa.PythonFile(_Sent(_place(path)), mode="w")

    def _refused(self, *given: Any) -> Any:
        raise NotImplementedError("Ray Train has not asked for this until now")

    get_file_info_selector = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = (
        _refused
    )
    move = copy_file = open_input_file = open_append_stream = _refused


class _Sent(io.BytesIO):
    """Goes to S3 when it is closed."""

    def __init__(self, path: S3Path) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._path.write_bytes(self.getvalue())
        super().close()


def _place(path: str) -> S3Path:
    return S3Path(f"{s3.SCHEME}{path}")


def _info(path: str) -> pa_fs.FileInfo:
    place = _place(path)
    if place.is_file():
        return pa_fs.FileInfo(path, pa_fs.FileType.File)
    return pa_fs.FileInfo(path, pa_fs.FileType.Directory if place.is_dir() else pa_fs.FileType.NotFound)
