"""Opens, checks and reads a published shard set."""

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
            DataSpec.from_location(location),
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
        """Open the set in a folder or at an S3 address.

        Raises:
            DataError: The set has no manifest, its index is not the file of the manifest, or a shard is
                missing or has another size. If bad samples are skipped, problems of shards are warnings only.
        """
        manifest = load_manifest(location)
        for problem in _wrong_sizes(storage.to_path(location), manifest):
            if on_bad_sample == "fail":
                raise DamageError(problem)
            log.warning("%s Samples of this shard are skipped.", problem)
        rows = read_index(location, manifest=manifest)
        return cls(location, manifest=manifest, rows=rows, cache=cache, on_bad_sample=on_bad_sample)

    def __reduce__(self) -> tuple[Callable[..., ShardSet], tuple[Any, ...]]:
        return _restore, (self.location, self.manifest, self.rows, self.cache, self.on_bad_sample)

    def verify(self) -> None:
        """Compare the SHA-256 of every shard; raises DataError with all damaged shards."""
        wrong = [shard.info.file for shard in self.shards if storage.sha256(shard.place) != shard.info.sha256]
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
    """Yield the problems of missing shards and of shards with a wrong size."""
    sizes = storage.file_sizes(root / SHARD_FOLDER)
    for info in manifest.shards:
        place, found = root / info.file, sizes.get(info.file.removeprefix(f"{SHARD_FOLDER}/"))
        if found is None:
            yield f"{place}: missing. {REMEDY}"
        elif found != info.bytes:
            yield f"{place}: got {found} bytes; expected {info.bytes}. {REMEDY}"
