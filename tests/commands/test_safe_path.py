from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from pbrlib.errors import ConfigError
from ray_jobs import cli
from ray_jobs.cluster.jobconfig import SafeJobConfig, refuse_shadows
from ray_jobs.safepath import CODE, leave_current_folder

SHADOWS = (
    "yaml",
    "socket",
    "pickle",
    "selectors",
    "numpy",
    "types",
    "random",
    "queue",
    "secrets",
    "torch",
    "click",
    "ray",
    "only_here",
)


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A downloaded folder with Python files, and a terminal that stands in it."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the folder was run')\n")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "only_below.py").write_text("raise SystemExit('run')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), str(tmp_path / "lib"), *sys.path])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "lib", ".", CODE]))
    return tmp_path


@pytest.mark.parametrize("name", cli.SUBCOMMANDS)
def test_no_command_imports_from_the_folder_it_stands_in(
    name: str, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[object] = []

    def load(module: str) -> object:
        attribute = cli.SUBCOMMANDS[name][0].partition(":")[2]
        return SimpleNamespace(**{attribute: click.Command(name, callback=run)})

    def run() -> None:
        found.extend([find_spec("only_here"), find_spec("only_below")])

    assert find_spec("only_here") is not None and find_spec("only_below") is not None
    monkeypatch.setattr(cli, "import_module", load)
    assert CliRunner().invoke(cli.main, [name]).exit_code == 0
    assert found == [None, None]
    assert os.environ["PYTHONPATH"] == CODE, "the children of the command import from there"
    assert os.environ["PYTHONSAFEPATH"] == "1"


CHILD = """
from ray_jobs.safepath import leave_current_folder
leave_current_folder()
from pbrlib.convert.workers import Workers
with Workers(1) as workers:
    print(workers.submit("a.dds", abs, -3).result())
"""


def test_neither_a_process_nor_its_children_import_from_the_folder(pack: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        cwd=pack,
        env={**os.environ, "PYTHONPATH": CODE},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr


def test_a_checkout_is_importable_from_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CODE)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    leave_current_folder()
    assert sys.path[0] == ""


def test_a_current_folder_that_is_gone_is_none_to_import_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    leave_current_folder()


def test_rays_workers_import_from_the_checkout_and_from_no_other_folder(pack: Path) -> None:
    config = SafeJobConfig()
    # What `ray.init` does: the folder of the script, then the current one.
    config._py_driver_sys_path.extend([str(pack), CODE, str(pack / "lib")])
    assert list(config._get_proto_job_config().py_driver_sys_path) == [CODE]
    assert str(pack).encode() not in config._serialize()


def test_a_job_whose_upload_has_files_in_place_of_libraries_is_refused(
    pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_shadows()  # no job: nobody imports from here
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"runtime_env": {"working_dir": "gcs://pack.zip"}}')
    with pytest.raises(ConfigError, match=r"numpy\.py.*in place of") as seen:
        refuse_shadows()
    assert "only_here" not in str(seen.value)
