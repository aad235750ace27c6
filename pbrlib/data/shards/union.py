"""Opens several published sets as one data set, and checks that they are compatible and disjoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pbrlib.data.shards.dataset import DataSet
from pbrlib.data.shards.dataspec import DataPlace, DataSpec
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.manifest import Manifest, load_manifest
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.readspec import OnBadSample
from pbrlib.data.shards.tilecache import TileCache
from pbrlib.errors import DataError


@dataclass(frozen=True)
class _Part:
    """A set, and the new name of its source, or None if its sources keep their names."""

    place: DataPlace
    opened: ShardSet
    source: str | None

    @property
    def key(self) -> tuple[str, str]:
        """The sort key of the parts, which does not depend on the order in the command line."""
        return self.opened.fingerprint, self.source or ""


def open_data(
    data: DataSpec, *, cache: TileCache | None = None, on_bad_sample: OnBadSample = "fail"
) -> DataSet:
    """Open the sets of a command as one data set; the order of the sets does not matter.

    Raises:
        DataError: A set cannot be opened (see `ShardSet.open`), several sources of a set get one name, or two
            sets have the same material, one family in different splits, or different formats.
    """
    parts = []
    for place in data.places:
        opened = ShardSet.open(place.location, cache=cache, on_bad_sample=on_bad_sample)
        parts.append(_Part(place, opened, _name_of(place, opened.manifest)))
    for other in parts[1:]:
        _require_equal_formats(parts[0], other)
    _require_disjoint(parts)
    parts.sort(key=lambda part: part.key)
    return DataSet(
        data,
        fingerprint=_fingerprint([(part.opened.fingerprint, part.source) for part in parts]),
        shards=tuple(shard for part in parts for shard in part.opened.shards),
        rows=tuple(_rows(parts)),
        cache=cache,
        on_bad_sample=on_bad_sample,
    )


def read_fingerprint(data: DataSpec) -> str:
    """Return the fingerprint of the data from its manifests, without opening the sets."""
    known = [(place, load_manifest(place.location)) for place in data.places]
    return _fingerprint([(manifest.fingerprint, _name_of(place, manifest)) for place, manifest in known])


def _fingerprint(parts: Sequence[tuple[str, str | None]]) -> str:
    """Return the fingerprint of a single set without a new name, else a hash over all sets and names."""
    if len(parts) == 1 and parts[0][1] is None:
        return parts[0][0]
    content = sorted((fingerprint, source or "") for fingerprint, source in parts)
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _name_of(place: DataPlace, manifest: Manifest) -> str | None:
    """Return the new name of the source of a set, or None if the source has this name already."""
    sources = [*manifest.sources]
    if place.source is None or sources == [place.source]:
        return None
    if len(sources) > 1:
        raise DataError(
            f"--data {place}: got one name for a set of {len(sources)} sources ({', '.join(sources)}); "
            f"expected a set of one source. Remove {place.source}=, and give a source for the name, such as "
            f"--source {place.source}={sources[0]}."
        )
    return place.source


def _rows(parts: Sequence[_Part]) -> Iterator[IndexRow]:
    """Yield the materials of all sets, with shards numbered across the sets."""
    before = 0
    for part in parts:
        for row in part.opened.rows:
            if before or part.source:
                row = replace(row, shard=row.shard + before, source=part.source or row.source)
            yield row
        before += len(part.opened.shards)


def _require_equal_formats(base: _Part, other: _Part) -> None:
    first, second = base.opened.manifest, other.opened.manifest
    for what, left, right in (
        ("tiles", first.tile, second.tile),
        ("classes", ", ".join(first.class_pixels), ", ".join(second.class_pixels)),
        ("colour spaces", first.colour_space, second.colour_space),
        ("normals", first.normal_convention, second.normal_convention),
    ):
        if left != right:
            raise DataError(
                f"--data {other.place}: got other {what} ({right}); expected those of {base.place} "
                f"({left}). Prepare both with one version of pbr."
            )


def _require_disjoint(parts: Sequence[_Part]) -> None:
    """Raise DataError if two sets have the same material, or one family in different splits."""
    materials: dict[str, _Part] = {}
    families: dict[str, tuple[str, _Part]] = {}
    for part in parts:
        twice = [row.id for row in part.opened.rows if row.id in materials]
        if twice:
            more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
            raise DataError(
                f"--data {part.place}: got {twice[0]}{more}, which {materials[twice[0]].place} has too; "
                "expected each material once. Leave out one of the sets, or prepare both sources into one "
                "set with other ids."
            )
        materials |= {row.id: part for row in part.opened.rows}
        for row in part.opened.rows:
            split, owner = families.setdefault(row.family, (row.split, part))
            if split != row.split and owner is not part:
                raise DataError(
                    f"--data {part.place}: got the family {row.family} for {row.split}, but {owner.place} "
                    f"has it for {split}; expected each family in one split. Prepare both "
                    f"sources into one set, or one of them with --hold-out '{row.family}'."
                )
