import ast
import io
import time
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import ray_jobs
from ray_jobs import bar
from ray_jobs.bar import Console, show_progress


def log() -> Console:
    return Console(file=io.StringIO(), width=40)


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_log_has_a_line_with_the_total_and_then_one_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    console = log()
    with show_progress("convert", console=console) as watch:
        watch(0, 4)
        for done in (1, 2, 3):
            watch(done, 4)
    assert lines(console) == ["convert: 0 of 4, 0:00:00 so far"]


def test_a_line_comes_also_while_one_thing_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar, "LINE_EVERY_S", 0.02)
    console = log()
    with show_progress("convert", console=console) as watch:
        watch(2, 4)
        deadline = time.monotonic() + 20
        while len(lines(console)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert lines(console)[1].startswith("convert: 2 of 4, 0:00:00 so far, about 0:00:00 left")
    assert len(lines(console)) >= 3


def test_a_line_shows_that_the_total_is_not_known_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar, "LINE_EVERY_S", 0.02)
    console = log()
    with show_progress("convert", console=console):
        deadline = time.monotonic() + 20
        while not lines(console) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert lines(console)[0] == "convert: starting, 0:00:00 so far"


def test_on_a_terminal_a_bar_shows_the_total() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    with show_progress("convert", console=console) as watch:
        watch(1, 4)
        time.sleep(0.2)
    assert "1/4" in console.file.getvalue()  # type: ignore[attr-defined]


STEERING = ("\x1b[2J", "\x1b]0;title\x07", "\x9b2J", "\r", "\u202e", "\udcff")


@pytest.mark.parametrize("steering", STEERING)
@pytest.mark.parametrize("is_terminal", [False, True])
def test_no_text_steers_the_terminal(steering: str, is_terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=90, force_terminal=is_terminal, color_system=None)
    table = Table("plain", "text", title=f"title{steering}")
    table.add_row(f"a{steering}b", Text(f"c{steering}d"))
    console.print(table)
    console.print(f"x{steering}y", markup=False)
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(char.isprintable() or char == "\n" for char in written)
    escape = steering[0].encode("unicode_escape").decode()
    assert f"a{escape}" in written
    assert f"x{escape}" in written


def test_every_command_prints_to_such_a_console() -> None:
    made = [
        file.name
        for file in Path(ray_jobs.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module == "rich.console"
        and "Console" in {name.name for name in node.names}
    ]
    assert made == []


def test_a_log_gets_tables_at_their_full_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    log, narrow = io.StringIO(), io.StringIO()
    path = "/data/materials/" + 7 * "scanned-" + "rock.parquet"
    Console(file=log).print(path)
    assert log.getvalue() == f"{path}\n"
    Console(file=narrow, force_terminal=True, color_system=None).print(path)
    assert max(map(len, narrow.getvalue().splitlines())) <= 40
