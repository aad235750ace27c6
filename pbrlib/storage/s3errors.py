"""Addresses on S3, and one wording of what can go wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pbrlib.errors import DataError
from pbrlib.storage.s3client import error_type, format_s3_error

SCHEME = "s3://"

_GONE = ("404", "NoSuchKey")


class CutAnswerError(Exception):
    """An answer ended before its end."""


class NoBucketError(FileNotFoundError):
    """The bucket does not exist, so nothing is there, and nothing can be put there."""


class ReplacedError(Exception):
    """Another object has come into the place of the one that was being read or replaced."""


class RangePastEndError(Exception):
    """The object has no byte in the range."""


def split_address(address: str) -> tuple[str, str]:
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


@contextmanager
def translated_errors(address: str) -> Iterator[None]:
    """Turns what boto3 raises in the block into this module's errors, FileNotFoundError or DataError."""
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
    """As ``translated_errors``; a missing bucket is a DataError."""
    try:
        with translated_errors(address):
            yield
    except NoBucketError as error:
        raise DataError(f"{address}: there is no such bucket. Create it, or name another place.") from error
