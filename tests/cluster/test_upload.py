"""The files that a job uploads from its folder."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from ray_jobs.submission import excludes

ROOT = Path(__file__).parents[2]
NEEDED = (
    "ray_jobs/commands/train.py",
    "ray_jobs/cli.py",
    "pbrlib/maps.py",
    "configs/rev7/ladder.yaml",
    "pyproject.toml",
)
UNWANTED = (
    "data/shards/manifest.json",
    "data/shards/v1-00000.parquet",
    "runs/segformer/run.json",
    "demo/runs/model/model.json",
    "shards/manifest.json",
    ".venv/lib/python3.11/site-packages/torch/__init__.py",
    ".venv-gpu/bin/python",
    "venv/bin/python",
    ".git/HEAD",
    ".env",
    ".mypy_cache/3.11/cache.json",
    "pbrlib/__pycache__/maps.cpython-311.pyc",
    "pbrlib.egg-info/PKG-INFO",
    "tests/conftest.py",
    "docs/demo.png",
    "configs/weights.safetensors",
    "elsewhere/tiles.parquet",
    "skyrim/textures.bsa",
    "key.pem",
)


def uploaded(folder: Path, tmp_path: Path, *, without: Sequence[str] = ()) -> set[str]:
    """The files of the package that Ray makes of a folder, for ``pbr submit`` and for ``ray job submit``."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    excluded = [*get_runtime_env_default_excludes(), *without]
    create_package(str(folder), package, include_gitignore=True, excludes=excluded)
    with zipfile.ZipFile(package) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


@pytest.mark.parametrize("ignores", [(".rayignore",), (".rayignore", ".gitignore")])
def test_data_runs_environments_and_weights_stay_here(tmp_path: Path, ignores: tuple[str, ...]) -> None:
    folder = tmp_path / "checkout"
    for name in NEEDED + UNWANTED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content")
    for name in ignores:
        shutil.copy(ROOT / name, folder)
    assert uploaded(folder, tmp_path) == {*NEEDED, *ignores}


def test_all_that_is_tracked_and_needed_is_uploaded(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "pbrlib", "ray_jobs", "configs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    found = uploaded(ROOT, tmp_path)
    assert tracked and tracked <= found
    assert not any(name.startswith(("tests/", "docs/", ".git/")) for name in found)
    assert sum((ROOT / name).stat().st_size for name in found) < 5 * 2**20


def test_a_folder_that_is_no_checkout_of_this_program_sends_no_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pack"
    code = (
        "numpy.py",
        "google/protobuf/__init__.py",
        "ray_jobs/__init__.py",
        "types.cpython-311.so",
        "a.pth",
    )
    for name in (*code, "configs/one.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content")
    assert uploaded(folder, tmp_path, without=excludes(folder)) == {"configs/one.yaml"}
    assert "are not uploaded" in capsys.readouterr().err


def test_a_checkout_sends_its_own_python_and_no_other(tmp_path: Path) -> None:
    found = uploaded(ROOT, tmp_path, without=excludes(ROOT))
    assert {name.partition("/")[0] for name in found if name.endswith(".py")} == {"pbrlib", "ray_jobs"}
    assert not any(name.endswith(".pyc") for name in found)
    assert {"ray_jobs/cli.py", "configs/rev7/ladder.yaml"} <= found
