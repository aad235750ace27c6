"""The measurements of a rehearsed phase, on each rank and in both of its starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pbrlib import storage


@dataclass(frozen=True)
class ValidationFigures:
    """A validation over some textures of one rank, and how much the whole share of that rank is.

    Attributes:
        textures: Measured.
        pixels: Of these.
        stored_bytes: What they take in memory between validations.
        load_s: Reading them, once a start.
        seconds: Of one validation, after another one has warmed up the device.
        picture_s: Of drawing what rank 0 shows of them, however many there are.
        all_textures: Of the rank's whole share.
        all_pixels: Of the rank's whole share.
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
    """One start of a phase on one rank.

    Attributes:
        rank: Among the workers.
        host: Of the worker.
        device: Its name.
        first_step: The cursor with which it began.
        agreeing: Tensors equal to those of the donor, or of the checkpoint that it began from.
        tensors: Of the network, all.
        step_s: Seconds of each step, without the wait for its batch.
        wait_s: Seconds of each wait; the first one is for the stream to begin.
        supply: Samples a second that the stream of this rank delivers to who does nothing else; None
            where the plan was too short to tell.
        supply_s: What it took to find that out.
        peak_bytes: The most that was in use: of the device, or on a CPU of the process (its resident set).
        reserved_bytes: The most that torch held of the device; None on a CPU.
        device_bytes: What the device has; None on a CPU.
        host_bytes: The largest resident set of the process.
        validation: None in a start that did not validate.
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
        """As one line."""
        return json.dumps(asdict(self))


def rank_figures(text: str) -> RankFigures:
    """What :meth:`RankFigures.text` wrote."""
    given = json.loads(text)
    validation = given.pop("validation")
    known = None if validation is None else ValidationFigures(**validation)
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return RankFigures(**{**given, **lists}, validation=known)


def write_figures(directory: Path, ranks: Sequence[RankFigures], *, start: int) -> None:
    """Leaves what all ranks measured in the first or the second start in the phase's folder."""
    content = json.dumps([rank.text() for rank in ranks])
    storage.write_atomic(directory / f"rehearsal-{start}.json", content)


def read_figures(directory: Path, *, start: int) -> tuple[RankFigures, ...]:
    """What all ranks left of a start."""
    path = directory / f"rehearsal-{start}.json"
    return tuple(map(rank_figures, json.loads(path.read_text())))
