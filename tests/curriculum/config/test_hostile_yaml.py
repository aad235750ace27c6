"""Any text as a configuration: plain values or one ConfigError, soon, and nothing of it is run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.curriculum.config.load import load_curriculum, parse_curriculum
from pbrlib.curriculum.config.yamlfile import MAX_BYTES, parse_yaml, read_yaml
from pbrlib.errors import ConfigError
from tests.conftest import SEGFORMER

SOON_S = 20.0
"""Of a machine that does other things too; each takes a second at most."""

_TENFOLD = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
LAUGHS = f"a0: &a0 [x]\n{_TENFOLD}"

WORDS = st.sampled_from(
    (
        *"[]{}:,-?!&*|>'\"%@`#\n\t ~=é",
        *("<<", "&a ", "*a", ": ", "- ", ".nan", "1:59", "0xF", "1e999", "2001-02-30", "\\ud800"),
        *("!!bool ", "!!int ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ", "!!python/name:os.system "),
    )
)


@given(st.one_of(st.text(), st.lists(WORDS, max_size=30).map("".join)))
def test_any_text_is_plain_values_or_a_config_error(text: str) -> None:
    try:
        value = parse_yaml(text, place="it")
    except ConfigError as error:
        assert str(error).startswith("it:")
        str(error).encode()
        return
    repr(value).encode()


@given(st.binary(max_size=200), st.integers(0, len(SEGFORMER)))
def test_a_curriculum_with_any_bytes_in_it_is_one_or_refused(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "noisy.yaml"
    file.write_bytes(SEGFORMER.encode()[:place] + noise + SEGFORMER.encode()[place:])
    try:
        load_curriculum(file)
    except ConfigError as error:
        str(error).encode()


@pytest.mark.parametrize("text", [LAUGHS, f"{LAUGHS}{SEGFORMER.replace('batch: 4', 'batch: *a8')}"])
def test_aliases_of_aliases_are_refused_before_anything_follows_them(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match="more than 100000 values"):
        parse_curriculum(text)
    assert time.monotonic() - began < SOON_S


def test_an_alias_that_is_used_twice_is_written_out() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {d: *a}", place="it") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": [1, 2]},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [*a]", r"it:1:4: got a value that contains itself"),
        ("[" * 100_000, "got deeply nested values"),
        ("a: " + "[" * 60 + "]" * 60, "50 levels"),
        ("a: 0x" + "F" * 9000, "it:1:4: got a whole number of more than 64 bits"),
        ("a: " + "9" * 9000, "it:1:4: got an invalid value"),
        ("a: !!timestamp x", "it:1:4: got an invalid value"),
        ("a: !!bool x", "it:1:4: got an invalid value"),
        ("a: !!int ''", "it:1:4: got an invalid value"),
        ("a: 2001-99-99", "it:1:4: got an invalid value"),
        ("a: !!map 3", "it: not readable"),
        (r'a: "\UFFFFFFFF"', "it: not readable"),
        (r'a: "\ud800"', "it:1:4: got half of a surrogate pair"),
        ("a: 1\na: 2", "it:2:1: got the key 'a' twice"),
        ("a:\n\tb: 1", "it:2:1: got a tab; expected spaces"),
        ("\0", "it: not readable"),
        ("#" * (MAX_BYTES + 1), "it: got more than"),
    ],
)
def test_invalid_values_are_reported_with_their_position(text: str, words: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=words):
        parse_yaml(text, place="it")
    assert time.monotonic() - began < SOON_S


@pytest.mark.parametrize("number", [".nan", ".inf", "1e999"])
def test_a_number_that_is_not_finite_is_refused_by_its_address(number: str) -> None:
    with pytest.raises(ConfigError, match=r"phases\.S0\.optimizer\.lr: got (nan|inf)"):
        parse_curriculum(SEGFORMER.replace("1.0e-3", number))


def test_code_in_a_configuration_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    attack = f"name: !!python/object/apply:os.system ['touch {mark}']"
    with pytest.raises(ConfigError, match=r"got the tag .*python/object/apply:os\.system; expected plain"):
        parse_curriculum(SEGFORMER.replace("name: segformer", attack))
    assert not mark.exists()
    yaml.unsafe_load(attack)  # the attack itself works
    assert mark.exists()


def test_a_file_longer_than_any_configuration_is_not_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "long.yaml"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(ConfigError, match=r"long\.yaml: got more than"):
        read_yaml(file)
