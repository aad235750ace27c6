"""An output that cannot be written is said before anything is computed."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pbrlib import storage
from pbrlib.errors import ConfigError
from ray_jobs.cli import main
from ray_jobs.output import check_file
from tests.runs.trees import albedo_of, declare, finish, phase

RUN = ("--data", "none", "--runs")
COMMANDS = {
    "bake": ("bake", "generated:count=1,size=32,seed=1", "--out", "OUT"),
    "prepare": ("prepare", "generated:count=1,size=32,seed=1", "--out", "OUT"),
    "prepare --report": (
        "prepare",
        "generated:count=1,size=32,seed=1",
        "--out",
        "new",
        "--report",
        "OUT/r.json",
    ),
    "convert": ("convert", "none", "runs", "OUT"),
    "evaluate": ("evaluate", "none", "--data", "none", "--out", "OUT"),
    "score": ("score", ".", "--index", "none.json", "--materials", ".", "--out", "OUT/scores.json"),
    "report": ("report", "runs/albedo", "--out", "OUT/page.html"),
    "train": ("train", "none.yaml", *RUN, "OUT"),
    "train --local": ("train", "none.yaml", "--local", *RUN, "OUT"),
    "tune": ("tune", "none.yaml", *RUN, "new", "--out", "OUT"),
    "tune --runs": ("tune", "none.yaml", *RUN, "OUT", "--out", "new"),
    "rehearse --report": ("rehearse", "none.yaml", *RUN, "new", "--report", "OUT/r.json"),
    "shards": ("shards", "inspect", "none", "--contact-sheet", "OUT/sheet.png"),
    "augment-preview": ("augment-preview", "none", "--phase", "S0", "--out", "OUT/p.png"),
    "runs compare": ("runs", "compare", "none", "none", "--out", "OUT/c.png"),
}
"""Inputs that are not there, but for those that come first: the output is the first thing that is said."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = declare(tmp_path / "runs", albedo_of("A1"))
    folder = phase(run, "A1", fingerprint="0" * 64, errors={2: 0.5}, age_s=10)
    finish(run, folder, fingerprint="0" * 64, order=("A1",))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(name: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(COMMANDS[name]))
    return done.exit_code, " ".join(done.stderr.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_an_output_below_a_file_is_reported_first(name: str, here: Path) -> None:
    (here / "file").write_text("mine")
    (here / "OUT").symlink_to("file")
    code, said = asked(name)
    assert code == 2
    assert "OUT, which leads to a file; expected a folder" in said or "OUT' is a file" in said
    assert (here / "file").read_text() == "mine"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_reported_first(
    name: str, number: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tempfile.TemporaryFile

    def refuse(**given: object) -> object:
        if Path(str(given["dir"])).name == "OUT":
            raise OSError(number, os.strerror(number), "OUT")
        return make(**given)  # type: ignore[call-overload]

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    code, said = asked(name)
    assert code == 2 and f"OUT, where nothing can be written ({os.strerror(number)})" in said
    assert not (here / "OUT").exists() and not (here / "new").exists(), "it leaves nothing behind"


def test_trying_leaves_what_is_there_alone(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    storage.check_writable(tmp_path / "there" / "a" / "b", option="--out")
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "file"]


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--report: got .*, which is a folder; expected a file"):
        check_file(tmp_path, option="--report")
    check_file(Path("/dev/stdout"), option="--report")


def test_a_report_beside_its_run_replaces_a_link_and_does_not_follow_it(here: Path) -> None:
    (here / "precious").write_text("mine")
    (here / "runs" / "albedo" / "report.html").symlink_to(here / "precious")
    done = CliRunner().invoke(main, ["report", "runs/albedo"])
    assert done.exit_code == 0, done.output
    assert (here / "precious").read_text() == "mine"
    assert (here / "runs" / "albedo" / "report.html").read_text().startswith("<!doctype html>")


def test_inputs_that_are_missing_are_reported_before_networks_open(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*given: object, **named: object) -> Callable[..., object]:
        raise AssertionError("a network was opened")

    monkeypatch.setattr("pbrlib.inference.chain.Chain.open", opened)
    done = CliRunner().invoke(main, ["convert", "runs", "none", "out"])
    assert done.exit_code == 2 and "none: no such folder" in done.stderr
    done = CliRunner().invoke(main, ["evaluate", "runs", "--data", "none", "--lpips", "none.pth"])
    assert done.exit_code == 2 and "--lpips: got none.pth, where no file is" in done.stderr


def test_the_free_space_of_a_folder_that_is_not_there_is_that_of_its_disk(tmp_path: Path) -> None:
    free = storage.free_bytes(tmp_path / "a" / "b")
    assert free is not None and free > 0
