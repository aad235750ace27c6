"""Writes materials to shard files, and publishes shard files as a version of a set.

A shard is a Parquet file with one row per tile and one binary column per map, with checksums of pages, and
without compression, dictionaries or statistics of pixels. Files that are not in the manifest do not belong to
the set, so that an interrupted run does not change the previous version.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pbrlib import storage
from pbrlib.data.materials.material import Material
from pbrlib.data.shards.cells import count_cells, pack_cells
from pbrlib.data.shards.codec import TILE, encode_tile
from pbrlib.data.shards.duplicates import HASHED_MAPS, perceptual_hash
from pbrlib.data.shards.index import IndexRow, Split, tile_order, to_table
from pbrlib.data.shards.manifest import (
    FILE_NAME,
    SHARD_FOLDER,
    IndexInfo,
    Manifest,
    ShardInfo,
    load_manifest,
    read_index,
)
from pbrlib.data.shards.split import count_splits
from pbrlib.errors import DataError
from pbrlib.maps import CLASSES, MAPS, Encoding, class_id

ROWS_PER_GROUP = 2

SCHEMA = pa.schema(
    [pa.field(name, pa.int32(), nullable=False) for name in ("material", "ty", "tx")]
    + [pa.field(name, pa.binary()) for name in MAPS]
)


def shard_name(*, version: int, ordinal: int) -> str:
    """Return the path of the n-th shard of a version, relative to the folder of the set.

    Names contain the version, so that writing a new version does not change files of an older one.
    """
    return f"{SHARD_FOLDER}/{version:04d}-{ordinal:05d}.parquet"


def write_shard(
    path: Path, materials: Iterable[Material], *, split_for: Callable[[Material], Split]
) -> tuple[ShardInfo, list[IndexRow]]:
    """Write materials, one at a time, to a shard file ``DIR/shards/NAME``, which appears only when complete.

    Args:
        path: The file (local or S3): the path of ``shard_name`` in the folder of the set.
        materials: At least one material.
        split_for: Returns the split of a material.

    Returns:
        The entry of the manifest, and the index rows of the materials in order; ``publish`` sets their
        ``shard``, which is 0 before.

    Raises:
        DataError: The file cannot be written, or there is no material.
    """
    rows: list[IndexRow] = []
    with storage.staged(path) as partial:
        with _ShardFile(partial) as file:
            for ordinal, material in enumerate(materials):
                first_row = file.num_rows
                file.write(ordinal, material)
                rows.append(_index_row(material, split=split_for(material), first_row=first_row))
        if not rows:
            raise DataError(f"{path}: got no material; expected at least one. Check the source.")
        info = ShardInfo(
            file="/".join(path.parts[-2:]),
            rows=file.num_rows,
            bytes=partial.stat().st_size,
            sha256=storage.sha256(partial),
            resolution=max(max(row.height, row.width) for row in rows),
        )
    return info, rows


def publish(
    root: str | Path,
    *,
    shards: Sequence[ShardInfo],
    rows: Sequence[Sequence[IndexRow]],
    previous: Manifest | None,
) -> Manifest:
    """Publish written shards as a version of the set in ``root``; readers do not see them before.

    Args:
        root: The folder of the set.
        shards: The new shards.
        rows: The index rows of each shard that ``write_shard`` returned.
        previous: The version to append to, or None for a new set. Its manifest is kept as
            ``manifest.v<N>.json``.

    Returns:
        The new manifest, which has been written.

    Raises:
        DataError: An id occurs twice, ``previous`` is not the current version, or a file cannot be written.
    """
    root = storage.to_path(root)
    _check_current(root, previous)
    old_rows: tuple[IndexRow, ...] = () if previous is None else read_index(root, manifest=previous)
    old_shards = () if previous is None else previous.shards
    version = 1 if previous is None else previous.version + 1
    new_rows = [
        replace(row, shard=len(old_shards) + position)
        for position, of_shard in enumerate(rows)
        for row in of_shard
    ]
    assert len(rows) == len(shards), "expected one list of rows per shard"
    all_rows = [*old_rows, *new_rows]
    _check_ids(root, all_rows)
    index_file = f"index-{version:04d}.parquet"
    index = _index_bytes(all_rows)
    manifest = Manifest(
        version=version,
        shards=(*old_shards, *shards),
        index=IndexInfo(file=index_file, sha256=hashlib.sha256(index).hexdigest()),
        **_statistics(all_rows),
    )
    manifest = manifest.model_copy(update={"sha256": manifest.fingerprint})
    storage.write_atomic(root / index_file, index)
    place = root / FILE_NAME
    if previous is not None:
        storage.write_atomic(root / f"manifest.v{previous.version}.json", place.read_bytes())
    storage.write_atomic(place, manifest.model_dump_json(indent=2) + "\n")
    return manifest


class _ShardFile:
    """A Parquet file of tiles; row groups continue across materials, so that row n is in group n // size."""

    def __init__(self, path: Path) -> None:
        self.num_rows = 0
        self._pending: list[dict[str, Any]] = []
        self._writer = pq.ParquetWriter(
            path,
            SCHEMA,
            compression="NONE",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
            data_page_size=1 << 30,  # one page per column and row group, with one checksum and one read
        )

    def __enter__(self) -> _ShardFile:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._flush()
        self._writer.close()

    def write(self, ordinal: int, material: Material) -> None:
        for record in _tile_records(ordinal, material):
            self._pending.append(record)
            self.num_rows += 1
            if len(self._pending) == ROWS_PER_GROUP:
                self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_pylist(self._pending, schema=SCHEMA))
            self._pending = []


