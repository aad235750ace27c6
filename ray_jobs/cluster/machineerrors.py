"""Describe errors of the machine in sentences: a full disk, a limit, a missing permission."""

from __future__ import annotations

import errno
import os
import sys

_READ_ONLY = "Give a folder that this user can write to."
_WAYS_OUT = {
    errno.ENOSPC: "Free space there, or name a folder on another disk.",
    errno.EDQUOT: "Free space there, or name a folder on another disk.",
    errno.EFBIG: "Give a folder on another disk.",
    errno.EROFS: _READ_ONLY,
    errno.EACCES: "Give a folder of this user, or have its owner changed.",
    errno.EPERM: "Give a folder of this user, or have its owner changed.",
    errno.EEXIST: "Give another path.",
    errno.ENOTDIR: "Give a path in a folder, not below a file.",
    errno.EISDIR: "Give a file, not a folder.",
    errno.ENAMETOOLONG: "Use a shorter name.",
    errno.ELOOP: "Remove the link that leads to itself.",
    errno.EMFILE: "Raise the limit: `ulimit -n 65536`.",
    errno.ENFILE: "Close other programs: the machine has no open file left.",
    errno.ENOMEM: "Close other programs, or use fewer workers.",
    errno.EAGAIN: "Close other programs, or raise the limit of processes (`ulimit -u`).",
    errno.EIO: "Check the disk: it does not answer.",
    errno.ESTALE: "Mount the share again: it does not answer.",
    errno.EADDRINUSE: "Close other programs: no port is free.",
    errno.EADDRNOTAVAIL: "Close other programs: no port is free.",
}
"""Numbers of an OSError that the machine causes, not this program, and the remedies."""

_NO_TEMPORARY = "No usable temporary directory"
"""Beginning of Python's error for a missing temporary folder, whose number is that of a missing file."""


def describe_machine_error(error: BaseException) -> str | None:
    """Describe an error of the machine and its remedy; None for one that may be a bug of this program."""
    if isinstance(error, MemoryError) or _is_out_of_device_memory(error):
        where = "this machine" if isinstance(error, MemoryError) else "the GPU"
        return f"{where}: out of memory. Close other programs, or use smaller sizes and fewer workers."
    if not isinstance(error, OSError):
        return None
    if error.errno == errno.ENOENT:
        return _missing(error)
    if error.errno not in _WAYS_OUT:
        return None
    place = error.filename2 or error.filename
    return f"{place or 'this machine'}: {error.strerror}. {_WAYS_OUT[error.errno]}"


def _missing(error: OSError) -> str | None:
    if str(error.strerror).startswith(_NO_TEMPORARY):
        return "TMPDIR: got no folder for temporary files that can be written. Set TMPDIR to one that can."
    try:
        os.getcwd()  # noqa: PTH109  # Path.cwd() is the same call
    except FileNotFoundError:
        return "the current folder is gone. Change to one that is there, and give the command again."
    return None


def _is_out_of_device_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)
