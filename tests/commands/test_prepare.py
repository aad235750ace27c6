"""The output and the set of `pbr prepare`, with its jobs in this process instead of on Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pbrlib.data.shards.manifest import load_manifest
from pbrlib.data.shards.reader import ShardSet
from pbrlib.jobs.inorder import run_in_order
from ray_jobs.cli import main
from tests.data.sources.folders import write_manifest, write_material
from tests.data.sources.hub_files import row, write


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def session(*, num_cpus: int | None) -> Iterator[None]:
        yield

    monkeypatch.setattr("ray_jobs.cluster.session.ray_session", session)
    monkeypatch.setattr("ray_jobs.jobtasks.run_on_ray", run_in_order)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["prepare", *map(str, arguments)])


def words(result: Result) -> str:
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Three woods and two metals, whose hashes all lie above a tenth."""
    root = tmp_path / "in"
    labels = {"oak": "wood", "ash": "wood", "elm": "wood", "tin": "metal", "zinc": "metal"}
    for number, name in enumerate(labels):
        write_material(root, name, seed=number)
    write_manifest(root, *({"id": name, "class": label} for name, label in labels.items()))
    return root


def test_every_class_of_several_families_validates_and_the_split_is_printed(
    classes: Path, tmp_path: Path
) -> None:
    result = run(classes, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    manifest = load_manifest(tmp_path / "out")
    assert manifest.classes == {"metal": {"train": 1, "val": 1}, "wood": {"train": 2, "val": 1}}
    assert "3 to train on, 2 to validate" in words(result)
    for name, counts in (("metal", ["1", "1"]), ("wood", ["2", "1"])):
        line = next(line for line in result.output.splitlines() if line.strip("│ ").startswith(name))
        assert [cell for cell in line.split() if cell.isdigit()] == counts


def test_a_class_that_does_not_validate_is_named(classes: Path, tmp_path: Path) -> None:
    result = run(classes, "--out", tmp_path / "out", "--val-share", 0, "--hold-out", "oak")
    assert result.exit_code == 0
    assert "Nothing to validate: metal" in words(result)


@pytest.mark.parametrize("options", [["--val-share", 0], ["--hold-out", "oak", "--val-share", 0, "--append"]])
def test_a_set_without_validation_is_not_published(
    tmp_path: Path, classes: Path, options: list[object]
) -> None:
    """Leave the set without validation; in the second case the material that was held out is damaged."""
    (classes / "oak" / "albedo.png").write_bytes(b"")
    result = run(classes, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert "Nothing published: no material for validation" in words(result)
    assert "--hold-out" in words(result)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").rglob("*.*"))


def test_a_broken_material_takes_no_validation_from_its_class(classes: Path, tmp_path: Path) -> None:
    run(classes, "--out", tmp_path / "whole")
    held = [
        one.id for one in ShardSet.open(tmp_path / "whole").rows if one.label == "wood" and one.split == "val"
    ]
    (classes / held[0] / "albedo.png").write_bytes(b"")
    result = run(classes, "--out", tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert load_manifest(tmp_path / "out").classes == {
        "metal": {"train": 1, "val": 1},
        "wood": {"train": 1, "val": 1},
    }


def test_what_is_appended_validates_a_class_that_did_not(classes: Path, tmp_path: Path) -> None:
    run(classes, "--out", tmp_path / "out", "--val-share", 0, "--hold-out", "oak")
    before = {one.id: one.split for one in ShardSet.open(tmp_path / "out").rows}
    write_material(tmp_path / "more" / "metal", "iron", seed=9)
    result = run(tmp_path / "more", "--out", tmp_path / "out", "--append")
    assert result.exit_code == 0, result.output
    after = {one.id: one.split for one in ShardSet.open(tmp_path / "out").rows}
    assert after == before | {"iron": "val"}


def test_bad_files_and_rows_of_the_hub_are_lines_of_the_report(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    good = [row(f"acg_{name}_001", "wood", seed=number) for number, name in enumerate(["oak", "ash", "elm"])]
    write(
        hub / "a.parquet",
        *good,
        row("acg_oak_001", "stone", seed=7),
        row("odd", 99),
        row("cut", "wood", basecolor=b"\x89PNG\r\n\x1a\n"),
    )
    whole = (hub / "a.parquet").read_bytes()
    (hub / "b.parquet").write_bytes(whole[:-3000])
    (hub / "c.parquet").write_text("<html>Access to this dataset is restricted</html>")
    (hub / "d.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (hub / "e.parquet").write_bytes(b"")
    report = tmp_path / "report.json"
    result = run(f"matsynth:path={hub}", "--out", tmp_path / "out", "--report", report)
    assert result.exit_code == 1, result.output
    assert {one.id for one in ShardSet.open(tmp_path / "out").rows} == {one["name"] for one in good}
    errors = {f["material"]: f["message"] for f in json.loads(report.read_text())["findings"]}
    for material, advice in [
        ("b.parquet", "got a truncated file; expected its end. Resume its download"),
        ("c.parquet", "got the response of a web server"),
        ("d.parquet", "git lfs pull"),
        ("e.parquet", "got an empty file"),
        ("acg_oak_001 (again)", "Rename the other row"),
        ("cut", "does not decode"),
    ]:
        assert advice in errors[material], material
        assert "opy it again" not in errors[material]
    assert any("got category 99" in message for message in errors.values())


def test_nothing_but_bad_files_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # no cell of the table is wrapped
    (tmp_path / "a.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    result = run(f"matsynth:path={tmp_path}", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "Nothing published: no material is fit" in words(result)
    assert "git lfs pull" in words(result)
    assert not (tmp_path / "out").exists()


def test_a_row_without_a_height_goes_without_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # no cell of the table is wrapped
    rows = [row("a", "wood", seed=1), row("b", "wood", seed=2, height=None), row("c", "wood", height=b"")]
    write(tmp_path / "hub" / "a.parquet", *rows)
    result = run(f"matsynth:path={tmp_path}/hub", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    maps = {one.id: set(one.maps) for one in ShardSet.open(tmp_path / "out").rows}
    assert {"height", "ao"} <= maps["a"]
    assert not {"height", "ao"} & (maps["b"] | maps["c"])
    assert "height: no image" in words(result)


@pytest.mark.parametrize("listed", [True, False])
def test_a_folder_of_pictures_is_no_output(classes: Path, listed: bool) -> None:
    if not listed:
        (classes / "manifest.json").unlink()
    before = sorted(classes.rglob("*"))
    for options in ([], ["--append"]):
        result = run(classes, "--out", classes, *options)
        assert result.exit_code == 2
        assert "another folder" in words(result)
    assert sorted(classes.rglob("*")) == before


def test_a_pattern_does_not_hide_that_no_file_could_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("<html>")
    result = run(f"matsynth:path={tmp_path}", "--out", tmp_path / "out", "--hold-out", "oak")
    assert result.exit_code == 2
    assert "Nothing published: no material is fit" in words(result)
    assert "errors: 1," in words(result)
