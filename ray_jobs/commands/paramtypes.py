"""Parameters that name a place, on this machine or on S3, or data there and its sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pbrlib import storage
from pbrlib.data.shards.dataspec import DataPlace
from pbrlib.errors import ConfigError


class LocalOrS3Path(click.Path):
    """A folder or file of this machine, or an s3:// address."""

    def __init__(self, **given: Any) -> None:
        super().__init__(path_type=Path, **given)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; raises DataError for an address without a bucket."""
        path = storage.to_path(value)
        return path if isinstance(path, storage.S3Path) else super().convert(value, param, ctx)


class LocalPath(click.Path):
    """A path on this machine; ``why`` is the reason that it cannot be on S3, which ends the error."""

    def __init__(self, *, why: str, **given: Any) -> None:
        super().__init__(path_type=Path, **given)
        self._why = why

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; raises ConfigError for an S3 address."""
        if isinstance(storage.to_path(value), storage.S3Path):
            name = param.get_error_hint(ctx) if param is not None and ctx is not None else "path"
            raise ConfigError(f"{name}: got {value}, which is on S3; expected a local path: {self._why}")
        return super().convert(value, param, ctx)


class YamlFile(click.Path):
    """A curriculum, ladder or search file; the second value after one ``--set`` is none."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; raises ConfigError for an override that lost its --set."""
        if "=" in str(value) and not Path(value).exists():
            raise ConfigError(
                f"{value}: got PATH=VALUE where a file belongs; expected one behind each --set. Write --set "
                f"again before it: --set ... --set {value}."
            )
        return super().convert(value, param, ctx)


class DataPlaceParam(click.ParamType[DataPlace]):
    """A folder or s3:// address of data, or ``SOURCE=`` and one."""

    name = "data"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> DataPlace:
        """The place and its name; whether there is data is found when it is opened."""
        place = value if isinstance(value, DataPlace) else DataPlace.parse(value)
        if not place.location:
            self.fail("got nothing; expected the folder or s3:// address of a shard set.", param, ctx)
        return place


class RenamedSource(click.ParamType[tuple[str, str]]):
    """``NAME=SOURCE``: a name that curricula use, and the source of the data that feeds it."""

    name = "source"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Both names."""
        if isinstance(value, tuple):
            return value
        name, equals, source = value.partition("=")
        if not (name and equals and source):
            self.fail(
                f"got {value!r}; expected NAME=SOURCE, the curriculum's name and the source of the data that "
                "feeds it, as in skyrim=materials.",
                param,
                ctx,
            )
        return name, source
