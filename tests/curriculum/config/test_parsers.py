"""The parser of libyaml gives the values and the errors of the parser in Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pbrlib.curriculum.config import yamlfile
from pbrlib.curriculum.config.yamlfile import parse_yaml
from pbrlib.errors import ConfigError

pytestmark = pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")

SHIPPED = sorted(Path("configs").rglob("*.yaml"))
VALUES = [
    "a: [no, yes, on, 0200, 1:04, 1e-4, 0x1f, 1_000, .inf, .nan, ~, 'x', \"\\u00e9\"]",
    "a: &one {b: 1, c: [2, 3]}\nd: *one\ne: {<<: *one, b: 5}",
    "a: |\n  two\n  lines\nb: >-\n  folded\n  text\n",
    "- - - 1\n- {x: [y, {z: ~}]}",
    "",
    "# only a comment",
]
MISTAKES = [
    "a: 1\na: 2",
    "a: [1, 2",
    "a:\tb",
    "a: 1\n---\nb: 2",
    "a: !!python/object:os.system x",
    "a: {lr: 0,002}",
    "a: *missing",
    "a: &x [*x]",
    "a: 99999999999999999999999",
    "a: \x00",
]
DEEP = ["[", "{a: ", "- ", "? "]


def in_python(text: str, monkeypatch: pytest.MonkeyPatch) -> object:
    with monkeypatch.context() as patch:
        patch.setattr(yamlfile, "_FAST_BASE", None)
        return parse_yaml(text, place="file")


@pytest.mark.parametrize("file", SHIPPED, ids=str)
def test_shipped_files_have_equal_values(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "kuberay" in file.parts:
        return  # several documents, which Kubernetes reads
    text = file.read_text()
    assert repr(parse_yaml(text, place="file")) == repr(in_python(text, monkeypatch))


@pytest.mark.parametrize("text", VALUES)
def test_values_are_equal(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repr(parse_yaml(text, place="file")) == repr(in_python(text, monkeypatch))


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_have_the_same_message(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as fast:
        parse_yaml(text, place="file")
    with pytest.raises(ConfigError) as slow:
        in_python(text, monkeypatch)
    assert str(fast.value) == str(slow.value)


@pytest.mark.parametrize("opening", DEEP)
def test_a_text_with_many_levels_is_an_error_and_not_a_crash(opening: str) -> None:
    with pytest.raises(ConfigError, match=r"nested|levels"):
        parse_yaml(opening * 30_000, place="file")
