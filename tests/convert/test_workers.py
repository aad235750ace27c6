import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pbrlib.convert import workers as module
from pbrlib.convert.workers import Workers
from pbrlib.errors import DataError
from pbrlib.textures.decode import read_picture
from tests.convert.readers import crashing_reader, exiting_reader, never_ready, stopping_in_its_answer
from tests.convert.textures import picture, save_png


def test_a_call_runs_in_another_process() -> None:
    with Workers(1) as workers:
        assert workers.submit("here", os.getpid).result() != os.getpid()


def test_a_child_serves_many_calls() -> None:
    with Workers(1) as workers:
        assert len({workers.submit("here", os.getpid).result() for _ in range(3)}) == 1


def test_a_crash_fails_only_its_own_call(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "crash.png", "c.png", "d.png"]
    for name in names:
        save_png(tmp_path / name, picture())
    with Workers(2) as workers:
        calls = [workers.submit(name, crashing_reader, tmp_path / name) for name in names]
        failures = {name: call.exception() for name, call in zip(names, calls, strict=True)}
    assert [name for name, error in failures.items() if error] == ["crash.png"]
    assert isinstance(failures["crash.png"], DataError)
    assert "crash.png: the codec ended its process by SIGABRT" in str(failures["crash.png"])


def test_a_child_that_exits_is_a_data_error(tmp_path: Path) -> None:
    with (
        Workers(1) as workers,
        pytest.raises(DataError, match=r"x\.dds: the codec ended its process with code 3"),
    ):
        workers.submit("x.dds", exiting_reader, tmp_path).result()


def test_a_hanging_call_is_ended_and_the_next_one_works(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", picture())
    start = time.perf_counter()
    with Workers(1, timeout_s=6.0) as workers:
        hanging = workers.submit("hang.png", crashing_reader, tmp_path / "hang.png")
        good = workers.submit("a.png", crashing_reader, tmp_path / "a.png")
        assert "did not answer within 6 s" in str(hanging.exception())
        assert good.result().pixels.shape == (16, 16, 4)
    assert time.perf_counter() - start < 60


@pytest.mark.parametrize("serve", [never_ready, stopping_in_its_answer])
def test_blocked_sends_and_incomplete_answers_have_the_same_timeout(
    serve: Callable[[Connection], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_serve", serve)
    more_than_a_pipe_holds = bytes(10_000_000)
    with Workers(1, timeout_s=3.0) as workers:
        error = workers.submit("big.dds", len, more_than_a_pipe_holds).exception(timeout=60)
    assert isinstance(error, DataError)
    assert "big.dds: the codec did not answer within 3 s" in str(error)


def test_a_child_that_survives_sigkill_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._Child, "kill", lambda child: None)
    with Workers(1, timeout_s=2.0) as workers:
        hanging = workers.submit("hang.png", crashing_reader, tmp_path / "hang.png")
        assert "did not answer within 2 s" in str(hanging.exception(timeout=60))


class Crossing(threading.Timer):
    """A timer that expires just after the answer."""

    def cancel(self) -> None:
        self.function()
        super().cancel()


def test_a_kill_after_the_answer_fails_only_this_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Workers(1) as workers:
        with monkeypatch.context() as patch:
            patch.setattr(threading, "Timer", Crossing)
            assert "did not answer" in str(workers.submit("here", os.getpid).exception())
        assert workers.submit("there", os.getpid).result() != os.getpid()


def test_errors_of_the_function_are_raised_unchanged(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with Workers(1) as workers, pytest.raises(DataError, match="ends inside its header"):
        workers.submit("cut", read_picture, tmp_path / "cut.png").result()


def test_leaving_by_an_error_does_not_wait_for_a_hanging_child(tmp_path: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(RuntimeError, match="stop"), Workers(1, timeout_s=200.0) as workers:
        call = workers.submit("hang", crashing_reader, tmp_path / "hang.png")
        while not call.running():
            time.sleep(0.01)
        raise RuntimeError("stop")
    assert isinstance(call.exception(timeout=60), DataError)
    assert time.perf_counter() - start < 60


def test_the_pipe_of_a_killed_child_is_closed_by_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Connection] = []
    close = Connection.close

    def slowly(pipe: Connection) -> None:
        if pipe in pipes:
            closed.append(pipe)
            time.sleep(0.2)  # long enough for a second thread to come here
        close(pipe)

    with pytest.raises(RuntimeError, match="stop"), Workers(2, timeout_s=200.0) as workers:
        calls = [workers.submit("hang", crashing_reader, tmp_path / "hang.png") for _ in range(2)]
        while not all(call.running() for call in calls) or len(workers._children) < 2:
            time.sleep(0.01)
        pipes = [child._pipe for child in workers._children]
        monkeypatch.setattr(Connection, "close", slowly)
        raise RuntimeError("stop")
    assert sorted(map(id, closed)) == sorted(map(id, pipes))


def test_a_truncated_png_is_a_data_error_that_names_it(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", picture(64, 64))
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"a\.png: got a PNG picture that does not decode"):
        read_picture(tmp_path / "a.png")
