"""Parameters that name a place: on this machine or on S3, or on this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pbrlib import storage
from pbrlib.errors import ConfigError


class Place(click.Path):
    """A folder or file of this machine, or an s3:// address."""

    def __init__(self, **given: Any) -> None:
        super().__init__(path_type=Path, **given)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; raises DataError for an address that names no bucket."""
        path = storage.to_path(value)
        return path if isinstance(path, storage.S3Path) else super().convert(value, param, ctx)


class LocalPlace(click.Path):
    """A folder or file of this machine; ``why`` it cannot be on S3 ends the error."""

    def __init__(self, *, why: str, **given: Any) -> None:
        super().__init__(path_type=Path, **given)
        self._why = why

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; raises ConfigError for an address."""
        if isinstance(storage.to_path(value), storage.S3Path):
            name = param.get_error_hint(ctx) if param is not None and ctx is not None else "path"
            raise ConfigError(f"{name}: {value} is on S3, and {self._why}")
        return super().convert(value, param, ctx)
