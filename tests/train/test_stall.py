"""Tests of waits for input, which are reported and then end with an error; events block the streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from pbrlib.data.draws.batch import RawBatch
from pbrlib.errors import DataError
from pbrlib.train.stall import PatientStream, StalledError

BATCH = RawBatch(maps={}, present={}, seeds=torch.tensor([1]), ids=("a",), classes=torch.tensor([0]))


def patient(
    stream: Callable[[], Iterator[RawBatch]], told: list[tuple[int, float, str]], *, limit_s: float
) -> PatientStream:
    return PatientStream(
        stream,
        first_step=7,
        limit_s=limit_s,
        report=lambda *what: told.append(what),
        waits_for=lambda step: f"the shard of step {step}",
        report_after_s=0.1,
    )


def test_a_blocked_stream_is_reported_and_ends_with_an_error_that_names_the_cause() -> None:
    block, told = threading.Event(), list[tuple[int, float, str]]()

    def stream() -> Iterator[RawBatch]:
        yield BATCH
        block.wait(20)

    batches = patient(stream, told, limit_s=0.5)
    assert next(batches) is BATCH
    began = time.monotonic()
    with pytest.raises(StalledError, match=r"step 8 within 0\.5 s; it waits for the shard of step 8"):
        next(batches)
    assert time.monotonic() - began < 5
    block.set()
    assert batches.step == 8
    assert {(step, what) for step, _, what in told} == {(8, "the shard of step 8")}
    assert 2 <= len(told) <= 3, "after 0.1, 0.2 and 0.4 s, as far as the machine kept up"


def test_a_stream_that_never_opens_ends_with_the_same_error() -> None:
    block = threading.Event()

    def opened() -> Iterator[RawBatch]:
        block.wait(20)
        return iter([BATCH])

    batches = patient(opened, [], limit_s=0.2)
    with pytest.raises(StalledError, match="step 7 within"):
        next(batches)
    block.set()


def test_a_late_stream_is_reported_and_continues() -> None:
    told = list[tuple[int, float, str]]()

    def stream() -> Iterator[RawBatch]:
        time.sleep(0.25)
        yield BATCH

    batches = patient(stream, told, limit_s=30)
    assert [*batches] == [BATCH]
    assert told[0][0] == 7
    assert told[0][1] >= 0.1


def test_a_batch_is_delivered_while_the_report_of_its_delay_blocks() -> None:
    block, began = threading.Event(), time.monotonic()

    def stream() -> Iterator[RawBatch]:
        time.sleep(0.3)
        yield BATCH

    batches = PatientStream(
        stream,
        first_step=0,
        limit_s=30,
        report=lambda *what: block.wait(20),
        waits_for=str,
        report_after_s=0.1,
    )
    assert next(batches) is BATCH
    assert time.monotonic() - began < 10
    block.set()


def test_the_error_and_the_end_of_a_stream_are_raised_on_every_call() -> None:
    def stream() -> Iterator[RawBatch]:
        yield BATCH
        raise DataError("shard 3 is damaged")

    batches = patient(stream, [], limit_s=30)
    next(batches)
    for _ in range(2):
        with pytest.raises(DataError, match="shard 3"):
            next(batches)
    ended = patient(lambda: iter(()), [], limit_s=30)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(ended)


def test_an_unreferenced_stream_ends_its_thread() -> None:
    before = threading.active_count()
    batches = patient(lambda: iter([BATCH, BATCH]), [], limit_s=30)
    next(batches)
    del batches
    limit = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < limit:
        time.sleep(0.01)
    assert threading.active_count() == before
