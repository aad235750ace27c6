"""Puts and removes objects on S3, each in one step."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pbrlib.storage.s3client import client
from pbrlib.storage.s3errors import ReplacedError, split_address, translated_write_errors


def write(address: str, data: bytes) -> None:
    """Put an object in one step; raises DataError if it cannot be written."""
    bucket, key = split_address(address)
    with translated_write_errors(address):
        client().put_object(Bucket=bucket, Key=key, Body=data)


def write_if(address: str, data: bytes, *, etag: str | None) -> str | None:
    """Put an object if the existing one has the ``etag``, or with None if no object exists.

    Returns the etag of the new object, or None if the condition is not met. Raises DataError if the object
    cannot be written.
    """
    bucket, key = split_address(address)
    condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
    try:
        with translated_write_errors(address):
            put = client().put_object(Bucket=bucket, Key=key, Body=data, **condition)
    except (ReplacedError, FileNotFoundError):  # the latter: the object with the etag is gone
        return None
    return str(put["ETag"])


def upload(file: Path, address: str) -> None:
    """Upload a file, in parts if it is large; the object appears only when complete. Raises DataError."""
    bucket, key = split_address(address)
    with translated_write_errors(address):
        client().upload_file(str(file), bucket, key)


def remove(addresses: Iterable[str]) -> None:
    """Remove objects in the given order; missing objects are ignored. Raises DataError."""
    for address in addresses:
        bucket, key = split_address(address)
        with suppress(FileNotFoundError), translated_write_errors(address):
            client().delete_object(Bucket=bucket, Key=key)
