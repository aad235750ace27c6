"""Every documented command line can be parsed, and names files that ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from ray_jobs.cli import main
from ray_jobs.submission import check_command, job_metadata
from tests.commands.documented import ABBREVIATED, Documented, documented

LINES = documented()


def parsed(words: Sequence[str]) -> click.Context:
    """Parse a command line without running it; raises UsageError for a mistake."""
    context = main.make_context("pbr", list(words))
    while isinstance(context.command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        assert command is not None and name is not None
        context = command.make_context(name, rest, parent=context)
    return context


def options_of(words: Sequence[str]) -> tuple[click.Command, set[str]]:
    """The command of an abbreviated line, and the options that it knows."""
    command = main.get_command(click.Context(main), words[0])
    assert command is not None, words[0]
    if isinstance(command, click.Group) and len(words) > 1:
        command = command.commands.get(words[1], command)
    return command, {name for parameter in command.params for name in parameter.opts}


def test_the_documents_have_command_lines_of_every_kind() -> None:
    assert len(LINES) > 60
    commands = {one.own[0] for one in LINES}
    assert commands >= {
        "prepare",
        "plan",
        "train",
        "tune",
        "runs",
        "report",
        "evaluate",
        "convert",
        "rehearse",
    }
    places = {one.place.split("/")[0] for one in LINES}
    assert places >= {"README.md", "docs", "configs"}


@pytest.mark.parametrize("line", LINES, ids=lambda one: f"{one.place}: {one.text}")
def test_a_documented_command_line_can_be_parsed_and_names_files_that_ship(line: Documented) -> None:
    for word in line.words:
        if word.startswith(("configs/", "@configs/", "docs/")):
            assert Path(word.removeprefix("@")).exists(), word
    if ABBREVIATED in line.own:
        _, known = options_of(line.own)
        assert {word for word in line.own if word.startswith("--")} <= known
        return
    if line.own != line.words:
        assert parsed(line.words).command.name == "submit"
        submitted = check_command(line.own, working_dir=Path())
        assert job_metadata(submitted, working_dir=Path())["job_name"]
    assert parsed(line.own).command.name in (*line.own[:2], "sweep", "list")


@pytest.mark.parametrize(
    "words",
    [
        ("train", "configs/smoke/ladder.yaml", "--dta", "SHARDS", "--runs", "RUNS"),
        ("train", "configs/smoke/ladder.yaml", "--runs", "RUNS"),
        ("runs", "shwo", "RUNS/albedo"),
        ("report",),
    ],
)
def test_a_slip_in_a_document_would_be_found(words: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        parsed(words)
