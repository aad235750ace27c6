from __future__ import annotations

from dataclasses import replace

import pytest

from pbrlib.rehearsal.estimate import estimate, total_estimate
from pbrlib.rehearsal.figures import rank_figures
from pbrlib.rehearsal.measured import (
    extrapolated_validation,
    first_start,
    input_seconds,
    max_host_bytes,
    step_spread,
)
from tests.rehearsal.made import MB, figures, length, rank


def test_a_phase_is_its_steps_its_validations_its_checkpoints_and_its_start() -> None:
    found = estimate(length(), figures())
    assert found.steps_s == 500.0
    assert found.validation_s == 24.0, "after steps 400, 800 and 1000"
    assert found.checkpoint_s == 6.0
    # Processes, the validation textures, compiling, and the end.
    assert found.start_s == 12.0 + 3.0 + 4.0 + 1.0
    assert found.seconds == 550.0
    assert found.num_checkpoints == 2
    assert found.bytes == 2 * 30 * MB + 3 * MB + 500 * 1500
    assert not found.input_bound


def test_a_phase_of_one_validation_keeps_one_checkpoint() -> None:
    assert estimate(length(segment_steps=1000), figures()).num_checkpoints == 1


def test_where_the_streams_are_slower_than_the_step_their_pace_counts() -> None:
    found = estimate(length(), figures(input_s=0.8))
    assert found.steps_s == 800.0 and found.input_bound
    assert estimate(length(), figures(input_s=None)).steps_s == 500.0


def test_a_ladder_adds_up_by_the_clock_and_by_the_worker() -> None:
    one = estimate(length(), figures())
    hour = replace(one, steps_s=3600.0 - 50.0)
    phases = {"segformer": {"S0": hour, "S1": hour}, "albedo": {"A1": hour}, "height": {"P0": hour}}
    phases["ao"] = {"P0": hour, "P1": hour}
    waves = [["segformer"], ["albedo", "height", "ao"]]
    alone = total_estimate(waves, phases, workers=4, room=1)
    assert (alone.hours, alone.worker_hours) == (6.0, 24.0)
    # albedo and height begin, ao takes the place of albedo: 1 + 2 hours behind the 2 of segformer.
    assert total_estimate(waves, phases, workers=4, room=2).hours == 5.0
    assert total_estimate(waves, phases, workers=4, room=3).hours == 4.0
    assert total_estimate(waves, phases, workers=4, room=3).worker_hours == 24.0


def test_storage_is_what_stays_and_for_a_moment_what_is_being_written() -> None:
    small, large = (
        estimate(
            length(segment_steps=1000), figures(checkpoint_bytes=size * MB, log_bytes=0, step=figures().step)
        )
        for size in (30, 90)
    )
    small, large = (replace(one, log_bytes=5 * MB) for one in (small, large))
    phases = {"albedo": {"A1": small}, "height": {"P0": large}, "ao": {"P0": small}}
    found = total_estimate([["albedo"], ["height", "ao"]], phases, workers=1, room=2, model_bytes=7 * MB)
    assert found.bytes == (30 + 90 + 30 + 3 * 5 + 7) * MB
    # Two train at once: each has the checkpoint that it writes and its copy.
    assert found.most_bytes == found.bytes + 2 * (90 + 30) * MB


def test_what_failed_is_missing_and_reported() -> None:
    found = total_estimate([["albedo"]], {"albedo": {"A1": None, "A2": None}}, workers=2, room=1)
    assert found.missing == ("albedo/A1", "albedo/A2")
    assert (found.hours, found.bytes) == (0.0, 0)


def test_the_slowest_rank_determines_a_step_and_the_first_step_is_counted_separately() -> None:
    slow = rank(rank=1, step_s=(3.0, 0.6, 0.3), wait_s=(12.0, 0.0, 0.5))
    step, first = step_spread([rank(), slow])
    assert first == 4.0, "without the wait for the stream to begin"
    assert (step.least, step.median, step.most) == pytest.approx((0.6, 0.7, 0.8))


def test_the_input_of_a_step_is_what_the_slowest_stream_takes_for_its_part() -> None:
    # 5 draws at 40 a second, 5 at 10.
    assert input_seconds([rank(), rank(supply=10.0)], batch=10) == 0.5
    assert input_seconds([rank(), rank(supply=None)], batch=10) is None


def test_the_fullest_share_of_the_textures_counts() -> None:
    own = rank().validation
    assert own is not None
    other = rank(rank=1, validation=replace(own, textures=1, pixels=1_000_000, all_textures=19, seconds=1.0))
    seconds, load_s, counts = extrapolated_validation([rank(), other])
    assert (seconds, load_s, counts) == (10.0 + 0.5, 3.0, (3, 39))
    # 30 MB are in memory already, of 300 that its 20 textures take.
    assert max_host_bytes([rank()]) == (900 + 270) * MB


def test_start_and_checkpoint_are_those_of_the_first_start() -> None:
    lines = [
        {"kind": "launched", "at": 100.0},
        {"kind": "begun", "at": 112.5, "step": 0},
        {"kind": "spent", "at": 123.0, "step": 1, "input": 0.1},
        {"kind": "spent", "at": 130.0, "step": 3, "validation": 4.0, "checkpoint": 1.5},
        {"kind": "begun", "at": 150.0, "step": 3},
        {"kind": "ended", "at": 160.0},
    ]
    assert first_start(lines) == (12.5, 1.5, 130.0)


def test_figures_of_a_rank_travel_as_text() -> None:
    assert rank_figures(rank().text()) == rank()
    assert rank_figures(rank(validation=None, supply=None).text()) == rank(validation=None, supply=None)
