"""Problems of the machine are sentences, not tracebacks."""

from __future__ import annotations

import errno
import os
import sys
from collections import namedtuple
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pbrlib.errors import ConfigError, OutageError
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs import cli
from ray_jobs.cluster import machine
from ray_jobs.cluster.machine import check_environment, check_machine, check_temporary_folder, count_gpus
from ray_jobs.cluster.machineerrors import describe_machine_error
from ray_jobs.cluster.session import has_token_at_home, ray_session

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove Ray from this process, and clusters from its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    environment["TMPDIR"] = "/tmp"


def test_a_temporary_folder_too_long_for_sockets_is_named_with_its_length(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.environ["TMPDIR"] = f"/tmp/{'x' * 60}"
    with pytest.raises(
        ConfigError, match=r"TMPDIR: got /tmp/x+, 65 bytes; expected at most \d\d, .*RAY_TMPDIR"
    ):
        check_temporary_folder()
    os.environ["RAY_TMPDIR"] = "/tmp"
    check_temporary_folder()


def test_rays_longest_socket_fits_where_the_check_lets_it_pass() -> None:
    session = "session_2027-01-02_03-04-05_678901_4194304"  # pids have seven digits at most
    longest = max(f"/ray/{session}/sockets/{name}" for name in ("plasma_store", "raylet"))
    most = machine._MAX_SOCKET_PATH_BYTES - machine._SOCKET_PATH_BYTES
    assert most + len(longest) <= 107 < most + 1 + len(f"/ray/{session}/sockets/plasma_store")


def test_a_temporary_folder_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.environ["RAY_TMPDIR"] = "/proc/version"
    with pytest.raises(
        ConfigError, match=r"RAY_TMPDIR: got /proc/version, where Ray cannot make its session"
    ):
        check_temporary_folder()


def test_a_small_shared_memory_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(2**26, 0, 2**26))
    check_temporary_folder()
    assert "/dev/shm has 64 MiB free; expected 256" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "false", "no"])
def test_ray_train_s_first_version_is_refused(value: str) -> None:
    os.environ["RAY_TRAIN_V2_ENABLED"] = value
    with pytest.raises(ConfigError, match=r"RAY_TRAIN_V2_ENABLED: got .*; expected 1"):
        check_environment()


@pytest.mark.parametrize("name", ["train", "tune", "rehearse"])
def test_commands_that_train_refuse_it_before_they_import_ray_train(name: str) -> None:
    os.environ["RAY_TRAIN_V2_ENABLED"] = "0"
    more = ["--out", "sweep"] if name == "tune" else []
    done = CliRunner().invoke(cli.main, [name, "none.yaml", "--data", "none", "--runs", "none", *more])
    assert done.exit_code == 2 and done.stderr.startswith("pbr: RAY_TRAIN_V2_ENABLED: got 0"), done.output


@pytest.mark.parametrize(
    "error", [RuntimeError("Failed"), ValueError("shm"), OSError(98, "in use"), Exception("late")]
)
def test_a_ray_that_does_not_start_is_a_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise error

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(OutageError, match="Ray does not start on this machine"), ray_session():
        pass
    monkeypatch.setattr("ray_jobs.cluster.session._check_reachable", lambda address: None)
    joined = "cannot be joined|no Ray cluster answers"
    with pytest.raises((OutageError, ConfigError), match=joined), ray_session(address="10.0.0.1:6379"):
        pass


def test_a_slip_in_a_call_of_ray_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda: None)
    with pytest.raises(TypeError), ray_session():
        pass


def test_a_port_beyond_the_last_is_an_error() -> None:
    with pytest.raises(ConfigError, match="got port 70000"), ray_session(address="127.0.0.1:70000"):
        pass


def test_a_user_without_a_home_has_no_token_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    assert not has_token_at_home()


def test_cuda_without_a_gpu_is_reported_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "count_gpus", lambda: 0)
    with pytest.raises(ConfigError, match=r"device: got cuda with 2 workers; .* this machine has none"):
        check_machine(RuntimeSpec(device="cuda"), address=None)
    monkeypatch.setattr(machine, "count_gpus", lambda: 1)
    check_machine(RuntimeSpec(device="cuda"), address=None, processes=1)
    check_machine(RuntimeSpec(device="cuda", workers=2, min_workers=1), address=None)
    check_machine(RuntimeSpec(device="cuda", workers=64), address="10.0.0.1:6379")


@pytest.mark.parametrize("command", [("train",), ("train", "--local"), ("rehearse",), ("tune", "--out", "s")])
def test_commands_say_so_before_they_read_curricula_and_data(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "count_gpus", lambda: 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpu.yaml").write_text("workers: 1\ndevice: cuda\n")
    name, *more = command
    places = ["--data", "none", "--runs", "runs", "--runtime", "gpu.yaml"]
    done = CliRunner().invoke(cli.main, [name, "none.yaml", *places, *more])
    assert done.exit_code == 2 and done.stderr.startswith("pbr: device: got cuda with 1 worker;"), done.output


def test_gpus_are_counted_without_torch_where_the_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_GPU_DEVICES", ("none-of-these*",))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert count_gpus() == 0


def test_more_workers_than_cpus_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    check_machine(RuntimeSpec(workers=1), address=None)
    assert capsys.readouterr().err == ""
    check_machine(RuntimeSpec(workers=4096), address=None)
    assert "4096 workers share" in capsys.readouterr().err


ERRORS = [
    *(OSError(number, os.strerror(number), "/place") for number in (errno.ENOSPC, errno.EROFS, errno.EACCES)),
    *(
        OSError(number, os.strerror(number), "/place")
        for number in (errno.EMFILE, errno.ENOTDIR, errno.EISDIR)
    ),
]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A subcommand that raises what the list holds."""
    raised: list[BaseException] = []

    @click.command()
    def command() -> None:
        raise raised[0]

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: command)
    return raised


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: errno.errorcode[error.errno])
def test_an_error_of_the_machine_is_a_sentence_with_its_place(
    error: OSError, raising: list[BaseException]
) -> None:
    raising.append(error)
    done = CliRunner().invoke(cli.main, ["plan"])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"pbr: /place: {error.strerror}. ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file", "x"), RuntimeError("a bug"), KeyError("a")]
)
def test_what_may_be_a_bug_of_ours_keeps_its_traceback(
    error: Exception, raising: list[BaseException]
) -> None:
    raising.append(error)
    assert CliRunner().invoke(cli.main, ["plan"]).exception is error


def test_memory_that_runs_out_is_a_sentence() -> None:
    assert "out of memory" in (describe_machine_error(MemoryError()) or "")


def test_a_current_folder_that_is_gone_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "current folder is gone" in (describe_machine_error(FileNotFoundError(2, "No such file")) or "")
    done = CliRunner().invoke(cli.main, ["plan", "none.yaml"])
    assert done.exit_code == 2 and done.stderr.startswith("pbr: the current folder is gone"), done.output


def test_names_that_are_no_text_are_printed(raising: list[BaseException]) -> None:
    raising.append(ConfigError("a\udcff.dds: cut"))
    done = CliRunner().invoke(cli.main, ["plan"])
    assert done.exit_code == 2 and done.stderr == "pbr: a\\udcff.dds: cut\n"
