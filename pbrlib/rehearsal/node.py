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

DRIVERS_TOKEN = "token-of-the-driver"  # noqa: S105  # a word in a file, no secret
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Ray keeps objects, not a file of ours
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class NodeFacts:
    """One node.

    Attributes:
        node: How the cluster calls it.
        host: Its own name.
        reads: What it found in the driver's file in the scratch place, or the error.
        writes: Why it could not leave a file there, renamed into place; None: it did.
        data: Fingerprint of the data as seen from there, or the error.
        shm_bytes: Size of its shared memory; None where it has none of that name.
        memory_bytes: Its memory, or its container's.
        cpus: Those that its processes may use, by the operating system.
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
    """The driver's file, which every node is to read."""
    (place / DRIVERS_TOKEN).write_text(token)


def inspect_node(place: Path, *, node: str, token: str, data: DataSpec) -> NodeFacts:
    """Runs on a node: reads what the driver wrote below ``place``, and leaves ``token`` there by its name."""
    try:
        reads = (place / DRIVERS_TOKEN).read_text()
    except (OSError, PbrError) as error:
        reads = _said(error, place / DRIVERS_TOKEN)
    writes = None
    try:
        storage.write_atomic(place / node, token)
    except (OSError, PbrError) as error:
        writes = _said(error, place / node)
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


def _said(error: OSError | PbrError, path: Path) -> str:
    """Why a file is not there or cannot be; an error of S3 names it itself."""
    if isinstance(error, PbrError):
        return str(error)
    return f"{path}: {error.strerror or 'no such file'}"


def _memory_bytes() -> int:
    """The machine's memory, or what its container may have of it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CONTAINER_LIMIT.read_text().strip() if CONTAINER_LIMIT.is_file() else "max"
    return min(machine, int(limit)) if limit.isdecimal() else machine


def read_token(place: Path, node: str) -> str | None:
    """The token of a node as the driver sees it; None where it sees none."""
    path = place / node
    return path.read_text() if path.is_file() else None
