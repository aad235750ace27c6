"""``pbr doctor`` says what is there, what is not, and what to do; never the value of a credential."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from pbrlib.errors import ConfigError
from ray_jobs.cli import main
from ray_jobs.cluster import diagnosis

SECRET = "do-not-show-7f3a"


def states() -> dict[str, str]:
    found = CliRunner().invoke(main, ["doctor", "--json"])
    return {one["thing"]: one["state"] for one in json.loads(found.stdout)}


def test_every_finding_has_a_line_and_json_says_the_same() -> None:
    shown = CliRunner().invoke(main, ["doctor"])
    assert len(shown.stdout.splitlines()) == len(states())
    for thing in ("Python", "torch", "ray", "CUDA", "shared memory", "credentials: AWS (S3)"):
        assert thing in shown.stdout


def test_credentials_are_named_by_their_place_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variables, files in diagnosis.CREDENTIALS.values():
        for name in variables:
            monkeypatch.setenv(name, SECRET)
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(SECRET)
    for options in ((), ("--json",), ("-v",)):
        said = CliRunner().invoke(main, ["doctor", *options]).output
        assert SECRET not in said
        assert "AWS_ACCESS_KEY_ID" in said and "~/.aws/credentials" in said


@pytest.mark.parametrize(("free", "state", "code"), [(2**20, "warning", 1), (2**40, "good", 0)])
def test_a_full_disk_is_a_warning_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, free: int, state: str, code: int
) -> None:
    class Usage:
        pass

    Usage.free = free  # type: ignore[attr-defined]
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda folder: Usage)
    monkeypatch.setattr(diagnosis, "_compiler", lambda: diagnosis.Finding("compiler", "good", ""))
    monkeypatch.setattr(diagnosis, "_packages", lambda: iter(()))
    assert states()["current folder"] == state
    assert CliRunner().invoke(main, ["doctor"]).exit_code == code


def test_what_ray_would_be_refused_for_is_an_error_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ConfigError("RAY_TMPDIR: got a long one; expected a short one. Set it.")

    monkeypatch.setattr(diagnosis, "check_temporary_folder", refuse)
    found = CliRunner().invoke(main, ["doctor"])
    assert found.exit_code == 2
    assert "X Ray's folder" in found.stdout and "got a long one" in found.stdout


def test_a_package_that_is_missing_or_of_another_version_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(diagnosis, "CODE", str(tmp_path))
    (tmp_path / "constraints.txt").write_text(
        "click==0.1 ; python_version < '3'\nclick==0.2 \\\n  --hash=x\n"
    )
    assert diagnosis.pinned_versions(tmp_path / "constraints.txt") == {"click": ["0.1", "0.2"]}
    (packages,) = (one for one in diagnosis.examine() if one.thing == "packages")
    assert packages.state == "warning" and "for 0.1 or 0.2" in packages.sentence
    monkeypatch.setattr(diagnosis, "_required", lambda: ["click", "no-such-package"])
    (packages,) = (one for one in diagnosis.examine() if one.thing == "packages")
    assert packages.state == "error" and "no-such-package" in packages.sentence


def test_a_gpu_with_a_torch_for_cpus_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis.Path, "glob", lambda self, pattern: iter([Path("/dev/nvidia0")]))
    monkeypatch.setattr(diagnosis, "_cuda_of_torch", lambda: None)
    assert diagnosis._gpu().state == "error"
    monkeypatch.setattr(diagnosis, "_cuda_of_torch", lambda: "13.0")
    assert diagnosis._gpu().sentence == "1 GPU, torch is built with CUDA 13.0"


def test_a_port_in_use_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        monkeypatch.setattr(diagnosis, "DASHBOARD_PORT", held.getsockname()[1])
        (found,) = (one for one in diagnosis.examine() if one.thing == "port of the dashboard")
    assert "is taken" in found.sentence
