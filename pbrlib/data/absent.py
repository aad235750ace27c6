"""Error messages for a folder that is not a finished shard set: what it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from pbrlib import storage

MANIFEST, SHARDS, RECORDS = "manifest.json", "shards", ".jobs"
"""Names of files and folders in a set: the manifest, the folder of shards, the records of its preparation."""

_MAX_FILES = 2000
_RUN_FILES = ("run.json", "ladder.json", "curriculum.yaml")


def explain_absence(root: str | Path) -> str:
    """Return an error message for a location without a manifest; only names of files are read."""
    place = storage.to_path(root)
    if not place.exists():
        return _explain_missing(place)
    if not place.is_dir():
        return f"{root}: got a file; expected the folder of a shard set. Give the folder."
    start = f"{root}: no {MANIFEST}, so this is no finished shard set"
    if place.name == SHARDS and (place.parent / MANIFEST).is_file():
        return f"{start}, but the folder {SHARDS} of a set. Give {place.parent}."
    inside = [path for path in sorted(place.iterdir()) if is_set(path)]
    if inside:
        return f"{start}. Did you mean {' or '.join(map(str, inside[:3]))}?"
    names = {path.name for path in place.iterdir()}
    if names & {SHARDS, RECORDS}:
        command = f"`pbr prepare ... --out {root}`"
        return f"{start}: its preparation did not end. Run the same {command} again to continue it."
    return f"{start}{_explain_content(place, root)}"


def is_set(folder: Path) -> bool:
    """Whether a folder looks like a shard set."""
    return folder.is_dir() and (folder / MANIFEST).is_file() and (folder / SHARDS).is_dir()


def foreign_files(folder: Path) -> list[str]:
    """Return the names in a folder that belong to no finished or begun shard set, except hidden files."""
    own = (SHARDS, RECORDS, MANIFEST)
    return [
        path.name
        for path in sorted(folder.iterdir())
        if path.name not in own
        and not path.name.startswith((".", "lost+found"))
        and not path.match("index-*.parquet")
        and not path.match("manifest.v*.json")
    ]


def _explain_missing(place: Path) -> str:
    parent = place.parent
    near = []
    if parent.is_dir():
        names = [path.name for path in islice(parent.iterdir(), _MAX_FILES) if path.is_dir()]
        near = get_close_matches(place.name, names, n=1, cutoff=0.6)
    hint = f"Did you mean {parent / near[0]}?" if near else "Check the path, or make it with `pbr prepare`."
    return f"{place}: no such folder; expected a shard set. {hint}"


def _explain_content(place: Path, root: str | Path) -> str:
    from pbrlib.data.materials.decoding import SUFFIXES

    files = list(islice(_files(place), _MAX_FILES))
    suffixes = {path.suffix.lower() for path in files}
    if any(path.name in _RUN_FILES for path in files):
        return ", but a folder of runs. Give the shard set that `pbr prepare` wrote."
    if suffixes & set(SUFFIXES):
        command = f"`pbr prepare {root} --out SHARDS`"
        return f", but a folder of pictures. Prepare it into another folder: {command}."
    if ".parquet" in suffixes:
        command = f"`pbr prepare matsynth:path={root} --out SHARDS`"
        return f", but Parquet files. Prepare them into another folder: {command}."
    if files:
        command = "`pbr prepare ... --out SHARDS`"
        return f", but a folder with {files[0].name}. Prepare into a separate folder: {command}."
    return f"; it is empty. Run `pbr prepare ... --out {root}`."


def _files(place: Path) -> Iterator[Path]:
    """Yield the files of a folder and of its subfolders, two levels deep."""
    folders = [place]
    for _ in range(3):
        below = []
        for folder in folders:
            for path in sorted(islice(folder.iterdir(), _MAX_FILES)):
                if path.is_dir():
                    below.append(path)
                else:
                    yield path
        folders = below[:_MAX_FILES]
