"""Figures of a phase that nobody has rehearsed."""

from __future__ import annotations

from typing import Any

from pbrlib.rehearsal.estimate import PhaseLength
from pbrlib.rehearsal.figures import RankFigures, ValidationFigures
from pbrlib.rehearsal.measured import PhaseFigures, Spread

MB = 10**6


def figures(**changes: Any) -> PhaseFigures:
    """A step of half a second, validation in 8 s, checkpoints of 30 MB in 2 s, 20 s to start."""
    given: dict[str, Any] = {
        "ranks": (rank(),),
        "step": Spread(0.5, 0.45, 0.55),
        "first_step_s": 4.5,
        "input_s": 0.1,
        "peak_bytes": 900 * MB,
        "reserved_bytes": None,
        "device_bytes": None,
        "host_bytes": 1200 * MB,
        "validation_s": 8.0,
        "validated": (4, 40),
        "load_s": 3.0,
        "checkpoint_s": 2.0,
        "checkpoint_bytes": 30 * MB,
        "weights_bytes": 10 * MB,
        "log_bytes": 1 * MB,
        "start_s": 12.0,
        "end_s": 1.0,
        "restored_at": 3,
        "restored": True,
        "donor": None,
        "donor_tensors": (0, 120),
    }
    return PhaseFigures(**{**given, **changes})


def rank(**changes: Any) -> RankFigures:
    given: dict[str, Any] = {
        "rank": 0,
        "host": "here",
        "device": "cpu",
        "first_step": 0,
        "agreeing": 0,
        "tensors": 120,
        "step_s": (4.0, 0.4, 0.5),
        "wait_s": (9.0, 0.1, 0.0),
        "supply": 40.0,
        "supply_s": 3.0,
        "peak_bytes": 900 * MB,
        "reserved_bytes": None,
        "device_bytes": None,
        "host_bytes": 900 * MB,
        "validation": ValidationFigures(
            textures=2,
            pixels=2_000_000,
            stored_bytes=30 * MB,
            load_s=0.3,
            seconds=0.8,
            picture_s=0.5,
            all_textures=20,
            all_pixels=20_000_000,
        ),
    }
    return RankFigures(**{**given, **changes})


def length(name: str = "albedo/A1", *, steps: int = 1000, segment_steps: int = 400) -> PhaseLength:
    """A phase with three validations."""
    curriculum, phase = name.split("/")
    return PhaseLength(curriculum, phase, batch=10, steps=steps, segment_steps=segment_steps)
