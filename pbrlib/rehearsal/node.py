"""Collects the facts of a node: access to storage and data, and its resources."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from pbrlib import storage
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.union import read_fingerprint
from pbrlib.errors import PbrError

DRIVERS_TOKEN = "token-of-the-driver"  # noqa: S105  # the content of a file, not a secret
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # Ray's object store, not a temporary file
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class NodeFacts:
    """The facts of one node.

    Attributes:
        node: Id of the node in the cluster.
        host: Host name.
        reads: Content of the driver's file in the scratch directory as the node reads it, or the error.
        writes: The error of writing a file there; None if it succeeded.
        data: Fingerprint of the data as the node reads it, or the error.
        shm_bytes: Size of ``/dev/shm``; None if it does not exist.
        memory_bytes: Memory of the node, or of its container.
        cpus: Number of CPUs that the operating system allows the process to use.
    """

    node: str
    host: str
    reads: str
    writes: str | None
    data: str
    shm_bytes: int | None
    memory_bytes: int
    cpus: int


def write_token(place: Path, token: str) -> None:
    """Write the driver's file, which every node reads."""
    (place / DRIVERS_TOKEN).write_text(token)


def inspect_node(place: Path, *, node: str, token: str, data: DataSpec) -> NodeFacts:
    """Collect the facts of this node: read the driver's file below ``place``, and write ``token`` there."""
    try:
        reads = (place / DRIVERS_TOKEN).read_text()
    except (OSError, PbrError) as error:
        reads = _message(error, place / DRIVERS_TOKEN)
    writes = None
    try:
        storage.write_atomic(place / node, token)
    except (OSError, PbrError) as error:
        writes = _message(error, place / node)
    try:
        fingerprint = read_fingerprint(data)
    except PbrError as error:
        fingerprint = str(error)
    return NodeFacts(
        node=node,
        host=socket.gethostname(),
        reads=reads,
        writes=writes,
        data=fingerprint,
        shm_bytes=shutil.disk_usage(SHARED_MEMORY).total if SHARED_MEMORY.is_dir() else None,
        memory_bytes=_memory_bytes(),
        cpus=len(os.sched_getaffinity(0)),
    )


def _message(error: OSError | PbrError, path: Path) -> str:
    """Return the message of an error with the path, which errors of S3 contain already."""
    if isinstance(error, PbrError):
        return str(error)
    return f"{path}: {error.strerror or 'no such file'}"


def _memory_bytes() -> int:
    """Return the memory of the machine, or the limit of its container."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CONTAINER_LIMIT.read_text().strip() if CONTAINER_LIMIT.is_file() else "max"
    return min(machine, int(limit)) if limit.isdecimal() else machine


def read_token(place: Path, node: str) -> str | None:
    """Read the token of a node on the driver; None if it does not exist."""
    path = place / node
    return path.read_text() if path.is_file() else None
