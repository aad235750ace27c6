from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from pbrlib.train.checkpoint.state import STATE
from ray_jobs.cluster.stopping import WAIT, handle_sigterm, stopping_after_checkpoint

pytestmark = pytest.mark.timeout(60)


def commit(directory: Path, name: str) -> None:
    (directory / name).mkdir(parents=True)
    (directory / name / STATE).touch()


def ask() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def after(seconds: float, action: object, *arguments: object) -> None:
    threading.Timer(seconds, action, arguments).start()  # type: ignore[arg-type]


def test_a_run_that_is_asked_to_stop_continues_until_its_next_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAIT, "40")
    commit(tmp_path, "checkpoint_00000001")
    after(0.2, ask)
    after(2.0, commit, tmp_path, "checkpoint_00000002")
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), handle_sigterm(), stopping_after_checkpoint(tmp_path):
        time.sleep(30)
    assert 2.0 <= time.monotonic() - started < 15.0


def test_of_two_phases_side_by_side_both_get_their_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAIT, "40")
    first, second = tmp_path / "first", tmp_path / "second"
    over = threading.Event()

    def train(directory: Path) -> None:
        with stopping_after_checkpoint(directory):
            over.wait(timeout=30)

    with pytest.raises(KeyboardInterrupt), handle_sigterm():
        for directory in (first, second):
            threading.Thread(target=train, args=(directory,), daemon=True).start()
        after(0.5, ask)
        after(1.5, commit, first, "checkpoint_00000001")
        after(3.0, commit, second, "checkpoint_00000001")
        started = time.monotonic()
        try:
            time.sleep(30)
        finally:
            took = time.monotonic() - started
            over.set()
    assert 3.0 <= took < 15.0


def test_without_time_to_wait_it_ends_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WAIT, raising=False)  # Ray kills after three seconds
    after(0.2, ask)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), handle_sigterm(), stopping_after_checkpoint(tmp_path):
        time.sleep(30)
    assert time.monotonic() - started < 2.5


def test_a_second_wish_ends_it_at_once_and_no_phase_begins_after_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAIT, "400")
    with handle_sigterm():
        with pytest.raises(KeyboardInterrupt), stopping_after_checkpoint(tmp_path):
            ask()
            time.sleep(0.2)
            ask()
            time.sleep(30)
        with pytest.raises(KeyboardInterrupt), stopping_after_checkpoint(tmp_path):
            pass


def test_where_nothing_trains_it_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), handle_sigterm():
        ask()
        time.sleep(30)
    assert signal.getsignal(signal.SIGTERM) is before
