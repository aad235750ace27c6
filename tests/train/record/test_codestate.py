"""Tests of the recorded code state: commit and diff of the package's folder, without secrets."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from pbrlib.train.record import codestate
from pbrlib.train.record.codestate import COMMAND, DIFF, note_code, note_command


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a package in its own repository."""
    folder = tmp_path / "checkout" / "pbrlib"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("A = 1\n")
    git(folder.parent, "init", "-q")
    git(folder.parent, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_the_commit_is_that_of_the_package_and_not_of_the_current_folder(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, marker = git(package, "rev-parse", "HEAD").strip(), tmp_path / "started"
    (tmp_path / "git").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    assert note_code(tmp_path, package=package) == {"commit": commit, "changed": False}
    assert not marker.exists(), "nothing of the current folder is started"
    assert not (tmp_path / DIFF).exists()


def test_a_diff_is_stored_bounded_with_the_hash_of_the_complete_diff_and_without_secrets(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codestate, "MAX_DIFF_BYTES", 400)
    url = "https://me:hunter2@host/x"
    (package / "__init__.py").write_text(f"URL = '{url}'\nAPI_KEY = 'hunter3'\n" + "A = 1\n" * 1000)
    known = note_code(tmp_path, package=package)
    kept = (tmp_path / DIFF).read_text()
    whole = git(package, "diff", "HEAD", "--", "*.py").encode()
    assert known["changed"] is True
    assert known["diff_sha256"] == hashlib.sha256(whole).hexdigest()
    assert "URL = 'https://***@host/x'" in kept and "hunter" not in kept
    assert len(kept) <= 400


def test_an_installed_package_or_a_machine_without_git_has_no_code_state(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = package.parent / "venv" / "site-packages" / "pbrlib"
    inside.mkdir(parents=True)
    (inside / "__init__.py").touch()
    assert note_code(tmp_path, package=inside) == {}, "the repository around it is that of something else"
    outside = tmp_path / "plain"
    outside.mkdir()
    assert note_code(tmp_path, package=outside) == {}
    monkeypatch.setenv("PATH", str(outside))
    assert note_code(tmp_path, package=package) == {}


def test_a_command_is_stored_without_credentials_and_not_for_workers(tmp_path: Path) -> None:
    note_command(tmp_path, ["/x/default_worker.py", "--redis-password=hunter2"])
    assert not (tmp_path / COMMAND).exists()
    given = ["--set", "a.api_key=hunter2", "--token", "hunter3", "s3://me:hunter4@bucket/x"]
    note_command(tmp_path, ["/usr/bin/pbr", "train", "a.yaml", *given])
    shown = json.loads((tmp_path / COMMAND).read_text())["command"]
    assert shown == [
        "pbr",
        "train",
        "a.yaml",
        "--set",
        "a.api_key=***",
        "--token",
        "***",
        "s3://***@bucket/x",
    ]
