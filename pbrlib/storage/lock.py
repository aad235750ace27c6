"""One command at a time writes a run or a sweep: a lock that does not outlive who holds it.

Where there is a kernel it holds the lock; on S3 it is a lease (`pbrlib.storage.lease`).
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pbrlib.errors import ConfigError
from pbrlib.storage.files import is_remote
from pbrlib.storage.lease import leased

LOCK = "writer.lock"


@contextmanager
def sole_writer(folder: Path, *, option: str) -> Iterator[None]:
    """Keeps other commands from writing into ``folder`` while the block runs.

    The kernel drops its lock with the process, however that ends. The file stays, and says who had it last.
    ``option`` is the one that names the folder.

    Raises:
        ConfigError: Another command writes there, or the file system has no locks.
        DataError: S3 cannot be used, or its lease was lost and the block has been interrupted.
    """
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    if is_remote(folder):
        with leased(folder / LOCK, owner=owner, remedy=_remedy(option)):
            yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            first = file.read() or "another command"
            raise ConfigError(f"{folder}: {first} is writing there. {_remedy(option)}") from None
        except OSError as error:
            raise ConfigError(
                f"{folder}: its file system has no locks ({error}), without which two commands would write "
                f"over each other. Give another {option}: a local disk, NFS or EFS."
            ) from error
        file.truncate(0)
        file.write(owner)
        file.flush()
        yield


def _remedy(option: str) -> str:
    return f"Wait until it has ended, or give another {option}."
