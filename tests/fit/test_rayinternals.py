from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import ray

from ray_jobs import rayinternals
from ray_jobs.rayinternals import ATTRIBUTES, CHATTY_LOGGERS, REASONS, VERSION

ROOT = Path(__file__).parents[2] / "ray_jobs"


def private_imports(file: Path) -> Iterator[str]:
    """The private modules and names of Ray that a file imports; `ray.train.v2` is one that it may replace."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            first, *parts = name.split(".")
            if first == "ray" and ("v2" in parts or any(part.startswith("_") for part in parts)):
                yield name


def test_ray_is_the_version_in_which_every_private_part_was_read() -> None:
    assert ray.__version__ == VERSION, f"look at {REASONS.keys() | ATTRIBUTES.keys()}, then move VERSION"


def test_only_one_module_imports_private_parts_of_ray() -> None:
    found = {str(file.relative_to(ROOT)): list(private_imports(file)) for file in ROOT.rglob("*.py")}
    assert [name for name, imports in found.items() if imports] == ["rayinternals.py"]


def test_every_private_part_has_a_reason_and_a_user() -> None:
    states = {name for name in rayinternals.__all__ if name.endswith("State")}
    assert set(rayinternals.__all__) - states == set(REASONS)
    users = "".join(file.read_text() for file in ROOT.rglob("*.py") if file.name != "rayinternals.py")
    assert [name for name in (*rayinternals.__all__, "CHATTY_LOGGERS") if name not in users] == []


@pytest.mark.parametrize("owner", ATTRIBUTES)
def test_private_attributes_are_there(owner: str) -> None:
    module, _, name = owner.partition(":")
    found = getattr(import_module(module), name)
    declared = {*dir(found), *getattr(found, "__dataclass_fields__", {}), *_assigned(found)}
    assert [attribute for attribute in ATTRIBUTES[owner] if attribute not in declared] == []


def _assigned(found: type) -> set[str]:
    """The attributes that a class assigns to itself in its methods; of a compiled class none."""
    if not inspect.isfunction(found.__init__):
        return set()
    tree = ast.parse(inspect.getsource(found))
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_self(node.value)}


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def test_loggers_are_called_as_modules_that_are_there() -> None:
    assert [name for name in CHATTY_LOGGERS if find_spec(name) is None] == []


def test_torchs_backend_has_the_end_that_is_overridden() -> None:
    assert callable(rayinternals.torch_backend().on_shutdown)
