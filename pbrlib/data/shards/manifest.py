"""The manifest of a shard set: its statistics, its files, and their checksums."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, StringConstraints, ValidationError

from pbrlib import storage
from pbrlib.data.absent import MANIFEST, SHARDS, explain_absence
from pbrlib.data.shards.codec import TILE
from pbrlib.data.shards.index import IndexRow, Split
from pbrlib.data.shards.indexfile import parse_index
from pbrlib.errors import DamageError, DataError
from pbrlib.spec import Spec

FORMAT_VERSION: Final = 3
FILE_NAME = MANIFEST
SHARD_FOLDER = SHARDS

COLOUR_SPACE = "diffuse and albedo are sRGB, every other map is linear data"
NORMAL_CONVENTION = "OpenGL: Y up, image rows point down; unit length, stored as 0.5 n + 0.5"

FileName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^(shards/)?[A-Za-z0-9][A-Za-z0-9._-]*$")]


class ShardInfo(Spec):
    """A shard file: its path in the folder of the set; ``resolution`` is its largest side in pixels."""

    file: FileName
    rows: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str
    resolution: int | None = None


class IndexInfo(Spec):
    """The index file, relative to the folder of the set."""

    file: FileName
    sha256: str


class Manifest(Spec):
    """A version of a shard set; a new version appends shards and does not change older ones.

    ``sources``, ``splits``, ``maps`` and ``sizes`` ("HEIGHTxWIDTH") are numbers of materials, ``classes`` the
    numbers of materials of each class by split, ``class_pixels`` numbers of pixels in all splits. ``sha256``
    is the fingerprint, which detects damage of this file. Older sets have neither ``classes`` nor ``sha256``.
    """

    format_version: Literal[3] = FORMAT_VERSION
    version: int = Field(ge=1)
    tile: Literal[256] = TILE
    sources: dict[str, int]
    splits: dict[str, int]
    classes: dict[str, dict[Split, int]] | None = None
    maps: dict[str, int]
    class_pixels: dict[str, int]
    sizes: dict[str, int]
    colour_space: str = COLOUR_SPACE
    normal_convention: str = NORMAL_CONVENTION
    shards: tuple[ShardInfo, ...]
    index: IndexInfo
    sha256: str | None = None

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the canonical JSON; it does not depend on the location of the set."""
        absent = {"classes"} if self.classes is None else set()  # older manifests have no classes
        content = self.model_dump(mode="json", exclude={"sha256", *absent})
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load_manifest(root: str | Path) -> Manifest:
    """Read the manifest of the set in the folder ``root``.

    Raises:
        DataError: There is no manifest, it is no JSON of this schema, or it has another format version.
    """
    place = storage.to_path(root) / FILE_NAME
    try:
        text = place.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(explain_absence(root)) from error
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror}). Check the file.") from error
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}). Prepare the set again.") from error
    if isinstance(content, list):
        raise DataError(
            f"{place}: got the manifest of a folder of materials; expected a shard set. Prepare it into "
            f"another folder: `pbr prepare {root} --out SHARDS`."
        )
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != FORMAT_VERSION:
        raise DataError(
            f"{place}: got format version {found!r}; expected {FORMAT_VERSION}. "
            "Prepare the set again, into a new folder: pbr prepare SOURCE... --out FOLDER; "
            "or use the version of pbr that wrote it."
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{place}: {where}: {first['msg']}. Prepare the set again.") from error
    if manifest.sha256 not in (None, manifest.fingerprint):
        raise DamageError(f"{place}: damaged: its content has another SHA-256. Copy the set again.")
    return manifest


def read_index(root: str | Path, *, manifest: Manifest) -> tuple[IndexRow, ...]:
    """Read the index rows of a version.

    Raises:
        DataError: The file is missing, is not the one of the manifest, or has invalid rows.
    """
    place = storage.to_path(root) / manifest.index.file
    try:
        data = place.read_bytes()
    except FileNotFoundError as error:
        raise DamageError(f"{place}: missing. Copy the whole set again, or prepare it again.") from error
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror}). Check the file.") from error
    if hashlib.sha256(data).hexdigest() != manifest.index.sha256:
        raise DamageError(f"{place}: got another SHA-256 than in the manifest. Copy the set again.")
    try:
        return parse_index(data, shard_rows=[info.rows for info in manifest.shards])
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
