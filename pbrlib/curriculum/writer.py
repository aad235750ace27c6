"""One command at a time writes a sweep: a lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pbrlib.errors import ConfigError

LOCK = "writer.lock"


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keeps other commands from writing the sweep in ``folder`` while the block runs.

    The kernel holds the lock and drops it with the process, however that ends. The file stays, and says who
    had it last.

    Raises:
        ConfigError: Another command writes the sweep, or the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read() or "another command"
            raise ConfigError(
                f"{folder}: {owner} is writing this sweep. Wait until it has ended, or give another --out."
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{folder}: its file system has no locks ({error}), and a study needs them. Give an --out on "
                "a local disk, NFS or EFS."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
