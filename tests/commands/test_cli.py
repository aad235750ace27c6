from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from pbrlib.errors import DataError
from ray_jobs import cli

HEAVY = ("torch", "ray", "pydantic", "numpy", "transformers", "pyarrow", "yaml", "rich")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_help_lists_every_subcommand_without_importing_any() -> None:
    code = f"""
import json, sys
from click.testing import CliRunner
from ray_jobs.cli import main
result = CliRunner().invoke(main, ["--help"])
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps([result.exit_code, result.output, loaded]))
"""
    done = run_python(code)
    exit_code, output, loaded = json.loads(done.stdout)
    assert exit_code == 0
    assert loaded == []
    for name, (_, help_line) in cli.SUBCOMMANDS.items():
        assert name in output
        assert help_line in " ".join(output.split())


def test_module_runs_as_a_program_and_tells_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ray_jobs", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.startswith("pbr, version 0")


def test_unknown_subcommand_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli.main, ["trian"])
    assert result.exit_code == 2
    assert "No such command 'trian'" in result.output


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    """A subcommand that raises what the test asks for."""

    @click.command()
    @click.argument("what")
    def command(what: str) -> None:
        raise {"input": DataError("a.png: cut short. Replace it."), "stop": KeyboardInterrupt()}.get(
            what, RuntimeError("a bug")
        )

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: command)
    return DataError


@pytest.mark.usefixtures("failing")
def test_input_error_is_a_message_on_stderr_and_exit_code_2() -> None:
    result = CliRunner().invoke(cli.main, ["prepare", "input"])
    assert result.exit_code == 2
    assert result.stderr == "pbr: a.png: cut short. Replace it.\n"
    assert result.stdout == ""


@pytest.mark.usefixtures("failing")
def test_interrupt_ends_with_exit_code_130() -> None:
    result = CliRunner().invoke(cli.main, ["prepare", "stop"])
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


@pytest.mark.usefixtures("failing")
def test_our_own_bug_keeps_its_traceback() -> None:
    result = CliRunner().invoke(cli.main, ["prepare", "bug"])
    assert isinstance(result.exception, RuntimeError)
