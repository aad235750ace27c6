"""Lists names, sizes and times of objects on S3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pbrlib.storage.s3client import client
from pbrlib.storage.s3errors import SCHEME, split_address, translated_errors


@dataclass(frozen=True)
class Entry:
    """The size of an object in bytes, and its modification time in seconds since the epoch."""

    size: int
    modified: float


_snapshot: ContextVar[tuple[str, Mapping[str, Entry]] | None] = ContextVar("snapshot", default=None)


def head(address: str) -> Entry:
    """Return size and time of an object; raises FileNotFoundError, or DataError if S3 refuses."""
    if (known := _in_snapshot(address)) is not None:
        if address not in known:
            raise FileNotFoundError(address)
        return known[address]
    bucket, key = split_address(address)
    with translated_errors(address):
        response = client().head_object(Bucket=bucket, Key=key)
    return Entry(int(response["ContentLength"]), response["LastModified"].timestamp())


def tree(address: str) -> dict[str, Entry]:
    """Return all objects below a folder by address, in the order of their names."""
    prefix = f"{address.rstrip('/')}/"
    if (known := _in_snapshot(address)) is not None:
        return {name: entry for name, entry in known.items() if name.startswith(prefix)}
    bucket, key = split_address(prefix)
    found: dict[str, Entry] = {}
    for page in _pages(prefix, Bucket=bucket, Prefix=key):
        found |= _entries(page, bucket)
    return found


def children(address: str) -> dict[str, Entry | None]:
    """Return the entries directly below a folder by name; None for folders."""
    prefix = f"{address.rstrip('/')}/"
    if _in_snapshot(address) is not None:
        known = {name.removeprefix(prefix): entry for name, entry in tree(address).items()}
        return {name.partition("/")[0]: None if "/" in name else entry for name, entry in known.items()}
    bucket, key = split_address(prefix)
    found: dict[str, Entry | None] = {}
    for page in _pages(prefix, Bucket=bucket, Prefix=key, Delimiter="/"):
        found |= {name.removeprefix(prefix): entry for name, entry in _entries(page, bucket).items()}
        for folder in page.get("CommonPrefixes", []):
            found[folder["Prefix"].removeprefix(key).rstrip("/")] = None
    return {name: found[name] for name in sorted(found) if name}


def is_folder(address: str) -> bool:
    """Whether there is an object below the address."""
    if _in_snapshot(address) is not None:
        return bool(tree(address))
    bucket, key = split_address(f"{address.rstrip('/')}/")
    try:
        with translated_errors(address):
            return bool(client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents"))
    except FileNotFoundError:
        return False


@contextmanager
def snapshot(address: str) -> Iterator[None]:
    """Answer all requests for names and sizes below a folder from one listing, inside the block."""
    before = _snapshot.set((f"{address.rstrip('/')}/", tree(address)))
    try:
        yield
    finally:
        _snapshot.reset(before)


def _in_snapshot(address: str) -> Mapping[str, Entry] | None:
    known = _snapshot.get()
    return known[1] if known is not None and f"{address}/".startswith(known[0]) else None


def _pages(address: str, **request: str) -> Iterator[Mapping[str, Any]]:
    try:
        with translated_errors(address):
            yield from client().get_paginator("list_objects_v2").paginate(**request)
    except FileNotFoundError:
        return


def _entries(page: Mapping[str, Any], bucket: str) -> dict[str, Entry]:
    return {
        f"{SCHEME}{bucket}/{item['Key']}": Entry(item["Size"], item["LastModified"].timestamp())
        for item in page.get("Contents", [])
    }
