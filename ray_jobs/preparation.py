"""Prepare an audited shard set from sources of materials, with a Ray job for each shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import assert_never

from pbrlib import storage
from pbrlib.data.absent import foreign_files
from pbrlib.data.materials.audit import AuditReport, Finding
from pbrlib.data.materials.material import Source
from pbrlib.data.shards.index import IndexRow, Split
from pbrlib.data.shards.manifest import FILE_NAME, SHARD_FOLDER, Manifest, load_manifest, read_index
from pbrlib.data.shards.prepare import (
    Group,
    SourceEntry,
    WrittenShard,
    exclude_split_blends,
    from_job_result,
    group_entries,
    list_left_out,
    list_sources,
    near_duplicates,
    to_job_result,
    update_splits,
    write_group,
)
from pbrlib.data.shards.split import assign_splits, families_held_out, validation_problem
from pbrlib.data.shards.writer import publish, shard_name
from pbrlib.errors import DataError
from pbrlib.jobs.job import Failure, Job, JobOutput, Success, fingerprint
from pbrlib.jobs.record import RECORDS, has_records, remove_records


@dataclass(frozen=True)
class PrepareResult:
    """Result of ``prepare``.

    ``manifest`` is the current version of the set, None if nothing was published; ``refusal`` is then the
    reason. ``skipped`` are the ids that the set already had.
    """

    manifest: Manifest | None
    report: AuditReport
    skipped: tuple[str, ...]
    refusal: str = ""


def prepare(
    sources: Sequence[Source],
    *,
    out: str | Path,
    val_share: float = 0.1,
    hold_out: Sequence[str] = (),
    append: bool = False,
    strict: bool = False,
    num_cpus: int | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> PrepareResult:
    """Read sources, audit every material, and publish those without an error as a shard set.

    `pbrlib.data.shards.split.assign_splits` assigns the splits. A blend of families of both splits is left
    out, and near-duplicates across the splits cause a warning. Nothing is published, and no file remains, if
    the run fails, if ``strict`` is set and there is a warning or an error, if no material can be used, or if
    none is left for validation. If a run was killed before it could remove its shards, the same call keeps
    those that are finished.

    Args:
        sources: Sources of materials; all ids must differ.
        out: Folder or S3 address of the set; on a cluster, every node must see it.
        val_share: Share of families for validation, by hash, and at least one of each class with several.
        hold_out: Patterns of ids or families that go to validation.
        append: Add to the set in ``out``; ids that it already has are skipped.
        strict: Publish nothing if there is a warning.
        num_cpus: Logical CPUs of a local Ray.
        watch: Called with the number of finished materials and the total.

    Raises:
        DataError: A source cannot be listed, a pattern matches nothing, ``out`` has a set or other files, or
            a shard cannot be written.
        DefectError: A source has a bug.
    """
    out = storage.to_path(out).resolve()
    previous = _previous(out, append=append)
    earlier = () if previous is None else read_index(out, manifest=previous)
    listed, repeated = list_sources(sources)
    left_out = list_left_out(sources)
    if not listed:
        report = AuditReport(num_materials=0, findings=tuple(left_out))
        return PrepareResult(None, report, (), "no material is fit")
    entries = [one.entry for one in listed]
    splits = assign_splits(entries, val_share=val_share, hold_out=hold_out, earlier=earlier)
    listed, straddling = exclude_split_blends(listed, splits=splits)
    excluded = (*left_out, *repeated, *straddling)
    known = {row.id for row in earlier}
    skipped = tuple(one.entry.id for one in listed if one.entry.id in known)
    fresh = [one for one in listed if one.entry.id not in known]
    unread = AuditReport(num_materials=0, findings=excluded)
    if not fresh and skipped:
        return PrepareResult(previous, unread, skipped)
    of_all = [splits[one.entry.family] for one in fresh] + [row.split for row in earlier]
    if problem := validation_problem(of_all) if fresh else "no material is fit":
        return PrepareResult(None, unread, skipped, problem)
    shards = _Shards(fresh, out, version=1 if previous is None else previous.version + 1, splits=splits)
    with shards.provisional():
        written = shards.write(num_cpus=num_cpus, watch=watch)
        stored = [one for one in written if one.shard is not None]
        if 0.0 < val_share < 1.0:
            held = families_held_out(entries, hold_out=hold_out, earlier=earlier)
            stored = update_splits(stored, fresh, earlier=earlier, splits=splits, held=held)
        rows = [row for one in stored for row in one.rows]
        audited = [finding for one in written for finding in one.findings]
        findings = (*audited, *near_duplicates(earlier, rows), *excluded)
        report = AuditReport(num_materials=len(fresh), findings=findings)
        if problem := _problem(report, rows, earlier=earlier, strict=strict):
            return PrepareResult(None, report, skipped, problem)
        infos = [one.shard for one in stored if one.shard is not None]
        manifest = publish(out, shards=infos, rows=[one.rows for one in stored], previous=previous)
        shards.keep(info.file for info in infos)
    return PrepareResult(manifest, report, skipped)


def _problem(
    report: AuditReport, rows: Sequence[IndexRow], *, earlier: Sequence[IndexRow], strict: bool
) -> str | None:
    """Return why the written set must not be published; None if it can be."""
    if not rows:
        return "no material is fit"
    if strict and (report.count("error") or report.count("warning")):
        return "--strict"
    return validation_problem(row.split for row in (*earlier, *rows))


class _Shards:
    """The shards of one version, with a job for each; a material that kills its process costs only itself."""

    def __init__(
        self, listed: Sequence[SourceEntry], out: Path, *, version: int, splits: dict[str, Split]
    ) -> None:
        self._out, self._splits = out, splits
        groups = group_entries(listed)
        names = [shard_name(version=version, ordinal=n) for n in range(len(groups) + len(listed))]
        self._groups = [self._group(file, group) for file, group in zip(names, groups, strict=False)]
        # If a material kills the process that reads it, every material of its shard gets its own shard.
        own = zip(names[len(groups) :], listed, strict=True)
        self._alone = {one.entry.id: self._group(file, [one]) for file, one in own}
        self._published: frozenset[str] = frozenset()

    @contextmanager
    def provisional(self) -> Iterator[None]:
        """Remove records, unfinished files of killed tasks, and unpublished shards at the end of the block.

        On S3, unpublished shards and their records remain; without a manifest they belong to no set.
        """
        # Unfinished shards beside records are from a killed run; others may be from a command that runs now.
        folder, killed = self._out / SHARD_FOLDER, has_records(self._out)
        with storage.provisional(folder, takes_over=killed) as files:
            files |= {self._out / group.file for group in (*self._groups, *self._alone.values())}
            files.add(self._out / RECORDS)
            yield
            files -= {self._out / file for file in self._published}
        if self._published:
            with suppress(DataError):  # the set is published; records are not a part of it
                remove_records(self._out)

    def keep(self, files: Iterable[str]) -> None:
        """Keep these shards, because they are published."""
        self._published = frozenset(files)

    def write(self, *, num_cpus: int | None, watch: Callable[[int, int], None]) -> list[WrittenShard]:
        """Write all shards and return them in the order of the materials.

        Raises:
            DataError: A shard cannot be written.
            DefectError: A source has a bug.
        """
        from ray_jobs.cluster.session import ray_session

        total, done = sum(len(group.members) for group in self._groups), 0

        def ended(group: Group) -> None:
            nonlocal done
            done += len(group.members)
            watch(done, total)

        with ray_session(num_cpus=num_cpus):
            written, killed = self._run(self._groups, ended)
            several = [group for group, _ in killed if len(group.members) > 1]
            alone = [self._alone[one.entry.id] for group in several for one in group.members]
            written_alone, killed_alone = self._run(alone, ended)
        written |= written_alone
        for group, failure in [*killed, *killed_alone]:
            if len(group.members) == 1:
                written[group.file] = _left_out(group, failure)
        return [written[file] for file in sorted(written)]

    def _run(
        self, groups: Sequence[Group], ended: Callable[[Group], None]
    ) -> tuple[dict[str, WrittenShard], list[tuple[Group, Failure]]]:
        """Return the written shards by file, and the groups that killed their process; raises as `write`."""
        from ray_jobs.jobtasks import run_on_ray

        by_file = {group.file: group for group in groups}
        written: dict[str, WrittenShard] = {}
        killed: list[tuple[Group, Failure]] = []
        jobs = (shard_job(group, out=self._out) for group in groups)
        with closing(run_on_ray(jobs, root=self._out)) as outcomes:
            for outcome in outcomes:
                group = by_file[outcome.name]
                match outcome:
                    case Success():
                        written[group.file] = from_job_result(outcome.result)
                        ended(group)
                    case Failure(kind="killed"):
                        killed.append((group, outcome))
                    case Failure():
                        raise outcome.error()
                    case _:
                        assert_never(outcome)
        return written, killed

    def _group(self, file: str, members: Sequence[SourceEntry]) -> Group:
        splits = {one.entry.family: self._splits[one.entry.family] for one in members}
        return Group(file, tuple(members), splits)


def shard_job(group: Group, *, out: Path) -> Job:
    """Return the job that writes a shard; its result is a `WrittenShard` as JSON."""
    members = [[asdict(one.entry), one.source.stamp(one.entry)] for one in group.members]
    key = fingerprint("prepare", group.file, members, dict(group.splits))
    return Job(group.file, key, partial(_write_shard, group, out=out))


def _write_shard(group: Group, *, out: Path) -> JobOutput:
    written = write_group(group, out=out)
    return JobOutput((group.file,) if written.shard is not None else (), to_job_result(written))


def _left_out(group: Group, failure: Failure) -> WrittenShard:
    """Return the result for a material that kills the process that reads it: an error and no shard."""
    message = f"reading it killed its process: {failure.reason}. Save its files again, or reduce them."
    return WrittenShard(None, (), (Finding(group.members[0].entry.id, "", "killed", "error", message),))


def _previous(out: Path, *, append: bool) -> Manifest | None:
    if out.is_file():
        raise DataError(
            f"{out}: got a file; expected a folder for the shard set. Give a new or empty folder."
        )
    if not (out / FILE_NAME).is_file():
        others = foreign_files(out) if out.is_dir() else []
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise DataError(
                f"{out}: got a folder with {others[0]}{more}; expected a new or empty folder, or a shard "
                "set. Give another folder."
            )
        return None
    manifest = load_manifest(out)
    if not append:
        raise DataError(
            f"{out}: got a folder with a shard set; expected a new or empty one. Use --append to add to "
            "the set, or give another folder."
        )
    return manifest
