"""Tests of the source tree: layers, size of folders and modules, unique names of modules."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_FILES, MOST_LINES = 18, 300


def modules(*folders: str) -> list[Path]:
    """Return the modules below some folders, without ``__init__.py``."""
    return [file for folder in folders for file in (ROOT / folder).rglob("*.py") if file.stem != "__init__"]


def layers() -> list[list[str]]:
    """Return the folders of each layer of the import-linter contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (named,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[f"pbrlib/{name.strip()}" for name in layer.split("|")] for layer in named] + [["ray_jobs"]]


def test_every_package_belongs_to_a_layer() -> None:
    packages = {
        f"pbrlib/{path.name}" for path in (ROOT / "pbrlib").iterdir() if (path / "__init__.py").exists()
    }
    assert packages <= {folder for layer in layers() for folder in layer}


@pytest.mark.parametrize("layer", layers(), ids=", ".join)
def test_modules_of_a_layer_have_different_names(layer: list[str]) -> None:
    names = Counter(file.stem for file in modules(*layer))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_folder_has_too_many_modules() -> None:
    counts = Counter(str(file.parent.relative_to(ROOT)) for file in modules("pbrlib", "ray_jobs"))
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_no_module_is_too_long() -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text().splitlines())
        for file in modules("pbrlib", "ray_jobs")
    }
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}
