"""Commands that need no tensor import no torch, no Ray and nothing else that takes a second."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ray_jobs.cli import SUBCOMMANDS

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import command_cpu

HEAVY = ("torch", "ray", "transformers", "kornia", "segmentation_models_pytorch", "lpips", "plotly", "mlflow")
ARROW = "pyarrow"
READS_SHARDS = ("prepare", "shards", "augment-preview")
"""The first answer of these comes from a shard set, or from the files of a source, which take Arrow."""

PROGRAM = """
import json, sys
from click.testing import CliRunner
from ray_jobs.cli import main

heavy, commands = json.load(sys.stdin)
found = []
for command in commands:
    result = CliRunner().invoke(main, command.split(), prog_name="pbr")
    unexpected = result.exception is not None and not isinstance(result.exception, SystemExit)
    loaded = [name for name in heavy if name in sys.modules]
    found.append([command, result.exit_code, repr(result.exception) if unexpected else "", loaded])
    if loaded:
        break  # it stays in sys.modules, so nothing can be said of those that follow
print(json.dumps(found))
"""


def answers(
    heavy: tuple[str, ...], commands: list[str], *, folder: Path
) -> list[tuple[str, int, str, list[str]]]:
    """The commands, one after the other in one process: exit code, unexpected error, what is loaded then."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([heavy, commands]),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]


def test_every_command_is_among_those_that_are_measured() -> None:
    assert {command.split()[0] for command in command_cpu.ANSWERS} >= set(SUBCOMMANDS)


@pytest.mark.parametrize("reads_shards", [False, True])
def test_no_command_imports_what_its_answer_does_not_need(tmp_path: Path, reads_shards: bool) -> None:
    command_cpu.write_files(tmp_path)
    own = [one for one in command_cpu.ANSWERS if one.startswith(READS_SHARDS) == reads_shards]
    heavy = HEAVY if reads_shards else (*HEAVY, ARROW)
    found = answers(heavy, own, folder=tmp_path)
    assert [(one, loaded) for one, _, _, loaded in found if loaded] == []
    assert [(one, error) for one, _, error, _ in found if error] == []
    fails = {
        one for one, code, _, _ in found if code != 0 and one != "doctor"
    }  # which answers by the machine
    missing = ("none", "misspelled", "trian")
    assert fails == {one for one in own if any(word in re.split(r"[ /.]", one) for word in missing)}
