from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pbrlib import storage
from pbrlib.errors import ConfigError

HOLD = """
import sys, time
from pathlib import Path
from pbrlib import storage

with storage.sole_writer(Path(sys.argv[1]), option="--out"):
    print("holds it", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_and_a_killed_writer_releases_its_lock(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "sweep")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "holds it\n"
        owner = re.escape(f"process {first.pid} on {socket.gethostname()}")
        with (
            pytest.raises(ConfigError, match=f"{owner} is writing there"),
            storage.sole_writer(tmp_path / "sweep", option="--out"),
        ):
            pass
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    with storage.sole_writer(tmp_path / "sweep", option="--out"):
        assert f"process {os.getpid()} " in (tmp_path / "sweep" / "writer.lock").read_text()


def test_a_writer_that_ends_or_fails_releases_its_lock(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), storage.sole_writer(tmp_path, option="--out"):
        raise RuntimeError
    with (
        storage.sole_writer(tmp_path, option="--out"),
        storage.sole_writer(tmp_path / "another", option="--out"),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(
            ConfigError, match=r"got a file system without locks.*Give another --out: a folder on a local"
        ),
        storage.sole_writer(tmp_path, option="--out"),
    ):
        pass
