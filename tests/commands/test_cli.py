from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

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


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["trian"], "'train'"),
        (["runs", "lst"], "'list'"),
        (["tune", "aply"], "'apply'"),
        (["shards", "inspct"], "'inspect'"),
        (["train", "--dta", "x"], "'--data'"),
        (["plan", "x.yaml", "--jsn"], "'--json'"),
    ],
)
def test_a_misspelled_command_or_option_is_answered_with_the_nearest(words: list[str], meant: str) -> None:
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == 2
    assert "Did you mean" in result.stderr and meant in result.stderr


def every_command(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            yield from every_command(inner, *words, name)


def test_every_command_says_in_its_help_what_q_and_v_do() -> None:
    for words in every_command(cli.main):
        if words == ("tune",):
            continue  # its options before a file are those of the sweep
        said = " ".join(CliRunner().invoke(cli.main, [*words, "--help"]).stdout.split())
        assert "-q, --quiet Print results and errors only" in said, words
        assert "-v, --verbose Print more" in said, words


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    ("option", "shown"), [(None, {"warned"}), ("-q", set()), ("-v", {"warned", "noted", "Traceback"})]
)
def test_q_leaves_results_and_errors_and_v_adds_the_log_and_where_an_error_came_from(
    place: str, option: str | None, shown: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def command() -> None:
        log = logging.getLogger("pbrlib.some")
        log.warning("warned")
        log.info("noted")
        click.echo("the result")
        raise DataError("the error")

    monkeypatch.setitem(cli.SUBCOMMANDS, "loud", ("x:command", "Be loud."))
    monkeypatch.setattr(cli, "import_module", lambda name: SimpleNamespace(command=command))
    given = [option] if option else []
    words = [*given, "loud"] if place == "before" else ["loud", *given]
    # A program has no handler of its own, and Python's last resort writes warnings; pytest has one.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    result = CliRunner().invoke(cli.main, words)
    assert result.stdout == "the result\n"
    assert "pbr: the error" in result.stderr
    assert {word for word in ("warned", "noted", "Traceback") if word in result.stderr} >= shown - {"warned"}
    assert not ({"noted", "Traceback"} - shown) & {w for w in ("noted", "Traceback") if w in result.stderr}
    if option == "-q":
        assert "warned" not in result.stderr


@pytest.mark.parametrize("command", ["plan", "train", "rehearse"])
def test_a_second_value_after_one_set_is_answered_with_how_to_write_it(command: str) -> None:
    words = [command, "c.yaml", "--set", "phases.S0.crop=64", "phases.S0.batch=2"]
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == 2
    assert "Write --set again before it: --set ... --set phases.S0.batch=2." in result.stderr
