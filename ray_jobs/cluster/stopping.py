"""Stop a run on request: after the next checkpoint of each running phase, if these come in time.

``ray job stop`` sends SIGTERM to the command of a job, waits RAY_JOB_STOP_WAIT_TIME_S seconds (three unless
the job or the cluster says otherwise) and kills it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from pbrlib.errors import DataError
from pbrlib.train.checkpoint.state import newest_step

WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
"""Ray's variable for the seconds between SIGTERM and SIGKILL of a job; `pbr submit` sets it."""

_RAYS_WAIT_S = 3.0
_ENDING_S = 10.0
"""Seconds that a command needs to leave Ray after the checkpoint; subtracted from the wait."""


_asked = threading.Event()
_training: set[Path] = set()
_lock = threading.Lock()


@contextmanager
def interrupt_advice(advice: Callable[[], str]) -> Iterator[None]:
    """Add advice to an interrupt of the block, Ctrl-C or SIGTERM, that has none.

    ``advice`` is called at the interrupt. The ``pbr`` command prints it: ``pbr: interrupted; ADVICE``.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if interrupt.args:
            raise
        raise KeyboardInterrupt(advice()) from interrupt


@contextmanager
def handle_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an interrupt of the block, after each phase in it has written another checkpoint.

    It interrupts at once if no phase trains, if there is no time, or if it is the second SIGTERM. Outside of
    the main thread, where no handler can be set, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked.clear()
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    if _asked.is_set() or not _training or not _seconds_to_wait():
        raise KeyboardInterrupt
    _asked.set()
    click.echo(
        f"pbr: asked to stop; ends with the next checkpoint, or in {_seconds_to_wait():.0f} s.", err=True
    )


@contextmanager
def stopping_after_checkpoint(directory: Path) -> Iterator[None]:
    """Declare that the block trains the phase in a folder, so that SIGTERM waits for its checkpoint.

    Raises KeyboardInterrupt if SIGTERM came before the block.
    """
    if _asked.is_set():
        raise KeyboardInterrupt
    with _lock:
        _training.add(directory)
    ended = threading.Event()
    threading.Thread(target=_watch, args=(directory, ended), name="stopping", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        with _lock:
            _training.discard(directory)


def _watch(directory: Path, ended: threading.Event) -> None:
    """Wait for SIGTERM, then for a checkpoint; the last phase that has written one interrupts the run."""
    while not _asked.wait(timeout=0.5):
        if ended.is_set():
            return
    before, limit = _newest_step(directory), time.monotonic() + _seconds_to_wait()
    while _newest_step(directory) <= before and time.monotonic() < limit:
        if ended.wait(timeout=0.2):
            return
    with _lock:
        _training.discard(directory)
        if _training:
            return
    os.kill(os.getpid(), signal.SIGTERM)


def _seconds_to_wait() -> float:
    return max(float(os.environ.get(WAIT, _RAYS_WAIT_S)) - _ENDING_S, 0.0)


def _newest_step(directory: Path) -> int:
    try:
        return newest_step(directory)
    except (OSError, DataError):
        return 0
