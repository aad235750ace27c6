"""How a run ends when it is asked to: after the next checkpoint of what it trains, if that comes in time.

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
"""Ray's variable: how long it waits for the command of a stopped job. `pbr submit` sets it for its jobs."""

_RAYS_WAIT_S = 3.0
_ENDING_S = 10.0
"""What it takes to leave Ray once the checkpoint is there; taken off the wait."""


_asked = threading.Event()
_training: set[Path] = set()
_lock = threading.Lock()


@contextmanager
def advising(advice: Callable[[], str]) -> Iterator[None]:
    """Adds advice to an interrupt of the block, Ctrl-C or SIGTERM, which has none yet.

    ``advice`` is asked when the interrupt comes. The ``pbr`` command prints it: ``pbr: interrupted; ADVICE``.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if interrupt.args:
            raise
        raise KeyboardInterrupt(advice()) from interrupt


@contextmanager
def answering_sigterm() -> Iterator[None]:
    """Turns SIGTERM into an interrupt of the block: at once, or once every phase in it has a checkpoint more.

    A second SIGTERM interrupts at once. Outside the main thread, where no handler can be set, does nothing.
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
    if _asked.is_set() or not _training or not _patience_s():
        raise KeyboardInterrupt
    _asked.set()
    click.echo(f"pbr: asked to stop; ends with the next checkpoint, or in {_patience_s():.0f} s.", err=True)


@contextmanager
def stopping_after_checkpoint(directory: Path) -> Iterator[None]:
    """Trains a phase in the block; ``directory`` is the phase's folder.

    Raises KeyboardInterrupt when the run was asked to stop before the block begins.
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
    """Waits for the wish to stop, then for a checkpoint; the last phase that has one interrupts the run."""
    while not _asked.wait(timeout=0.5):
        if ended.is_set():
            return
    before, limit = _newest_step(directory), time.monotonic() + _patience_s()
    while _newest_step(directory) <= before and time.monotonic() < limit:
        if ended.wait(timeout=0.2):
            return
    with _lock:
        _training.discard(directory)
        if _training:
            return
    os.kill(os.getpid(), signal.SIGTERM)


def _patience_s() -> float:
    return max(float(os.environ.get(WAIT, _RAYS_WAIT_S)) - _ENDING_S, 0.0)


def _newest_step(directory: Path) -> int:
    try:
        return newest_step(directory)
    except (OSError, DataError):
        return 0