def _tile_records(ordinal: int, material: Material) -> Iterator[dict[str, Any]]:
    height, width = material.size
    for name, stored in material.maps.items():
        kind = MAPS[name]
        found = f"{material.id}: {name}: {stored.shape} {stored.dtype}"
        assert stored.shape == (height, width, kind.channels), found
        assert stored.dtype == np.dtype(kind.dtype), found
    down, across = -(-height // TILE), -(-width // TILE)
    for tile in tile_order(down, across):
        ty, tx = divmod(tile, across)
        window = slice(ty * TILE, (ty + 1) * TILE), slice(tx * TILE, (tx + 1) * TILE)
        blobs = {name: encode_tile(stored[window]) for name, stored in material.maps.items()}
        yield {"material": ordinal, "ty": ty, "tx": tx, **blobs}


def _index_row(material: Material, *, split: Split, first_row: int) -> IndexRow:
    height, width = material.size
    class_pixels, cells = _class_statistics(material)
    return IndexRow(
        id=material.id,
        source=material.source,
        family=material.family,
        split=split,
        label=material.label,
        shard=0,
        first_row=first_row,
        height=height,
        width=width,
        tileable=material.tileable,
        maps=tuple(name for name in MAPS if name in material.maps),
        class_pixels=class_pixels,
        cells=cells,
        means={
            name: tuple(float(mean) for mean in stored.mean(axis=(0, 1)) / MAPS[name].maximum)
            for name, stored in material.maps.items()
            if MAPS[name].encoding is not Encoding.LABEL
        },
        licence=material.licence,
        attribution=material.attribution,
        phash=_phash(material),
        height_range=material.height_range,
    )


def _phash(material: Material) -> int | None:
    hashed = next((material.maps[name] for name in HASHED_MAPS if name in material.maps), None)
    return None if hashed is None else perceptual_hash(hashed)


def _class_statistics(material: Material) -> tuple[tuple[int, ...], bytes]:
    """Return the pixels by class, and the packed counts by cell."""
    height, width = material.size
    if "mask" in material.maps:
        counts = count_cells(material.maps["mask"])
        totals = tuple(int(total) for total in counts.sum(axis=(1, 2), dtype=np.int64))
        return totals, pack_cells(counts, num_pixels=height * width)
    pixels = [0] * len(CLASSES)
    if material.label is not None:
        pixels[class_id(material.label)] = height * width
    return tuple(pixels), b""


def _statistics(rows: Sequence[IndexRow]) -> dict[str, Any]:
    maps = Counter(name for row in rows for name in row.maps)
    splits = Counter(row.split for row in rows)
    sizes = Counter((row.height, row.width) for row in rows)
    return {
        "sources": dict(sorted(Counter(row.source for row in rows).items())),
        "splits": {"train": splits["train"], "val": splits["val"]},
        "classes": count_splits(rows),
        "maps": {name: maps[name] for name in MAPS if name in maps},
        "class_pixels": {name: sum(row.class_pixels[i] for row in rows) for i, name in enumerate(CLASSES)},
        "sizes": {f"{height}x{width}": count for (height, width), count in sorted(sizes.items())},
    }


def _check_current(root: Path, previous: Manifest | None) -> None:
    found = load_manifest(root) if (root / FILE_NAME).is_file() else None
    if found == previous:
        return
    if previous is None:
        raise DataError(
            f"{root}: got a folder with a shard set; expected a new folder. Append to the set, or give "
            "another folder."
        )
    raise DataError(f"{root}: another run changed the manifest. Wait until it has ended, then append again.")


def _check_ids(root: Path, rows: Sequence[IndexRow]) -> None:
    twice = [name for name, count in Counter(row.id for row in rows).items() if count > 1]
    if twice:
        named = ", ".join(sorted(twice)[:3])
        raise DataError(
            f"{root}: got {len(twice)} materials that the set has already, such as {named}; expected each id "
            "once. Append other materials, or prepare into a new folder."
        )


def _index_bytes(rows: Sequence[IndexRow]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(to_table(rows), buffer, compression="zstd")
    return buffer.getvalue()
