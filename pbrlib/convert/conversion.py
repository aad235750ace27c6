"""Converts pairs one by one: workers decode the next pair and write the last one during inference.

If a pair fails, the report names its file and the reason, and the conversion continues with the next pair.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pbrlib.convert.conversionreport import ConvertedTexture
from pbrlib.convert.existing import diffuse_path
from pbrlib.convert.inputs import PreparedPair, Specular, encode_maps, prepare_glow, prepare_pair
from pbrlib.convert.seams import seam_over_mean
from pbrlib.convert.sheet import thumbnails
from pbrlib.convert.truepbr import DiskFullError, PbrMaps, write_texture
from pbrlib.convert.workers import Workers
from pbrlib.data.materials.contact import Picture
from pbrlib.errors import CheckpointError, DataError, first_line
from pbrlib.inference.chain import TextureInput
from pbrlib.maps import DIFFUSE, NORMAL, TRUE_PBR
from pbrlib.textures.blocks import is_opaque
from pbrlib.textures.decode import Texture, read_texture
from pbrlib.textures.leftout import LeftOutFile, Outcome
from pbrlib.textures.matching import Pair
from pbrlib.textures.metadata import Use


class Predictor(Protocol):
    """The networks of a conversion: ``pbrlib.inference.chain.Chain`` or a replacement with its interface."""

    def predict(self, texture: TextureInput) -> dict[str, Tensor]:
        """Return maps (C, H, W) in [0, 1] at the size of the texture."""
        ...


class Reader(Protocol):
    """A decoder: ``pbrlib.textures.decode.read_texture`` or a function with its signature."""

    def __call__(self, path: Path, *, use: Use) -> Texture:
        """Return the pixels of a file, and notes on them."""
        ...


@dataclass(frozen=True)
class Settings:
    """How pairs are converted.

    Attributes:
        num_workers: Child processes that decode, compress and write.
        timeout_s: Seconds after which a decoder or encoder counts as hung.
        specular: The content of the alpha channel of RMAOS.
        read: The decoder, a function that a child process can import.
    """

    num_workers: int = 2
    timeout_s: float = 300.0
    specular: Specular = 1.0
    read: Reader = read_texture


@dataclass(frozen=True)
class WrittenPair:
    """A converted pair whose files are written, with its entries in the report and the contact sheet."""

    pair: Pair
    summary: ConvertedTexture
    row: Mapping[str, Picture]


@dataclass(frozen=True)
class FailedPair:
    """A pair that failed; ``disk_full`` if the disk is full, so that all remaining pairs would fail too."""

    pair: Pair
    file: LeftOutFile
    disk_full: bool = False


@dataclass(frozen=True)
class _Loading:
    pair: Pair
    diffuse: Future[Texture]
    normal: Future[Texture]
    glow: Future[Texture] | None


@dataclass(frozen=True)
class _Writing:
    """A texture that a worker is writing; the worker has its full-size maps."""

    result: WrittenPair
    files: Future[list[str]]


@dataclass
class Conversion:
    """Converts pairs with open networks and workers.

    Attributes:
        predictor: The networks.
        output: The folder of the mod.
        workers: The child processes.
        settings: How pairs are converted.
        writing: Textures that are being written, in order.
    """

    predictor: Predictor
    output: Path
    workers: Workers
    settings: Settings
    writing: deque[_Writing] = field(default_factory=deque)

    def results(self, pairs: Iterator[Pair], *, ahead: int) -> Iterator[WrittenPair | FailedPair]:
        """Yield every pair in order; up to ``ahead`` pairs are decoded early, and as many written later."""
        loading: deque[_Loading] = deque()
        while True:
            while len(loading) < ahead and (pair := next(pairs, None)):
                loading.append(self._start_loading(pair))
            if not loading:
                break
            current = loading.popleft()
            try:
                self.writing.append(self._predict(current))
            except CheckpointError:
                raise
            except Exception as error:
                yield _failed_pair(current.pair, error)
            while self.writing and (len(self.writing) > ahead or self.writing[0].files.done()):
                yield self._finish_oldest()
        while self.writing:
            yield self._finish_oldest()

    def finished_writes(self) -> Iterator[WrittenPair | FailedPair]:
        """Yield the remaining pairs whose files are written, after the workers have ended."""
        while self.writing:
            files = self.writing[0].files
            if files.done() and not files.cancelled() and files.exception() is None:
                yield self._finish_oldest()
            else:
                self.writing.popleft()

    def _start_loading(self, pair: Pair) -> _Loading:
        files: list[tuple[Path, Use]] = [(pair.diffuse, "colour"), (pair.normal, "normal")]
        if pair.glow is not None:
            files.append((pair.glow, "colour"))
        calls = [
            self.workers.submit(str(path), partial(self.settings.read, use=use), path) for path, use in files
        ]
        return _Loading(pair, calls[0], calls[1], calls[2] if pair.glow is not None else None)

    def _predict(self, loading: _Loading) -> _Writing:
        diffuse, normal = loading.diffuse.result(), loading.normal.result()
        glow = None if loading.glow is None else prepare_glow(loading.glow.result().pixels)
        start = time.perf_counter()
        prepared = prepare_pair(diffuse.pixels, normal.pixels)
        outputs = self.predictor.predict(prepared.texture)
        predicted = {name: x.cpu() for name, x in outputs.items() if name in TRUE_PBR}
        maps = replace(encode_maps(prepared, predicted, specular=self.settings.specular), glow=glow)
        seconds = time.perf_counter() - start
        notes = [*_file_notes(diffuse, normal), *prepared.notes]
        if loading.pair.shared:
            notes.append(f"no normal of its own; uses {loading.pair.normal.name} of another variant")
        if glow is not None:
            notes.append("glow map converted, emissive set")
        summary = _summary(loading.pair, prepared, predicted, maps=maps, seconds=seconds)
        row = thumbnails(prepared.texture, predicted)
        written = WrittenPair(loading.pair, replace(summary, notes=tuple(notes)), row)
        return _Writing(written, self._start_writing(loading.pair, maps))

    def _start_writing(self, pair: Pair, maps: PbrMaps) -> Future[list[str]]:
        place = f"{self.output}: {pair.name}"
        return self.workers.submit(place, write_texture, self.output, pair.name, pair.stem, maps)

    def _finish_oldest(self) -> WrittenPair | FailedPair:
        writing = self.writing.popleft()
        try:
            files = tuple(writing.files.result())
        except Exception as error:
            return _failed_pair(writing.result.pair, error)
        return replace(writing.result, summary=replace(writing.result.summary, files=files))


def _failed_pair(pair: Pair, error: Exception) -> FailedPair:
    return FailedPair(
        pair,
        LeftOutFile(diffuse_path(pair), Outcome.FAILED, _reason(error)),
        disk_full=isinstance(error, DiskFullError),
    )


def _reason(error: Exception) -> str:
    """Return the message of an error, with the type of an unexpected error and advice on low memory."""
    if isinstance(error, DataError):
        return str(error)
    message = first_line(error)
    if isinstance(error, torch.cuda.OutOfMemoryError):
        torch.cuda.empty_cache()
        return f"not enough GPU memory ({message}). Reduce the texture, or convert with --device cpu"
    if isinstance(error, MemoryError) or "can't allocate memory" in message:
        return f"not enough memory ({message}). Reduce the texture, or free memory"
    return f"{type(error).__name__}: {message}"


def _file_notes(diffuse: Texture, normal: Texture) -> list[str]:
    return [f"diffuse: {note}" for note in diffuse.notes] + [f"normal: {note}" for note in normal.notes]


def _summary(
    pair: Pair, prepared: PreparedPair, predicted: Mapping[str, Tensor], *, maps: PbrMaps, seconds: float
) -> ConvertedTexture:
    texture = prepared.texture
    height, width = texture.diffuse.shape[-2:]
    seams = {DIFFUSE.name: prepared.seam, NORMAL.name: seam_over_mean(texture.normal * 0.5 + 0.5)}
    return ConvertedTexture(
        name=pair.name.as_posix(),
        width=width,
        height=height,
        tiles=texture.tileable,
        opaque=is_opaque(maps.albedo[..., 3]),
        seconds=round(seconds, 3),
        seams={**seams, **{name: seam_over_mean(x) for name, x in predicted.items()}},
        notes=(),
        files=(),
    )
