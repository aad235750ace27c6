"""Splits S3 addresses, and translates the errors of boto3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pbrlib.errors import DataError
from pbrlib.storage.s3client import error_type, format_s3_error

SCHEME = "s3://"

_GONE = ("404", "NoSuchKey")


class TruncatedResponseError(Exception):
    """A response ended before all of its bytes had arrived."""


class NoBucketError(FileNotFoundError):
    """The bucket does not exist, so that nothing can be read from it or put to it."""


class ReplacedError(Exception):
    """The object was replaced by another one while it was read or written."""


class RangePastEndError(Exception):
    """The object has no bytes in the requested range."""


def split_address(address: str) -> tuple[str, str]:
    """Return bucket and key; raises DataError for an address without a bucket or with credentials."""
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    if "@" in bucket:
        raise DataError(
            f"{SCHEME}...@{bucket.rpartition('@')[2]}: got an address with credentials; expected "
            "s3://BUCKET/FOLDER. Set credentials in the environment or a profile, since logs show addresses."
        )
    if not bucket:
        raise DataError(f"{address}: got no bucket; expected s3://BUCKET/FOLDER.")
    return bucket, key


@contextmanager
def translated_errors(address: str) -> Iterator[None]:
    """Translate errors of boto3 in the block to errors of this module, FileNotFoundError or DataError."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code == "NoSuchBucket":
            raise NoBucketError(address) from error
        if code in _GONE:
            raise FileNotFoundError(address) from error
        if code in ("412", "PreconditionFailed", "409", "ConditionalRequestConflict"):
            raise ReplacedError from error
        if code in ("416", "InvalidRange"):
            raise RangePastEndError from error
        raise error_type(error)(
            f"{address}: S3 answers: {format_s3_error(error)}. Check the bucket and your AWS credentials; "
            "if the service is busy, try again later."
        ) from error
    except (BotoCoreError, Boto3Error) as error:
        raise error_type(error)(
            f"{address}: S3 cannot be used: {format_s3_error(error)}. "
            "Check your AWS credentials, your region and the connection."
        ) from error


@contextmanager
def translated_write_errors(address: str) -> Iterator[None]:
    """Translate errors as ``translated_errors`` does, and a missing bucket to a DataError."""
    try:
        with translated_errors(address):
            yield
    except NoBucketError as error:
        raise DataError(f"{address}: no such bucket. Create it, or give another address.") from error
