from __future__ import annotations

import json
from pathlib import Path

import pytest

from pbrlib.data.shards.dataspec import DataPlace, DataSpec
from pbrlib.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "location", "source"),
    [
        ("/data/set", "/data/set", None),
        ("skyrim=/data/set", "/data/set", "skyrim"),
        ("Old_1-a=s3://bucket/a=b", "s3://bucket/a=b", "Old_1-a"),
        ("s3://bucket/a=b", "s3://bucket/a=b", None),
        ("/data/a=b", "/data/a=b", None),
        ("./a=b", "./a=b", None),
        ("a/b=c", "a/b=c", None),
    ],
)
def test_places_are_parsed_with_and_without_a_source(text: str, location: str, source: str | None) -> None:
    place = DataPlace.parse(text)
    assert (place.location, place.source) == (location, source)
    assert DataPlace.parse(str(place)) == place


def test_a_record_restores_places_and_names() -> None:
    one = DataSpec.from_location("/data/a")
    assert one.record() == "/data/a"
    two = DataSpec((DataPlace("/data/a"), DataPlace("s3://b/c", "skyrim")), {"matsynth": "materials"})
    kept = json.loads(json.dumps({"data": two.record(), "sources": two.renamed}))
    assert DataSpec.from_record(kept["data"], kept["sources"]) == two
    for wrong in (5, None, [], [5], {"a": "b"}):
        assert DataSpec.from_record(wrong) is None


def test_only_folders_become_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = DataSpec.from_options([DataPlace("a", "skyrim"), DataPlace("s3://b/c")]).resolved()
    assert [one.location for one in found.places] == [str(tmp_path / "a"), "s3://b/c"]


def test_repeated_sets_and_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--data: got \./a twice"):
        DataSpec.from_options([DataPlace("a"), DataPlace("./a", "x")])
    with pytest.raises(ConfigError, match=r"--source skyrim: got several sources \(a, b\).*skyrim=PATH"):
        DataSpec.from_options([DataPlace("a")], [("skyrim", "a"), ("skyrim", "b")])
