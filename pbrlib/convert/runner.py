"""A whole texture tree through the networks: decode ahead, infer here, compress and write behind."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

from torch import Tensor

from pbrlib.convert.conversionreport import FILE, Converted, Report
from pbrlib.convert.inputs import Prepared, prepare, store
from pbrlib.convert.seams import seam_over_mean
from pbrlib.convert.sheet import NAME as SHEET
from pbrlib.convert.sheet import Sheet, thumbnails
from pbrlib.convert.texturepairs import find_textures
from pbrlib.convert.truepbr import PbrMaps, write_texture, write_together
from pbrlib.convert.workers import Workers
from pbrlib.data.materials.contact import Picture
from pbrlib.errors import ConfigError, DataError
from pbrlib.inference.chain import TextureInput
from pbrlib.maps import DIFFUSE, NORMAL, TRUE_PBR
from pbrlib.textures.blocks import is_opaque
from pbrlib.textures.decode import Texture, read_texture
from pbrlib.textures.metadata import Use
from pbrlib.textures.pairs import Aside, Fate, Listing, Pair

AHEAD = 2
"""Textures per worker that wait decoded, and that wait to be written: bounds the memory."""


class Predictor(Protocol):
    """What converts: ``pbrlib.inference.chain.Chain``, or anything that answers like it."""

    def predict(self, texture: TextureInput) -> dict[str, Tensor]:
        """Maps (C, H, W) in [0, 1] at the size of the texture."""
        ...


class Reader(Protocol):
    """What decodes: ``pbrlib.textures.decode.read_texture``, or a function that answers like it."""

    def __call__(self, path: Path, *, use: Use) -> Texture:
        """The pixels of a file, and notes on them."""
        ...


@dataclass(frozen=True)
class Progress:
    """How far a conversion is, for a progress bar."""

    done: int
    total: int
    name: str


@dataclass(frozen=True)
class _Loading:
    pair: Pair
    diffuse: Future[Texture]
    normal: Future[Texture]


@dataclass(frozen=True)
class _Writing:
    """A texture on its way to the disk; the full-size maps are already with the writer."""

    pair: Pair
    summary: Converted
    row: Mapping[str, Picture]
    files: Future[list[str]]


def convert_tree(
    predictor: Predictor,
    *,
    source: Path,
    output: Path,
    num_workers: int = 2,
    timeout_s: float = 300.0,
    watch: Callable[[Progress], None] = lambda progress: None,
    read: Reader = read_texture,
) -> Report:
    """Converts every texture pair of a tree; existing files of the same names are replaced.

    Args:
        predictor: the trained networks; they run in this process.
        source: a game's ``Data`` folder or a texture folder.
        output: the folder of the mod: ``textures/PBR``, ``PBRNifPatcher``, ``report.json``, ``contact.png``.
        num_workers: child processes that decode, compress and write.
        timeout_s: seconds after which a decoder or encoder has hung.
        watch: called after every texture.
        read: the decoder, a function that a child process can import.

    Returns:
        What became of every file, as also written to ``report.json``.

    Raises:
        ConfigError: ``output`` lies inside ``source`` or is the same folder.
        DataError: there is nothing to read, or the report cannot be written.
        CheckpointError: a network is missing.
    """
    refuse_overlap(source=source, output=output)
    source, output = source.resolve(), output.resolve()
    start = time.perf_counter()
    listing = find_textures(source)
    report = Report(source=str(source), output=str(output), asides=list(listing.asides))
    sheet = Sheet(num_textures=len(listing.pairs))
    total, done = len(listing.pairs), 0
    with Workers(num_workers, timeout_s=timeout_s) as workers:
        conversion = _Conversion(predictor, listing, output, workers, read)
        for result in conversion.results(ahead=AHEAD * num_workers):
            done += 1
            if isinstance(result, Aside):
                report.asides.append(result)
                name = result.path.as_posix()
            else:
                name = result.summary.name
                report.converted.append(replace(result.summary, files=tuple(result.files.result())))
                sheet.add(name, result.row, place=done - 1)
            watch(Progress(done=done, total=total, name=name))
    report.seconds = time.perf_counter() - start
    files = {PurePosixPath(FILE): report.encode()}
    if report.converted:
        files[PurePosixPath(SHEET)] = sheet.encode()
    write_together(output, files)
    return report


def refuse_overlap(*, source: Path, output: Path) -> None:
    """Raises ConfigError when the output would be read as input the next time."""
    source, output = source.resolve(), output.resolve()
    if output == source or source in output.parents:
        raise ConfigError(f"{output}: lies inside the input {source}. Choose a folder outside of it.")


@dataclass(frozen=True)
class _Conversion:
    predictor: Predictor
    listing: Listing
    output: Path
    workers: Workers
    read: Reader

    def results(self, *, ahead: int) -> Iterator[_Writing | Aside]:
        """Every pair in order, written or failed; ``ahead`` textures wait at either side of the networks."""
        waiting = iter(self.listing.pairs)
        loading: deque[_Loading] = deque()
        writing: deque[_Writing] = deque()
        while True:
            while len(loading) < ahead and (pair := next(waiting, None)):
                loading.append(self._load(pair))
            if not loading:
                break
            current = loading.popleft()
            try:
                writing.append(self._convert(current))
            except DataError as error:
                yield self._failed(current.pair, error)
            while writing and (len(writing) > ahead or writing[0].files.done()):
                yield self._finished(writing.popleft())
        while writing:
            yield self._finished(writing.popleft())

    def _load(self, pair: Pair) -> _Loading:
        files: tuple[tuple[Path, Use], ...] = ((pair.diffuse, "colour"), (pair.normal, "normal"))
        diffuse, normal = (
            self.workers.submit(str(path), partial(self.read, use=use), path) for path, use in files
        )
        return _Loading(pair, diffuse, normal)

    def _convert(self, loading: _Loading) -> _Writing:
        diffuse, normal = loading.diffuse.result(), loading.normal.result()
        start = time.perf_counter()
        prepared = prepare(diffuse.pixels, normal.pixels)
        answer = self.predictor.predict(prepared.texture)
        predicted = {name: x.cpu() for name, x in answer.items() if name in TRUE_PBR}
        maps = store(prepared, predicted)
        seconds = time.perf_counter() - start
        summary = _summary(
            loading.pair, prepared, predicted, opaque=is_opaque(maps.albedo[..., 3]), seconds=seconds
        )
        summary = replace(summary, notes=(*_file_notes(diffuse, normal), *summary.notes))
        row = thumbnails(prepared.texture, predicted)
        return _Writing(loading.pair, summary, row, self._write(loading.pair, maps))

    def _write(self, pair: Pair, maps: PbrMaps) -> Future[list[str]]:
        place = f"{self.output}: {pair.name}"
        return self.workers.submit(place, write_texture, self.output, pair.name, pair.stem, maps)

    def _finished(self, writing: _Writing) -> _Writing | Aside:
        try:
            writing.files.result()
        except DataError as error:
            return self._failed(writing.pair, error)
        return writing

    def _failed(self, pair: Pair, error: DataError) -> Aside:
        return Aside(
            PurePosixPath(pair.diffuse.relative_to(self.listing.root).as_posix()), Fate.FAILED, str(error)
        )


def _file_notes(diffuse: Texture, normal: Texture) -> list[str]:
    return [f"diffuse: {note}" for note in diffuse.notes] + [f"normal: {note}" for note in normal.notes]


def _summary(
    pair: Pair, prepared: Prepared, predicted: Mapping[str, Tensor], *, opaque: bool, seconds: float
) -> Converted:
    texture = prepared.texture
    height, width = texture.diffuse.shape[-2:]
    seams = {DIFFUSE.name: prepared.seam, NORMAL.name: seam_over_mean(texture.normal * 0.5 + 0.5)}
    return Converted(
        name=pair.name.as_posix(),
        width=width,
        height=height,
        tiles=texture.tileable,
        opaque=opaque,
        seconds=round(seconds, 3),
        seams={**seams, **{name: seam_over_mean(x) for name, x in predicted.items()}},
        notes=prepared.notes,
        files=(),
    )
