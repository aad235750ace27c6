"""S3 for the whole product: its objects and folders, and one wording of errors.

Requests are sent again by the client, `pbrlib.storage.s3client`. An answer that is cut off in the middle is
not its business: reading goes on here from where it was cut.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from pbrlib.errors import DataError, OutageError
from pbrlib.storage.s3client import attempts_in_all, client, kind_of, pause_s, said

SCHEME = "s3://"

_PIECE = 1 << 20
_PART, _PARTS_AT_A_TIME = 1 << 24, 8
_GONE = ("404", "NoSuchKey")


@dataclass(frozen=True)
class Entry:
    """An object: bytes, and when it was written, in seconds of the clock of day."""

    size: int
    modified: float


_snapshot: ContextVar[tuple[str, Mapping[str, Entry]] | None] = ContextVar("snapshot", default=None)


def split(address: str) -> tuple[str, str]:
    """Bucket and key; raises DataError where there is no bucket, or where credentials stand."""
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    if "@" in bucket:
        raise DataError(
            f"{SCHEME}...@{bucket.rpartition('@')[2]}: holds credentials. They belong in the environment "
            "or a profile, where no log sees them. Write s3://BUCKET/FOLDER."
        )
    if not bucket:
        raise DataError(f"{address}: names no bucket. Write s3://BUCKET/FOLDER.")
    return bucket, key


def look(address: str) -> Entry:
    """What is known of an object without reading it; raises FileNotFoundError, DataError if S3 refuses."""
    if (known := _in_snapshot(address)) is not None:
        if address not in known:
            raise FileNotFoundError(address)
        return known[address]
    bucket, key = split(address)
    with _errors(address):
        head = client().head_object(Bucket=bucket, Key=key)
    return Entry(int(head["ContentLength"]), head["LastModified"].timestamp())


def read(address: str, *, start: int = 0, length: int | None = None) -> bytes:
    """An object, or a part of it (fewer bytes at its end); never less because a connection was cut.

    Raises FileNotFoundError if there is none, DataError if S3 refuses or cannot be reached.
    """
    for attempt in itertools.count(1):
        try:
            return _read(address, start=start, length=length)
        except _Replaced:
            _wait_or_give_up(address, attempt, "it was replaced while it was read")
    raise AssertionError


def _read(address: str, *, start: int, length: int | None, etag: str | None = None) -> bytes:
    """One and the same object, that of the ``etag`` if one is given; raises _Replaced when that is gone."""
    bucket, key = split(address)
    found, attempt = bytearray(), 0
    while True:
        attempt += 1
        asked = {"Bucket": bucket, "Key": key, **_range(start + len(found), start, length)}
        try:
            with _errors(address):
                answer = client().get_object(**asked, **({"IfMatch": etag} if etag else {}))
                etag = answer["ETag"]
                _drain(answer["Body"], found)
            return bytes(found)
        except _RangePastTheEnd:
            return bytes(found)
        except _Cut as cut:
            _wait_or_give_up(address, attempt, str(cut))


def _range(first: int, start: int, length: int | None) -> dict[str, str]:
    if length is not None:
        return {"Range": f"bytes={first}-{start + length - 1}"}
    return {"Range": f"bytes={first}-"} if first else {}


def _drain(body: Any, found: bytearray) -> None:
    """Adds all of an answer; raises _Cut when it ends early, with what came until then added."""
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError

    before = len(found)
    try:
        for piece in body.iter_chunks(_PIECE):
            found += piece
    except (HTTPClientError, IncompleteReadError, OSError) as error:
        raise _Cut(f"the answer was cut off after {len(found) - before} bytes") from error
    except FlexibleChecksumError as error:
        del found[before:]
        raise _Cut("the answer was damaged on its way") from error


def _wait_or_give_up(address: str, attempt: int, reason: str) -> None:
    if attempt >= attempts_in_all():
        raise OutageError(
            f"{address}: cannot be read: {reason} (attempt {attempt}, the last). "
            "Look at the connection to S3; the same command resumes."
        )
    time.sleep(pause_s(attempt, what=f"{address}: {reason}"))


def write(address: str, data: bytes) -> None:
    """Puts an object in one step; raises DataError if it cannot be written."""
    bucket, key = split(address)
    with _writing(address):
        client().put_object(Bucket=bucket, Key=key, Body=data)


def write_if(address: str, data: bytes, *, etag: str | None) -> str | None:
    """Puts an object in the place of the one with the ``etag``, or (None) where there is none.

    Returns the new one's, None where another is there. Raises DataError if it cannot be written.
    """
    bucket, key = split(address)
    condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
    try:
        with _writing(address):
            put = client().put_object(Bucket=bucket, Key=key, Body=data, **condition)
    except (_Replaced, FileNotFoundError):  # the latter: what had the etag is gone
        return None
    return str(put["ETag"])


def read_dated(address: str) -> tuple[bytes, str, float] | None:
    """An object, its etag and its age in seconds by the clock of the server; None if there is none."""
    bucket, key = split(address)
    for attempt in itertools.count(1):
        content = bytearray()
        try:
            with _errors(address):
                answer = client().get_object(Bucket=bucket, Key=key)
                _drain(answer["Body"], content)
        except FileNotFoundError:
            return None
        except _Cut as cut:
            _wait_or_give_up(address, attempt, str(cut))
            continue
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return bytes(content), str(answer["ETag"]), (now - answer["LastModified"]).total_seconds()
    raise AssertionError


def upload(file: Path, address: str) -> None:
    """Puts a file, in parts if it is large; it is there whole or not at all. Raises DataError."""
    bucket, key = split(address)
    with _writing(address):
        client().upload_file(str(file), bucket, key)


def download(address: str, file: Path) -> None:
    """Gets an object into a file, several parts at a time; errors as for ``read``, OSError for the file's."""
    bucket, key = split(address)
    for attempt in itertools.count(1):
        with _errors(address):
            head = client().head_object(Bucket=bucket, Key=key)
        try:
            _fill(file, address, size=head["ContentLength"], etag=head["ETag"])
            return
        except _Replaced:
            _wait_or_give_up(address, attempt, "it was replaced while it was read")


