"""One published shard set: opened, checked and read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pbrlib import storage
from pbrlib.data.shards.dataset import REMEDY, DataSet
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.files import shard_files
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.manifest import SHARD_FOLDER, Manifest, load_manifest, read_index
from pbrlib.data.shards.readspec import OnBadSample
from pbrlib.data.shards.tilecache import TileCache
from pbrlib.errors import DamageError, DataError

log = logging.getLogger(__name__)


class ShardSet(DataSet):
    """A version of a shard set, open for reading."""

    def __init__(
        self,
        location: str | Path,
        *,
        manifest: Manifest,
        rows: tuple[IndexRow, ...],
        cache: TileCache | None = None,
        on_bad_sample: OnBadSample = "fail",
    ) -> None:
        super().__init__(
            DataSpec.of(location),
            fingerprint=manifest.fingerprint,
            shards=shard_files(location, manifest),
            rows=rows,
            cache=cache,
            on_bad_sample=on_bad_sample,
        )
        self._location = str(location)
        self.manifest = manifest

    @property
    def location(self) -> str:
        """The folder or S3 address."""
        return self._location

    @classmethod
    def open(
        cls,
        location: str | Path,
        *,
        cache: TileCache | None = None,
        on_bad_sample: OnBadSample = "fail",
    ) -> ShardSet:
        """Opens the set in a folder or below an S3 address.

        Raises:
            DataError: It has no manifest, its index is another file than the manifest names, or a shard
                is missing or of another size; that is only warned of where bad samples are skipped.
        """
        manifest = load_manifest(location)
        for problem in _wrong_sizes(storage.to_path(location), manifest):
            if on_bad_sample == "fail":
                raise DamageError(problem)
            log.warning("%s Until then its samples are skipped.", problem)
        rows = read_index(location, manifest=manifest)
        return cls(location, manifest=manifest, rows=rows, cache=cache, on_bad_sample=on_bad_sample)

    def __reduce__(self) -> tuple[Callable[..., ShardSet], tuple[Any, ...]]:
        return _restore, (self.location, self.manifest, self.rows, self.cache, self.on_bad_sample)

    def verify(self) -> None:
        """Reads every shard whole and compares its SHA-256; raises DataError naming all that differ."""
        wrong = [one.info.file for one in self.shards if storage.sha256(one.place) != one.info.sha256]
        if wrong:
            raise DataError(f"{self.location}: damaged (SHA-256): {', '.join(wrong)}. {REMEDY}")


def _restore(
    location: str,
    manifest: Manifest,
    rows: tuple[IndexRow, ...],
    cache: TileCache | None,
    on_bad_sample: OnBadSample,
) -> ShardSet:
    return ShardSet(location, manifest=manifest, rows=rows, cache=cache, on_bad_sample=on_bad_sample)


def _wrong_sizes(root: Path, manifest: Manifest) -> Iterator[str]:
    """What is wrong with the shards, as far as their names and sizes tell."""
    sizes = storage.file_sizes(root / SHARD_FOLDER)
    for info in manifest.shards:
        place, found = root / info.file, sizes.get(info.file.removeprefix(f"{SHARD_FOLDER}/"))
        if found is None:
            yield f"{place}: missing. {REMEDY}"
        elif found != info.bytes:
            yield f"{place}: {found} bytes instead of {info.bytes}. {REMEDY}"
