"""Converts a texture tree to True PBR, and writes the report however the conversion ends."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import assert_never

from pbrlib.convert.conversion import Conversion, FailedPair, Predictor, Settings, WrittenPair
from pbrlib.convert.conversionreport import REPORT_FILE, Report
from pbrlib.convert.diskspace import check_space
from pbrlib.convert.existing import diffuse_path
from pbrlib.convert.sheet import SHEET_FILE, Sheet
from pbrlib.convert.stopping import StopError, StopSignals
from pbrlib.convert.texturepairs import find_textures
from pbrlib.convert.truepbr import PATCHES, TEXTURES, DiskFullError, part_prefix, write_files_together
from pbrlib.convert.workers import Workers
from pbrlib.errors import ConfigError, DataError, first_line
from pbrlib.textures.leftout import LeftOutFile, Outcome
from pbrlib.textures.matching import Pair
from pbrlib.textures.pairs import Listing

QUEUED_PER_WORKER = 2
"""Number of textures per worker that are decoded ahead or wait to be written, which bounds the memory."""

RESERVED_BYTES = 2048
"""Disk space in bytes that is reserved in the report for each texture."""

SAVE_EVERY_S = 30.0
"""Seconds between two writes of the report, so that a report exists even after SIGKILL."""


@dataclass(frozen=True)
class Progress:
    """Progress of a conversion: numbers of finished and of all textures, and the name of the last one."""

    done: int
    total: int
    name: str


def convert_tree(
    open_networks: Callable[[], Predictor],
    *,
    source: Path,
    output: Path,
    settings: Settings | None = None,
    begin: Callable[[Listing], None] = lambda listing: None,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Report:
    """Convert all texture pairs of a tree; files of an earlier conversion are replaced.

    SIGINT, SIGTERM and SIGHUP end the conversion early; the report then lists the remaining pairs as pending.

    Args:
        open_networks: Opens the trained networks, which run in this process; called after the pairs are
            listed.
        source: The folder of a game or mod, its texture folder, or a folder inside the texture folder.
        output: The folder of the mod, with ``textures/PBR``, ``PBRNifPatcher``, ``report.json`` and
            ``contact.png``.
        settings: How to convert.
        begin: Called with the listed pairs before the conversion.
        watch: Called before the first texture and after every texture.

    Returns:
        The report, which is also written to ``report.json``.

    Raises:
        ConfigError: ``output`` is inside ``source`` or is the same folder.
        DataError: There are no textures, the disk is too small for the converted files, or the report cannot
            be written.
        CheckpointError: A network is missing.
    """
    refuse_overlap(source=source, output=output)
    # Links are not resolved, since a link may have the name of the texture folder.
    source, output = (Path(os.path.abspath(path)) for path in (source, output))  # noqa: PTH100
    run = _ConversionRun(
        Report(source=str(source), output=str(output)), output, settings or Settings(), watch
    )
    with StopSignals() as signals:
        try:
            listing = find_textures(source, output=output)
            run.set_listing(listing)
            begin(listing)
            run.save()
            run.reserve_disk_space()
            check_space(listing.pairs, output=output)
            run.convert(open_networks, list(listing.pairs))
            signals.ignore_signals()
            run.end("complete")
        except StopError as stop:
            run.end("stopped", reason=f"stopped by {stop}", code=128 + stop.number)
        except Exception as error:
            signals.ignore_signals()
            if run.report.total is not None:
                with contextlib.suppress(DataError):  # the error may be that the report cannot be written
                    run.end("failed", reason=first_line(error))
            raise
    return run.report


def refuse_overlap(*, source: Path, output: Path) -> None:
    """Raise ConfigError if the output is inside the input, where the next conversion would read it."""
    source, output = source.resolve(), output.resolve()
    if output == source or source in output.parents:
        raise ConfigError(
            f"{output}: got an output inside the input {source}. Choose a folder outside of the input."
        )


@dataclass
class _ConversionRun:
    """The state of a conversion: the report, and the pairs that are not converted yet."""

    report: Report
    output: Path
    settings: Settings
    watch: Callable[[Progress], None]
    sheet: Sheet = field(default_factory=lambda: Sheet(num_textures=1))
    waiting: dict[PurePosixPath, Pair] = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)
    saved: float = 0.0

    def set_listing(self, listing: Listing) -> None:
        """Set the listed pairs as pending, and record the listing in the report."""
        self.report.root, self.report.notes = str(listing.root), list(listing.notes)
        self.report.total = len(listing.pairs)
        self.report.left_out = list(listing.left_out)
        self.waiting = {diffuse_path(pair): pair for pair in listing.pairs}
        self.sheet = Sheet(num_textures=len(listing.pairs))

    def convert(self, open_networks: Callable[[], Predictor], pairs: list[Pair]) -> None:
        """Convert pairs; if the disk is full, the remaining pairs are not converted."""
        self.watch(Progress(done=0, total=len(pairs), name=""))
        if not pairs:
            return
        settings = self.settings
        predictor = open_networks()
        conversion: Conversion | None = None
        try:
            with Workers(settings.num_workers, timeout_s=settings.timeout_s) as workers:
                conversion = Conversion(predictor, self.output, workers, settings)
                for result in conversion.results(iter(pairs), ahead=QUEUED_PER_WORKER * settings.num_workers):
                    self._add_result(result)
                    if isinstance(result, FailedPair) and result.disk_full:
                        raise DataError(result.file.reason)
                    if time.monotonic() - self.saved >= SAVE_EVERY_S:
                        with contextlib.suppress(DataError):  # the final write reports this error
                            self.save()
        finally:
            if conversion is not None:
                for result in conversion.finished_writes():
                    self._add_result(result)

    def _add_result(self, result: WrittenPair | FailedPair) -> None:
        del self.waiting[diffuse_path(result.pair)]
        match result:
            case WrittenPair():
                place = len(self.report.converted)
                self.report.converted.append(result.summary)
                self.sheet.add(result.summary.name, result.row, place=place)
            case FailedPair():
                self.report.left_out.append(result.file)
            case _:
                assert_never(result)
        total = self.report.total or 0
        self.watch(Progress(done=total - len(self.waiting), total=total, name=result.pair.name.as_posix()))

    def reserve_disk_space(self) -> None:
        """Reserve disk space for the final report, which is needed if textures fill the disk."""
        data = bytes(RESERVED_BYTES * (1 + (self.report.total or 0)))
        write_files_together(self.output, {PurePosixPath(self._reserve_name): data})

    @property
    def _reserve_name(self) -> str:
        return f"{part_prefix(os.getpid())}report.part"

    def end(self, state: str, *, reason: str = "", code: int | None = None) -> None:
        """Write the final report and the contact sheet, and remove temporary files."""
        self.report.end(state, reason, code=code, pending=self._pending(reason))
        self._remove_temporary_files()
        self.waiting = {}
        files = {PurePosixPath(SHEET_FILE): self.sheet.encode()} if self.report.converted else {}
        try:
            self.save(files)
        except DiskFullError:
            self.save()  # the report is more important than the contact sheet
            raise

    def save(self, pictures: dict[PurePosixPath, bytes] | None = None) -> None:
        """Write the current report; raises DataError if it cannot be written."""
        self.report.seconds = time.monotonic() - self.start
        self.saved = time.monotonic()
        encoded = self.report.encode(self._pending("being converted"))
        write_files_together(self.output, {PurePosixPath(REPORT_FILE): encoded, **(pictures or {})})

    def _pending(self, reason: str) -> list[LeftOutFile]:
        return [LeftOutFile(path, Outcome.PENDING, f"not converted: {reason}") for path in self.waiting]

    def _remove_temporary_files(self) -> None:
        """Remove temporary files of killed child processes."""
        (self.output / self._reserve_name).unlink(missing_ok=True)
        names = {PurePosixPath(converted.name).parent for converted in self.report.converted}
        names |= {path.parent for path in self.waiting}
        names |= {file.path.parent for file in self.report.left_out if file.outcome is Outcome.FAILED}
        for folder in {top / name for name in names for top in (TEXTURES, PATCHES)}:
            for path in (self.output / folder).glob(f"{part_prefix(os.getpid())}*.part"):
                path.unlink(missing_ok=True)