def _fill(file: Path, address: str, *, size: int, etag: str) -> None:
    def copy(start: int) -> None:
        data = _read(address, start=start, length=min(_PART, size - start), etag=etag)
        os.pwrite(target.fileno(), data, start)

    with file.open("wb") as target, ThreadPoolExecutor(_PARTS_AT_A_TIME) as pool:
        parts = [pool.submit(copy, start) for start in range(0, size, _PART)]
        try:
            for part in parts:
                part.result()
        finally:
            pool.shutdown(cancel_futures=True)


def remove(addresses: Collection[str]) -> None:
    """Removes objects, in the order given; what is not there is as good as removed. Raises DataError."""
    for address in addresses:
        bucket, key = split(address)
        with suppress(FileNotFoundError), _writing(address):
            client().delete_object(Bucket=bucket, Key=key)


def tree(address: str) -> dict[str, Entry]:
    """All objects below a folder by address, in the order of their names; empty if there is none."""
    prefix = f"{address.rstrip('/')}/"
    if (known := _in_snapshot(address)) is not None:
        return {name: entry for name, entry in known.items() if name.startswith(prefix)}
    bucket, key = split(prefix)
    found: dict[str, Entry] = {}
    for page in _pages(prefix, Bucket=bucket, Prefix=key):
        found |= _entries(page, bucket)
    return found


def children(address: str) -> dict[str, Entry | None]:
    """What lies directly below a folder, by name: objects, and None for folders."""
    prefix = f"{address.rstrip('/')}/"
    if _in_snapshot(address) is not None:
        known = {name.removeprefix(prefix): entry for name, entry in tree(address).items()}
        return {name.partition("/")[0]: None if "/" in name else entry for name, entry in known.items()}
    bucket, key = split(prefix)
    found: dict[str, Entry | None] = {}
    for page in _pages(prefix, Bucket=bucket, Prefix=key, Delimiter="/"):
        found |= {name.removeprefix(prefix): entry for name, entry in _entries(page, bucket).items()}
        for folder in page.get("CommonPrefixes", []):
            found[folder["Prefix"].removeprefix(key).rstrip("/")] = None
    return {name: found[name] for name in sorted(found) if name}


def holds(address: str) -> bool:
    """Whether anything lies below a folder."""
    if _in_snapshot(address) is not None:
        return bool(tree(address))
    bucket, key = split(f"{address.rstrip('/')}/")
    try:
        with _errors(address):
            return bool(client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents"))
    except FileNotFoundError:
        return False


@contextmanager
def snapshot(address: str) -> Iterator[None]:
    """Inside the block what is asked about names and sizes below a folder comes from one listing of it."""
    before = _snapshot.set((f"{address.rstrip('/')}/", tree(address)))
    try:
        yield
    finally:
        _snapshot.reset(before)


def _in_snapshot(address: str) -> Mapping[str, Entry] | None:
    known = _snapshot.get()
    return known[1] if known is not None and f"{address}/".startswith(known[0]) else None


def _pages(address: str, **asked: str) -> Iterator[Mapping[str, Any]]:
    try:
        with _errors(address):
            yield from client().get_paginator("list_objects_v2").paginate(**asked)
    except FileNotFoundError:
        return


def _entries(page: Mapping[str, Any], bucket: str) -> dict[str, Entry]:
    return {
        f"{SCHEME}{bucket}/{item['Key']}": Entry(item["Size"], item["LastModified"].timestamp())
        for item in page.get("Contents", [])
    }


class _Cut(Exception):  # noqa: N818
    """An answer ended before its end."""


class _NoBucket(FileNotFoundError):  # noqa: N818
    """Nothing is there, and nothing can be put there."""


class _Replaced(Exception):  # noqa: N818
    """Another object has come into the place of the one that was being read."""


class _RangePastTheEnd(Exception):  # noqa: N818
    """The object has no byte there."""


@contextmanager
def _errors(address: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code == "NoSuchBucket":
            raise _NoBucket(address) from error
        if code in _GONE:
            raise FileNotFoundError(address) from error
        if code in ("412", "PreconditionFailed", "409", "ConditionalRequestConflict"):
            raise _Replaced from error
        if code in ("416", "InvalidRange"):
            raise _RangePastTheEnd from error
        raise kind_of(error)(
            f"{address}: S3 answers: {said(error)}. Check the bucket and your AWS credentials; "
            "if the service is busy, try again later."
        ) from error
    except (BotoCoreError, Boto3Error) as error:
        raise kind_of(error)(
            f"{address}: S3 cannot be used: {said(error)}. "
            "Check your AWS credentials, your region and the connection."
        ) from error


@contextmanager
def _writing(address: str) -> Iterator[None]:
    try:
        with _errors(address):
            yield
    except _NoBucket as error:
        raise DataError(f"{address}: there is no such bucket. Create it, or name another place.") from error
