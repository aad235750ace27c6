"""The tree shows the layers: small folders, small files, and one name for one thing in a layer."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_FILES, MOST_LINES = 18, 300


def modules(*folders: str) -> list[Path]:
    """The modules below some folders of the product, without those that make a folder a package."""
    return [file for folder in folders for file in (ROOT / folder).rglob("*.py") if file.stem != "__init__"]


def layers() -> list[list[str]]:
    """The folders of each layer, as the contract of import-linter names them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (named,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[f"pbrlib/{name.strip()}" for name in layer.split("|")] for layer in named] + [["ray_jobs"]]


def test_every_package_belongs_to_a_layer() -> None:
    packages = {
        f"pbrlib/{path.name}" for path in (ROOT / "pbrlib").iterdir() if (path / "__init__.py").exists()
    }
    assert packages <= {folder for layer in layers() for folder in layer}


@pytest.mark.parametrize("layer", layers(), ids=", ".join)
def test_no_two_modules_of_a_layer_have_one_name(layer: list[str]) -> None:
    names = Counter(file.stem for file in modules(*layer))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_folder_holds_more_modules_than_one_can_take_in() -> None:
    counts = Counter(str(file.parent.relative_to(ROOT)) for file in modules("pbrlib", "ray_jobs"))
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_no_module_is_longer_than_one_can_take_in() -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text().splitlines())
        for file in modules("pbrlib", "ray_jobs")
    }
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}
