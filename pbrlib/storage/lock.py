"""A lock of the kernel that does not outlive the process that holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pbrlib.errors import ConfigError


@contextmanager
def locked(path: Path, *, owner: str, option: str) -> Iterator[None]:
    """Holds the lock of a file while the block runs; the file stays, and says who had it last.

    Raises:
        ConfigError: Another process holds it, or the file system has no locks. ``option`` is the one that
            names the folder.
    """
    from filelock import FileLock, Timeout  # imports asyncio, which most commands have no use for

    path.parent.mkdir(parents=True, exist_ok=True)
    # A soft lock, filelock's answer to a file system without locks, would outlive a killed process.
    lock = FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        first = path.read_text(encoding="utf-8") or "another command"
        raise ConfigError(f"{path.parent}: {first} is writing there. {ask_to_wait(option)}") from None
    except PermissionError:
        raise
    except OSError as error:
        raise ConfigError(
            f"{path.parent}: its file system has no locks ({error}), without which two commands would write "
            f"over each other. Give another {option}: a local disk, NFS or EFS."
        ) from error
    try:
        path.write_text(owner, encoding="utf-8")
        yield
    finally:
        lock.release()


def ask_to_wait(option: str) -> str:
    """The remedy where another command holds a lock."""
    return f"Wait until it has ended, or give another {option}."
