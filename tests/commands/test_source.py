from __future__ import annotations

from pathlib import Path

import pytest

from pbrlib.data.sources.folder import FolderSource
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.data.sources.matsynth import MatSynthSource
from pbrlib.data.sources.skyrim import SkyrimSource
from pbrlib.errors import ConfigError
from ray_jobs.source import KINDS, parse_source


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("generated:count=3,size=64,seed=1", GeneratedSource, "generated"),
        ("matsynth:path=/data/*.parquet,licences=CC0", MatSynthSource, "matsynth"),
        ("skyrim:old=/data/old,new=/data/new", SkyrimSource, "skyrim"),
        (".", FolderSource, "x"),
    ],
)
def test_a_source_is_a_folder_or_a_kind_with_settings_and_only_a_folder_is_renamed(
    text: str, kind: type, name: str
) -> None:
    source = parse_source(text, size=64, name="x")
    assert isinstance(source, kind)
    assert source.name == name


def test_the_size_is_that_of_the_command_line() -> None:
    assert parse_source("matsynth:path=x", size=64, name=None).size == 64
    assert parse_source("skyrim:old=x", size=64, name=None).size == 64


@pytest.mark.parametrize("kind", KINDS)
def test_a_misspelt_kind_gets_a_suggestion(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"got the kind of source {kind[:-1]}x; .*Did you mean {kind}"):
        parse_source(f"{kind[:-1]}x:path=a", size=64, name=None)


def test_another_word_gets_the_list() -> None:
    with pytest.raises(
        ConfigError, match=r"expected one of generated, matsynth, skyrim\. Use one of them, or give a folder"
    ):
        parse_source("zzz:path=a", size=64, name=None)


def test_a_folder_may_be_called_like_a_setting(tmp_path: Path) -> None:
    (tmp_path / "a:b=c").mkdir()
    assert isinstance(parse_source(str(tmp_path / "a:b=c"), size=64, name=None), FolderSource)
