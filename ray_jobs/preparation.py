"""Sources of materials in, an audited, published shard set out; each shard is a job on Ray."""

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
    """What ``prepare`` did.

    ``manifest`` is the version now in force, None if nothing was published; ``refusal`` then says why.
    ``skipped`` are the ids that the set held before.
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
    """Reads sources, audits every material, and publishes those without an error as a shard set.

    Splits are ``pbrlib.data.shards.split.assign_splits``'s; what is a part of families of both is left
    out, and near-duplicates across them are warned of. Nothing is published, and no file stays, if the run
    fails, if ``strict`` and there is a warning or an error, if no material is fit, or if none is left to
    validate. Of a run that was killed before it could remove its shards, the same run takes over those that
    are finished.

    Args:
        sources: Where materials come from; their ids must differ.
        out: Folder or S3 address of the set; on a cluster, one that every node sees.
        val_share: Share of families for validation, by hash, and at least one of each class of several.
        hold_out: Patterns of ids or families that go to validation.
        append: Add to the set in ``out``; ids that it has are skipped.
        strict: Publish nothing if there is a warning.
        num_cpus: Logical CPUs of a local Ray.
        watch: Called with the numbers of finished and of all materials.

    Raises:
        DataError: A source cannot be listed, a pattern fits nothing, ``out`` holds a set or another thing, or
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
    aside = (*left_out, *repeated, *straddling)
    known = {row.id for row in earlier}
    skipped = tuple(one.entry.id for one in listed if one.entry.id in known)
    fresh = [one for one in listed if one.entry.id not in known]
    unread = AuditReport(num_materials=0, findings=aside)
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
        findings = (*audited, *near_duplicates(earlier, rows), *aside)
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
    """Why the set that was written is not published; None if it is."""
    if not rows:
        return "no material is fit"
    if strict and (report.count("error") or report.count("warning")):
        return "--strict"
    return validation_problem(row.split for row in (*earlier, *rows))


class _Shards:
    """The shards of one version: a job for each, in which no material can kill more than itself."""

    def __init__(
        self, listed: Sequence[SourceEntry], out: Path, *, version: int, splits: dict[str, Split]
    ) -> None:
        self._out, self._splits = out, splits
        groups = group_entries(listed)
        names = [shard_name(version=version, ordinal=n) for n in range(len(groups) + len(listed))]
        self._groups = [self._group(file, group) for file, group in zip(names, groups, strict=False)]
        # Where reading one material kills its process, each of its shard gets a shard of its own.
        own = zip(names[len(groups) :], listed, strict=True)
        self._alone = {one.entry.id: self._group(file, [one]) for file, one in own}
        self._published: frozenset[str] = frozenset()

    @contextmanager
    def provisional(self) -> Iterator[None]:
        """At the end removes records, what killed tasks left half written, and shards that are not published.

        On S3 shards that are not published stay, with their records; without a manifest they belong to no
        set.
        """
        # Half-written shards beside records are of a killed run; others may be of a command that runs now.
        folder, killed = self._out / SHARD_FOLDER, has_records(self._out)
        with storage.provisional(folder, takes_over=killed) as files:
            files |= {self._out / group.file for group in (*self._groups, *self._alone.values())}
            files.add(self._out / RECORDS)
            yield
            files -= {self._out / file for file in self._published}
        if self._published:
            with suppress(DataError):  # the set is published, and records are no part of it
                remove_records(self._out)

    def keep(self, files: Iterable[str]) -> None:
        """Keeps these shards: they are published."""
        self._published = frozenset(files)

    def write(self, *, num_cpus: int | None, watch: Callable[[int, int], None]) -> list[WrittenShard]:
        """Writes all shards; what was written in the order of the materials.

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
        """What was written by file, and the groups that killed their process; errors as of `write`."""
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
    """The job that writes a shard; its result is `to_job_result` what was written."""
    members = [[asdict(one.entry), one.source.stamp(one.entry)] for one in group.members]
    key = fingerprint("prepare", group.file, members, dict(group.splits))
    return Job(group.file, key, partial(_write_shard, group, out=out))


def _write_shard(group: Group, *, out: Path) -> JobOutput:
    written = write_group(group, out=out)
    return JobOutput((group.file,) if written.shard is not None else (), to_job_result(written))


def _left_out(group: Group, failure: Failure) -> WrittenShard:
    """What came of a material whose reading kills its process."""
    message = f"reading it killed its process: {failure.reason}. Save its files again, or reduce them."
    return WrittenShard(None, (), (Finding(group.members[0].entry.id, "", "killed", "error", message),))


def _previous(out: Path, *, append: bool) -> Manifest | None:
    if out.is_file():
        raise DataError(f"{out}: is a file. Name a folder for the shard set.")
    if not (out / FILE_NAME).is_file():
        others = foreign_files(out) if out.is_dir() else []
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise DataError(
                f"{out}: holds {others[0]}{more} and is no shard set; expected a new or empty folder. Name "
                "another folder for the set."
            )
        return None
    manifest = load_manifest(out)
    if not append:
        raise DataError(
            f"{out}: holds a shard set already. Add to it with --append, or choose another folder."
        )
    return manifest
