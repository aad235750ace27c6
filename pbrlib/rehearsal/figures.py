"""Stores the measurements of a rehearsed phase, by rank and start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pbrlib import storage


@dataclass(frozen=True)
class ValidationFigures:
    """The measurements of a validation over some of the textures of one rank.

    Attributes:
        textures: Number of measured textures.
        pixels: Number of their pixels.
        stored_bytes: Size of the textures in memory between validations.
        load_s: Seconds to read the textures, once per start.
        seconds: Seconds of one validation, after a first one to warm up the device.
        picture_s: Seconds to draw the pictures of rank 0, independent of the number of textures.
        all_textures: Number of all textures of the rank.
        all_pixels: Number of all pixels of the rank.
    """

    textures: int
    pixels: int
    stored_bytes: int
    load_s: float
    seconds: float
    picture_s: float
    all_textures: int
    all_pixels: int


@dataclass(frozen=True)
class RankFigures:
    """The measurements of one start of a phase on one rank.

    Attributes:
        rank: The rank of the worker.
        host: Host name of the worker.
        device: Name of the device.
        first_step: The step from which the start continued.
        agreeing: Number of tensors equal to those of the donor or of the resumed checkpoint.
        tensors: Number of all tensors of the networks.
        step_s: Seconds of each step, without waiting for its batch.
        wait_s: Seconds of waiting for each batch; the first includes the start of the stream.
        supply: Throughput of the stream without training, in samples per second; None if the plan was too
            short to measure it.
        supply_s: Seconds of this measurement.
        peak_bytes: Peak memory in use: of the device, or the resident set of the process on a CPU.
        reserved_bytes: Peak memory reserved by torch on the device; None on a CPU.
        device_bytes: Memory of the device; None on a CPU.
        host_bytes: Peak resident set of the process.
        validation: Measurements of the validation; None in a start without one.
    """

    rank: int
    host: str
    device: str
    first_step: int
    agreeing: int
    tensors: int
    step_s: tuple[float, ...]
    wait_s: tuple[float, ...]
    supply: float | None
    supply_s: float
    peak_bytes: int
    reserved_bytes: int | None
    device_bytes: int | None
    host_bytes: int
    validation: ValidationFigures | None

    def text(self) -> str:
        """Return the measurements as one line of JSON."""
        return json.dumps(asdict(self))


def rank_figures(text: str) -> RankFigures:
    """Parse the output of :meth:`RankFigures.text`."""
    given = json.loads(text)
    validation = given.pop("validation")
    known = None if validation is None else ValidationFigures(**validation)
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return RankFigures(**{**given, **lists}, validation=known)


def write_figures(directory: Path, ranks: Sequence[RankFigures], *, start: int) -> None:
    """Write the measurements of all ranks in the first or the second start to the phase's folder."""
    content = json.dumps([rank.text() for rank in ranks])
    storage.write_atomic(directory / f"rehearsal-{start}.json", content)


def read_figures(directory: Path, *, start: int) -> tuple[RankFigures, ...]:
    """Read the measurements of all ranks in a start."""
    path = directory / f"rehearsal-{start}.json"
    return tuple(map(rank_figures, json.loads(path.read_text())))
