"""An old spelling does what the new one does, and says which it is."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from ray_jobs.cli import SUBCOMMANDS, main
from ray_jobs.invocation import OLD_SPELLINGS, OldSpelling, respell

TABLE = (
    OldSpelling("", "tuning", "tune"),
    OldSpelling("tune apply", "--into", "--to"),
    OldSpelling("train", "--shards", "--data"),
)


@pytest.mark.parametrize(
    ("words", "today"),
    [
        ("tuning search.yaml", "tune search.yaml"),
        ("-v tuning", "-v tune"),
        ("tune apply SWEEP --into=c.yaml", "tune apply SWEEP --to=c.yaml"),
        ("tune sweep --into c.yaml", "tune sweep --into c.yaml"),
        ("train c.yaml --shards a --shards b", "train c.yaml --data a --data b"),
        ("submit -- train c.yaml --shards a", "submit -- train c.yaml --data a"),
        ("plan c.yaml --shards a", "plan c.yaml --shards a"),
    ],
)
def test_an_old_name_becomes_the_new_one_where_it_changed(
    words: str, today: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert " ".join(respell(words.split(), table=TABLE)) == today
    assert bool(capsys.readouterr().err) == (words != today)


def test_quiet_commands_do_not_warn(capsys: pytest.CaptureFixture[str]) -> None:
    assert respell(["train", "--shards", "a", "-q"], table=TABLE) == ["train", "--data", "a", "-q"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("one", OLD_SPELLINGS, ids=lambda one: f"{one.command} {one.old}")
def test_every_new_name_is_there_and_every_old_one_is_not(one: OldSpelling) -> None:
    name, *inner = (one.command or one.new).split()
    command = main.get_command(click.Context(main), name)
    assert command is not None and one.old not in SUBCOMMANDS
    for word in inner:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    if one.command:
        known = {name for parameter in command.params for name in parameter.opts}
        assert one.new in known and one.old not in known


def test_the_command_line_takes_an_old_name_with_a_warning() -> None:
    words = ["rehearse", "none.yaml", "--data", "none", "--runs", "none", "--json", "/dev/null/r.json"]
    done = CliRunner().invoke(main, words)
    assert "pbr rehearse: --json: got a name that the next version removes; expected --report." in done.stderr
    assert "pbr: --report: got /dev/null" in done.stderr
