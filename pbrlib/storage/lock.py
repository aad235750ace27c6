"""A file lock that the operating system releases when its process ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pbrlib.errors import ConfigError


@contextmanager
def hold_file_lock(path: Path, *, owner: str, option: str) -> Iterator[None]:
    """Hold the lock of a file while the block runs; the file is kept and contains the last owner.

    Args:
        path: The file.
        owner: The text that the file contains while the lock is held.
        option: The command-line option that gives the folder of the file, for error messages.

    Raises:
        ConfigError: Another process holds the lock, or the file system has no locks.
    """
    from filelock import FileLock, Timeout  # imports asyncio, which most commands do not need

    path.parent.mkdir(parents=True, exist_ok=True)
    # On a file system without locks filelock would use a soft lock, which remains after a kill.
    lock = FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        holder = path.read_text(encoding="utf-8") or "another command"
        raise ConfigError(f"{path.parent}: {holder} is writing there. {wait_remedy(option)}") from None
    except PermissionError:
        raise
    except OSError as error:
        raise ConfigError(
            f"{path.parent}: got a file system without locks ({error}); expected one with locks, since two "
            f"commands must not write at once. Give another {option}: a folder on a local disk, NFS or EFS."
        ) from error
    try:
        path.write_text(owner, encoding="utf-8")
        yield
    finally:
        lock.release()


def wait_remedy(option: str) -> str:
    """Return the remedy for an error message, if another command holds a lock."""
    return f"Wait until it has ended, or give another {option}."
