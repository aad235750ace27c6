"""A whole texture tree to True PBR, and the report of it, which is written whatever ends the conversion."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import assert_never

from pbrlib.convert.conversion import Conversion, Failed, Predictor, Settings, Written
from pbrlib.convert.conversionreport import REPORT_FILE, Report
from pbrlib.convert.diskspace import check_space
from pbrlib.convert.existing import diffuse_path
from pbrlib.convert.sheet import NAME as SHEET
from pbrlib.convert.sheet import Sheet
from pbrlib.convert.stopping import StopError, StopSignals
from pbrlib.convert.texturepairs import find_textures
from pbrlib.convert.truepbr import PATCHES, TEXTURES, NoRoomError, part_prefix, write_together
from pbrlib.convert.workers import Workers
from pbrlib.errors import ConfigError, DataError, first_line
from pbrlib.textures.leftout import LeftOutFile, Outcome
from pbrlib.textures.matching import Pair
from pbrlib.textures.pairs import Listing

AHEAD = 2
"""Textures per worker that wait decoded, and that wait to be written: bounds the memory."""

RESERVED_BYTES = 2048
"""Room that is kept for each texture in the report."""

SAVE_EVERY_S = 30.0
"""The report is written this often, so that one is there even after a kill that nothing can answer."""


@dataclass(frozen=True)
class Progress:
    """How far a conversion is, for a progress bar."""

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
    """Converts every texture pair of a tree; files of an earlier conversion are replaced.

    SIGINT, SIGTERM and SIGHUP end it early: the report then names what was not begun.

    Args:
        open_networks: Opens the trained networks, which run in this process; called once it is known what
            there is to convert.
        source: A game's or a mod's folder, its texture folder or a folder in that.
        output: The folder of the mod: ``textures/PBR``, ``PBRNifPatcher``, ``report.json``, ``contact.png``.
        settings: How to convert.
        begin: Called with what there is to convert, before anything is.
        watch: Called before the first texture and after every one.

    Returns:
        What became of every file, as also written to ``report.json``.

    Raises:
        ConfigError: ``output`` lies inside ``source`` or is the same folder.
        DataError: There is nothing to read, the disk is too small for what would be written, or the report
            cannot be written.
        CheckpointError: A network is missing.
    """
    refuse_overlap(source=source, output=output)
    # Not resolved: a link may be what bears the name of the texture folder.
    source, output = (Path(os.path.abspath(path)) for path in (source, output))  # noqa: PTH100
    run = _Run(Report(source=str(source), output=str(output)), output, settings or Settings(), watch)
    with StopSignals() as signals:
        try:
            listing = find_textures(source, output=output)
            run.enter(listing)
            begin(listing)
            run.save()
            run.reserve()
            check_space(listing.pairs, output=output)
            run.convert(open_networks, list(listing.pairs))
            signals.hold()
            run.end("complete")
        except StopError as stop:
            run.end("stopped", reason=f"{stop} came first", code=128 + stop.number)
        except Exception as error:
            signals.hold()
            if run.report.total is not None:
                with contextlib.suppress(DataError):  # it may be the very error
                    run.end("failed", reason=first_line(error))
            raise
    return run.report


def refuse_overlap(*, source: Path, output: Path) -> None:
    """Raises ConfigError when the output would be read as input the next time."""
    source, output = source.resolve(), output.resolve()
    if output == source or source in output.parents:
        raise ConfigError(f"{output}: lies inside the input {source}. Choose a folder outside of it.")


@dataclass
class _Run:
    """The state of one call: the report, and what of it still has to be done."""

    report: Report
    output: Path
    settings: Settings
    watch: Callable[[Progress], None]
    sheet: Sheet = field(default_factory=lambda: Sheet(num_textures=1))
    waiting: dict[PurePosixPath, Pair] = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)
    saved: float = 0.0

    def enter(self, listing: Listing) -> None:
        """Takes what there is to convert into the report."""
        self.report.root, self.report.notes = str(listing.root), list(listing.notes)
        self.report.total = len(listing.pairs)
        self.report.left_out = list(listing.left_out)
        self.waiting = {diffuse_path(pair): pair for pair in listing.pairs}
        self.sheet = Sheet(num_textures=len(listing.pairs))

    def convert(self, open_networks: Callable[[], Predictor], pairs: list[Pair]) -> None:
        """Converts pairs; without room in the output the rest of them is left."""
        self.watch(Progress(done=0, total=len(pairs), name=""))
        if not pairs:
            return
        settings = self.settings
        predictor = open_networks()
        conversion: Conversion | None = None
        try:
            with Workers(settings.num_workers, timeout_s=settings.timeout_s) as workers:
                conversion = Conversion(predictor, self.output, workers, settings)
                for result in conversion.results(iter(pairs), ahead=AHEAD * settings.num_workers):
                    self._take(result)
                    if isinstance(result, Failed) and result.no_room:
                        raise DataError(result.file.reason)
                    if time.monotonic() - self.saved >= SAVE_EVERY_S:
                        with contextlib.suppress(DataError):  # the last one says that it cannot be written
                            self.save()
        finally:
            if conversion is not None:
                for result in conversion.finished_writes():
                    self._take(result)

    def _take(self, result: Written | Failed) -> None:
        del self.waiting[diffuse_path(result.pair)]
        match result:
            case Written():
                place = len(self.report.converted)
                self.report.converted.append(result.summary)
                self.sheet.add(result.summary.name, result.row, place=place)
            case Failed():
                self.report.left_out.append(result.file)
            case _:
                assert_never(result)
        total = self.report.total or 0
        self.watch(Progress(done=total - len(self.waiting), total=total, name=result.pair.name.as_posix()))

    def reserve(self) -> None:
        """Takes room for the last report, which is there where textures have filled the disk."""
        data = bytes(RESERVED_BYTES * (1 + (self.report.total or 0)))
        write_together(self.output, {PurePosixPath(self._reserve): data})

    @property
    def _reserve(self) -> str:
        return f"{part_prefix(os.getpid())}report.part"

    def end(self, state: str, *, reason: str = "", code: int | None = None) -> None:
        """Writes the report for the last time, with the pictures, and clears away what was half written."""
        self.report.end(state, reason, code=code, pending=self._pending(reason))
        self._clear()
        self.waiting = {}
        files = {PurePosixPath(SHEET): self.sheet.encode()} if self.report.converted else {}
        try:
            self.save(files)
        except NoRoomError:
            self.save()  # the report matters more than the pictures
            raise

    def save(self, pictures: dict[PurePosixPath, bytes] | None = None) -> None:
        """Writes the report as it is now; raises DataError if it cannot be written."""
        self.report.seconds = time.monotonic() - self.start
        self.saved = time.monotonic()
        encoded = self.report.encode(self._pending("being converted"))
        write_together(self.output, {PurePosixPath(REPORT_FILE): encoded, **(pictures or {})})

    def _pending(self, reason: str) -> list[LeftOutFile]:
        return [LeftOutFile(path, Outcome.PENDING, f"not converted: {reason}") for path in self.waiting]

    def _clear(self) -> None:
        """Removes the unfinished files of children that were ended."""
        (self.output / self._reserve).unlink(missing_ok=True)
        names = {PurePosixPath(converted.name).parent for converted in self.report.converted}
        names |= {path.parent for path in self.waiting}
        names |= {file.path.parent for file in self.report.left_out if file.outcome is Outcome.FAILED}
        for folder in {top / name for name in names for top in (TEXTURES, PATCHES)}:
            for path in (self.output / folder).glob(f"{part_prefix(os.getpid())}*.part"):
                path.unlink(missing_ok=True)
