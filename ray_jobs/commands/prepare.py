"""``pbr prepare``: sources of materials in, an audited, published shard set out, in parallel over Ray."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pbrlib.errors import DataError
from ray_jobs.commands.paramtypes import Place
from ray_jobs.output import write_file
from ray_jobs.source import parse_source

if TYPE_CHECKING:
    from rich.progress import Progress

    from pbrlib.data.materials.audit import AuditReport
    from pbrlib.data.materials.material import Source
    from pbrlib.data.materials.prepare import Group, Listed, Written
    from pbrlib.data.shards.manifest import Manifest

INCOMPLETE = 1
REFUSED = 2


@dataclass(frozen=True)
class PrepareResult:
    """What ``prepare`` did.

    ``manifest`` is the version now in force, None if nothing was published. ``skipped`` are the ids that
    the set held before.
    """

    manifest: Manifest | None
    report: AuditReport
    skipped: tuple[str, ...]


def prepare(
    sources: Sequence[Source],
    *,
    out: str,
    val_share: float = 0.1,
    hold_out: Sequence[str] = (),
    append: bool = False,
    strict: bool = False,
    num_cpus: int | None = None,
) -> PrepareResult:
    """Reads sources, audits every material, and publishes those without an error as a shard set.

    Splits are ``pbrlib.data.materials.prepare.assign_splits``'s; what is a part of families of both is left
    out, and near-duplicates across them are warned of. Nothing is published, and no file stays, if the run
    fails, if ``strict`` and there is a warning or an error, or if no material is fit.

    Args:
        sources: Where materials come from; their ids must differ.
        out: Folder or S3 address of the set; on a cluster, one that every node sees.
        val_share: Share of families for validation, by hash.
        hold_out: Patterns of ids or families that go to validation.
        append: Add to the set in ``out``; ids that it has are skipped.
        strict: Publish nothing if there is a warning.
        num_cpus: Logical CPUs of a local Ray.

    Raises:
        DataError: A source cannot be listed, ids or patterns clash, ``out`` holds a set already, or a shard
            cannot be written.
    """
    from pbrlib.data.materials.audit import AuditReport
    from pbrlib.data.materials.prepare import (
        apart_from_relatives,
        assign_splits,
        list_left_out,
        list_sources,
        near_duplicates,
    )
    from pbrlib.data.shards.manifest import read_index
    from pbrlib.data.shards.writer import publish
    from pbrlib.storage import files as storage

    out = out if storage.is_remote(out) else str(Path(out).resolve())
    previous = _previous(out, append=append)
    earlier = () if previous is None else read_index(out, manifest=previous)
    listed = list_sources(sources)
    entries = [one.entry for one in listed]
    splits = assign_splits(entries, val_share=val_share, hold_out=hold_out, earlier=earlier)
    listed, straddling = apart_from_relatives(listed, splits=splits)
    aside = [*list_left_out(sources), *straddling]
    known = {row.id for row in earlier}
    skipped = tuple(one.entry.id for one in listed if one.entry.id in known)
    fresh = [one for one in listed if one.entry.id not in known]
    run = _Run(out, version=1 if previous is None else previous.version + 1, splits=splits)
    with run.files():
        written = run.write(fresh, num_cpus=num_cpus)
        stored = [one for one in written if one.shard is not None]
        rows = [row for one in stored for row in one.rows]
        audited = [finding for one in written for finding in one.findings]
        findings = (*audited, *near_duplicates(earlier, rows), *aside)
        report = AuditReport(num_materials=len(fresh), findings=findings)
        if not fresh:
            return PrepareResult(previous, report, skipped)
        if not stored or (strict and (report.count("error") or report.count("warning"))):
            return PrepareResult(None, report, skipped)
        shards = [one.shard for one in stored if one.shard is not None]
        manifest = publish(out, shards=shards, rows=[one.rows for one in stored], previous=previous)
        run.keep()
    return PrepareResult(manifest, report, skipped)


class _Run:
    """The writing of the shards of one version: as tasks, and so that a failed run leaves none."""

    def __init__(self, out: str, *, version: int, splits: dict[str, Any]) -> None:
        self._out, self._version, self._splits = out, version, splits
        self._ordinals = itertools.count()
        self._files: list[str] = []

    @contextmanager
    def files(self) -> Iterator[None]:
        """At the end removes what killed tasks left half written, and the shards unless they are kept.

        On S3 shards stay: a manifest whose sending seems to have failed may be there all the same. Without
        one they belong to no set.
        """
        from pbrlib.data.shards.manifest import SHARD_FOLDER
        from pbrlib.storage import files as storage

        if storage.is_remote(self._out):
            yield
            return
        folder = Path(self._out, SHARD_FOLDER)
        before = set(folder.glob(".partial-*"))
        try:
            yield
        finally:
            for partial in set(folder.glob(".partial-*")) - before:
                partial.unlink(missing_ok=True)
            for file in self._files:
                if folder.is_dir():
                    Path(self._out, file).unlink(missing_ok=True)

    def keep(self) -> None:
        """The shards are published."""
        self._files.clear()

    def write(self, listed: Sequence[Listed], *, num_cpus: int | None) -> list[Written]:
        """Writes all shards, in the order of the list."""
        from pbrlib.data.materials.prepare import grouped
        from ray_jobs.cluster.session import ray_session
        from ray_jobs.shard_tasks import write_groups

        groups = [self._group(members) for members in grouped(listed)]
        if not groups:
            return []
        with ray_session(num_cpus=num_cpus), _progress() as progress:
            task = progress.add_task("prepare", total=len(listed))
            written = {}
            for group, result in write_groups(groups, self._out, alone=self._alone):
                written[group.file] = result
                progress.advance(task, len(group.members))
        return [written[file] for file in sorted(written)]

    def _group(self, members: Sequence[Listed]) -> Group:
        from pbrlib.data.materials.prepare import Group
        from pbrlib.data.shards.writer import shard_name

        file = shard_name(version=self._version, ordinal=next(self._ordinals))
        self._files.append(file)
        splits = {one.entry.family: self._splits[one.entry.family] for one in members}
        return Group(file, tuple(members), splits)

    def _alone(self, group: Group) -> list[Group]:
        """A shard for each material of a group whose task died, to find the one that kills it."""
        return [self._group([one]) for one in group.members]


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress


def _previous(out: str, *, append: bool) -> Manifest | None:
    from pbrlib.data.shards.manifest import FILE_NAME, load_manifest
    from pbrlib.storage import files as storage

    if not storage.is_remote(out) and Path(out).exists() and not Path(out).is_dir():
        raise DataError(f"{out}: is a file. Name a folder for the shard set.")
    there = storage.exists(storage.join(out, FILE_NAME))
    if there and not append:
        raise DataError(
            f"{out}: holds a shard set already. Add to it with --append, or choose another folder."
        )
    return load_manifest(out) if there else None


@click.command("prepare")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--out", metavar="SHARDS", required=True, help="Folder or s3:// address of the shard set.")
@click.option(
    "--size", default=1024, show_default=True, type=click.IntRange(16), help="Largest side in pixels."
)
@click.option(
    "--val-share",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of families for validation, by a hash of their name.",
)
@click.option(
    "--hold-out",
    metavar="PATTERN",
    multiple=True,
    help="Ids or families (* for any characters) whose families go to validation; may be repeated.",
)
@click.option("--append", is_flag=True, help="Add to the set as a new version; ids that it has are skipped.")
@click.option("--strict", is_flag=True, help="Publish nothing if the audit has a warning.")
@click.option("--name", help="Name of the folder sources in index and metrics; default: the folder's.")
@click.option("--report", metavar="FILE", type=Place(dir_okay=False), help="Audit report, JSON.")
@click.option("--num-cpus", type=click.IntRange(1), help="Logical CPUs of a local Ray.")
@click.pass_context
def command(
    ctx: click.Context,
    sources: tuple[str, ...],
    out: str,
    size: int,
    val_share: float,
    hold_out: tuple[str, ...],
    append: bool,
    strict: bool,
    name: str | None,
    report: Path | None,
    num_cpus: int | None,
) -> None:
    """Audit materials and write them as a shard set.

    \b
    SOURCE is one of
      a folder with a subfolder for each material
      "matsynth:path=/data/matsynth/*.parquet,licences=CC0+CC-BY,keep_marble=false"
      skyrim:old=/data/old,new=/data/new,masks=/data/masks
      generated:count=64,size=256,seed=1

    Exit code 0: all materials are in the set. 1: the set is published, but materials with an error were
    left out. 2: nothing was published.
    """  # noqa: D301 (click reads the control character)
    result = prepare(
        [parse_source(text, size=size, name=name) for text in sources],
        out=out,
        val_share=val_share,
        hold_out=hold_out,
        append=append,
        strict=strict,
        num_cpus=num_cpus,
    )
    if report is not None:
        write_file(report, result.report.to_json().encode(), place=f"--report {report}")
    _show(result, out=out)
    if result.manifest is None:
        ctx.exit(REFUSED)
    if result.report.excluded:
        ctx.exit(INCOMPLETE)


def _show(result: PrepareResult, *, out: str) -> None:
    from rich.console import Console

    console = Console()
    report, manifest = result.report, result.manifest
    if report.findings:
        console.print(report.table())
    if result.skipped:
        console.print(f"{len(result.skipped)} materials were in the set already; skipped.")
    counts = f"{report.count('error')} errors, {report.count('warning')} warnings"
    console.print(f"{report.num_materials} materials read, {len(report.excluded)} left out ({counts}).")
    if manifest is None:
        why = "no material is fit" if len(report.excluded) == report.num_materials else "--strict"
        console.print(f"Nothing published: {why}.", style="red")
        return
    splits = manifest.splits
    console.print(
        f"{out}: version {manifest.version}, {splits['train']} to train on, {splits['val']} to validate."
    )
    if not all(splits.values()):
        empty = "validate" if splits["train"] else "train on"
        console.print(f"Nothing to {empty}: change --val-share or --hold-out.", style="yellow")
