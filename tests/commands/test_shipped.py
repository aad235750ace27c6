"""Every YAML file that ships is loaded here; what declares training is planned with every runtime file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from pbrlib.curriculum.config.load import is_ladder, load_runtime
from pbrlib.curriculum.config.yamlfile import read_yaml
from ray_jobs.cli import main

RUNTIMES = sorted(Path("configs/runtime").glob("*.yaml"))
SEARCHES = sorted(Path("configs/search").rglob("*.yaml"))
"""tests/sweep/test_search.py loads them, and asks that they can be run."""
TRAINED = sorted(path for name in ("real", "rev7", "smoke") for path in Path("configs", name).rglob("*.yaml"))
FRAGMENTS = {
    Path("configs/rev7/category.yaml"): ("configs/rev7/segformer.yaml", "phases.S1.augment.category")
}
"""Parts of curricula: a curriculum that takes each, and the address of the part."""
OPERATORS = [Path("cluster.yaml"), *sorted(Path("configs/kuberay").glob("*.yaml"))]
"""What Ray and Kubernetes read; tests/cluster checks their content."""
TOOLS = [Path(".pre-commit-config.yaml")]

CURRICULA = [path for path in TRAINED if path not in FRAGMENTS]


def least_batch(file: Path) -> int:
    content = read_yaml(file)
    if not is_ladder(content):
        return min(phase["batch"] for phase in content["phases"].values())
    names = [file.parent / name for wave in content["waves"] for name in wave.values()]
    return min(map(least_batch, names))


def test_every_yaml_file_that_ships_is_loaded_by_a_test() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.yaml", "*.yml"], capture_output=True, text=True, check=True
    )
    shipped = {Path(line) for line in listed.stdout.splitlines() if not line.startswith("tests/")}
    loaded = {*RUNTIMES, *SEARCHES, *CURRICULA, *FRAGMENTS, *OPERATORS, *TOOLS}
    assert shipped - loaded == set(), "load these in tests/commands/test_shipped.py"
    assert loaded - shipped == set()


@pytest.mark.parametrize("file", CURRICULA, ids=str)
def test_every_curriculum_is_planned_without_and_with_every_runtime_file(file: Path) -> None:
    """A batch that cannot be shared by the workers is refused, and nothing else."""
    for runtime in (None, *RUNTIMES):
        options = [] if runtime is None else ["--runtime", str(runtime)]
        found = CliRunner().invoke(main, ["plan", str(file), *options])
        if runtime is not None and least_batch(file) < load_runtime(runtime).workers:
            assert found.exit_code == 2, found.output
            assert "expected at least one sample per worker" in found.stderr
            continue
        assert found.exit_code == 0, found.output
        assert max(map(len, found.stdout.splitlines())) <= 110


@pytest.mark.parametrize("file", FRAGMENTS, ids=str)
def test_every_part_of_a_curriculum_is_taken_at_its_address(file: Path) -> None:
    curriculum, address = FRAGMENTS[file]
    found = CliRunner().invoke(main, ["plan", curriculum, "--set", f"{address}=@{file}", "--json"])
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize("file", [*OPERATORS, *TOOLS], ids=str)
def test_every_other_file_is_yaml(file: Path) -> None:
    assert all(isinstance(document, dict) for document in yaml.safe_load_all(file.read_text()))
