"""Write the output files of commands, and print the table of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pbrlib import storage
from pbrlib.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pbrlib.evaluate.evaluationreport import Evaluation


def check_file(path: Path, *, option: str) -> None:
    """Raise ConfigError where ``write_file`` could not write, before the content is computed.

    S3 paths and files that are not regular, such as ``/dev/stdout``, are not checked.
    """
    if isinstance(path, storage.S3Path):
        return
    if path.is_dir():
        raise ConfigError(f"{option}: got {path}, which is a folder; expected a file.")
    if path.is_file() or not path.exists():
        storage.check_writable(path.parent, option=option)


def write_file(path: Path, content: bytes, *, place: str | None = None) -> None:
    """Writes a file and the folders above it.

    Args:
        path: The file.
        content: All of it.
        place: The start of the error message, such as an option with its value; the path by default.

    Raises:
        DataError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise DataError(
            f"{place or path}: cannot be written ({error.strerror}). Give another path."
        ) from error


def print_evaluation(evaluation: Evaluation, files: Sequence[Path]) -> None:
    """Print the table of an evaluation and the paths of its files."""
    from ray_jobs.bar import Console

    console = Console(highlight=False)
    console.print(evaluation.table())
    console.print(f"Figures: {files[0]}", soft_wrap=True)
    console.print(f"Pictures: {', '.join(map(str, files[1:]))}", soft_wrap=True)
