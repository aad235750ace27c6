"""A slip in a YAML file is answered with its line and what to write; files of common editors are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.curriculum.spec import Curriculum
from pbrlib.errors import ConfigError
from tests.conftest import SEGFORMER


def load(folder: Path, content: str | bytes) -> Curriculum:
    file = folder / "c.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_curriculum(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SEGFORMER.replace("crop: 64", "crop: ${CROP}"), "Environment variables are not expanded"),
        (
            SEGFORMER.replace("crop: 64", "crop: 1:04"),
            "got '1:04'; expected a whole number. Write one number",
        ),
        (SEGFORMER.replace("crop: 64", "crop: 64,5"), "Write a decimal point instead of the comma."),
        (SEGFORMER.replace("{lr: 1.0e-3}", "{lr: 0,002}"), "got the number 002 as a key; expected a name."),
        (SEGFORMER.replace("{generated: 1.0}", "{generated: 1,5}"), "a decimal fraction with a point"),
        (SEGFORMER.replace("  S0:", "\tS0:"), "got a tab; expected spaces"),
        (SEGFORMER + "---\nname: two\n", "got a second document; expected one per file."),
        (SEGFORMER.replace("name: segformer", "name: My Run é"), "such as my-run-e"),
        (SEGFORMER.replace("name: segformer", "name: a/b"), "such as a-b"),
        (
            "name: é\n".encode("latin-1") + SEGFORMER.encode(),
            "c.yaml:1: got the byte 0xe9; expected a text in",
        ),
        (SEGFORMER.replace("crop: 64", "crop: 64px"), "Write the number alone: 64."),
        (SEGFORMER.replace("crop: 64", "crop: 1 024"), "Write the digits together: 1024."),
        (SEGFORMER.replace("{generated: 1.0}", "{generated: 50%}"), "Write a share: 0.5."),
        (SEGFORMER.replace("lr: 1.0e-3", "lr: .inf"), "optimizer.lr: got inf; expected a finite number."),
        (
            "base: &b {crop: 64}\n" + SEGFORMER,
            "base: unknown key for an anchor; expected the anchor at the first use",
        ),
        ("", "got nothing; expected a mapping."),
        ("# a comment\n", "got nothing; expected a mapping."),
    ],
)
def test_a_slip_is_answered_with_what_to_write(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, content)
    assert message in str(caught.value)


def test_a_mistake_has_the_line_of_its_value_and_an_override_has_none(tmp_path: Path) -> None:
    content = SEGFORMER.replace("batch: 4", "batch: 0")
    line = 1 + content[: content.index("batch: 0")].count("\n")
    with pytest.raises(ConfigError, match=rf"phases\.S0\.batch: got 0;.*\(line {line}\)"):
        load(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        load_curriculum(tmp_path / "c.yaml", overrides=["phases.S0.batch=-1"])
    assert "batch: got -1" in str(caught.value) and "(line" not in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "newline"), [("utf-8-sig", "\n"), ("utf-16", "\n"), ("utf-8", "\r\n")], ids=str
)
def test_files_of_windows_editors_are_read(encoding: str, newline: str, tmp_path: Path) -> None:
    assert load(tmp_path, SEGFORMER.replace("\n", newline).encode(encoding)) == load(tmp_path, SEGFORMER)


@pytest.mark.parametrize(
    ("written", "batch"), [("04", 4), ("0x4", 4), ("0o4", 4), ("4.0", 4), ("1_6", 16), ("016", 16)]
)
def test_numbers_mean_what_they_look_like(written: str, batch: int, tmp_path: Path) -> None:
    found = load(tmp_path, SEGFORMER.replace("batch: 4", f"batch: {written}"))
    assert found.phases["S0"].batch == batch


def test_no_is_a_name_and_yes_is_true(tmp_path: Path) -> None:
    content = SEGFORMER.replace("name: segformer", "name: no")
    assert load(tmp_path, content).name == "no"
