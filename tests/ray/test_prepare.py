from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pbrlib.data.materials.material import Source
from pbrlib.data.shards.prepare import Group, group_entries, list_sources
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.split import assign_splits
from pbrlib.data.shards.writer import shard_name
from pbrlib.data.sources.folder import FolderSource
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.errors import DataError
from pbrlib.jobs.job import DefectError, Success
from pbrlib.jobs.record import run_job
from ray_jobs.cli import main
from ray_jobs.preparation import prepare, shard_job
from ray_jobs.source import parse_source
from tests.data.sources.failing import Deadly, Defective, Logged
from tests.data.sources.folders import colours, write_manifest, write_material
from tests.data.sources.hub_files import row as hub_row
from tests.data.sources.hub_files import write as write_hub
from tests.data.sources.test_skyrim import save_new, save_old

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["prepare", *map(str, arguments)])


def files(root: Path) -> set[str]:
    return (
        {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        if root.exists()
        else set()
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten materials, enough for two shards."""
    root = tmp_path / "in"
    for number in range(10):
        write_material(root, f"wood {number}00", seed=number)
    write_manifest(root, *({"id": f"wood {number}00", "class": "wood"} for number in range(10)))
    return root


def test_a_folder_becomes_a_set_that_reads_back_the_same(folder: Path, tmp_path: Path) -> None:
    result = run(folder, "--out", tmp_path / "out", "--report", tmp_path / "audit.json", "--name", "trees")
    assert result.exit_code == 0, result.output
    opened, source = ShardSet.open(tmp_path / "out"), FolderSource(str(folder))
    opened.verify()
    loaded = {entry.id: source.load(entry) for entry in source.entries()}
    assert [row.id for row in opened.rows] == list(loaded)
    assert len(opened.manifest.shards) == 2
    for row in opened.rows:
        assert row.source == "trees"
        assert "relief" in row.maps
        stored = opened.read_whole(row, ("albedo", "normal", "mask"))
        for name, pixels in stored.items():
            assert (pixels == loaded[row.id].maps[name]).all(), (row.id, name)
    assert json.loads((tmp_path / "audit.json").read_text())["materials"] == 10


def test_the_same_sources_give_the_same_set(folder: Path, tmp_path: Path) -> None:
    sets = []
    for name in ("a", "b"):
        prepare([FolderSource(str(folder))], out=str(tmp_path / name))
        sets.append(ShardSet.open(tmp_path / name))
    assert sets[0].fingerprint == sets[1].fingerprint


def test_appending_skips_what_is_there_and_moves_nothing(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    few = GeneratedSource(count=9, size=32, seed=1)
    prepare([few], out=out, val_share=0.5)
    before = {row.id: row.split for row in ShardSet.open(out).rows}
    assert set(before.values()) == {"train", "val"}
    result = prepare([GeneratedSource(count=12, size=32, seed=1)], out=out, val_share=0.0, append=True)
    after = {row.id: row.split for row in ShardSet.open(out).rows}
    assert set(result.skipped) == set(before)
    assert len(after) == 12
    assert before.items() <= after.items()
    assert result.manifest is not None
    assert result.manifest.version == 2
    again = prepare([few], out=out, append=True)
    assert again.manifest == result.manifest


def test_an_existing_set_is_refused_without_append(tmp_path: Path) -> None:
    woods = "generated:count=2,size=32,seed=1,families=wood/plank+wood/bark"
    assert run(woods, "--out", tmp_path).exit_code == 0
    result = run("generated:count=2,size=32,seed=2", "--out", tmp_path)
    assert result.exit_code == 2
    assert "got a folder with a shard set; expected a new or empty one. Use --append" in result.output


def test_held_out_patterns_are_validated(folder: Path, tmp_path: Path) -> None:
    result = run(folder, "--out", tmp_path / "out", "--val-share", 0, "--hold-out", "wood 30*")
    assert result.exit_code == 0, result.output
    assert [row.id for row in ShardSet.open(tmp_path / "out").rows if row.split == "val"] == ["wood 300"]


def test_a_truncated_png_is_left_out_and_reported(folder: Path, tmp_path: Path) -> None:
    albedo = folder / "wood 300" / "albedo.png"
    albedo.write_bytes(albedo.read_bytes()[:-300])
    result = run(folder, "--out", tmp_path / "out", "--report", tmp_path / "audit.json")
    assert result.exit_code == 1
    assert "left out: 1 (" in result.output
    assert "Traceback" not in result.output
    content = json.loads((tmp_path / "audit.json").read_text())
    assert content["excluded"] == ["wood 300"]
    assert f"{albedo}: does not decode" in content["findings"][0]["message"]
    assert len(ShardSet.open(tmp_path / "out").rows) == 9


@pytest.mark.parametrize("arguments", [["--strict"], []])
def test_strict_publishes_nothing_on_a_warning(tmp_path: Path, arguments: list[str]) -> None:
    write_material(tmp_path / "in", "planks", height=np.full((32, 32), 9, np.uint8))
    write_material(tmp_path / "in", "rock", seed=1)
    result = run(tmp_path / "in", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == (2 if arguments else 0)
    assert ("manifest.json" in files(tmp_path / "out")) is not bool(arguments)
    assert bool(files(tmp_path / "out")) is not bool(arguments)


def test_nothing_fit_publishes_nothing(tmp_path: Path) -> None:
    for name in ("planks", "rock"):
        (write_material(tmp_path / "in", name) / "normal.png").unlink()
    result = run(tmp_path / "in", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "Nothing published: no material is fit" in result.output
    assert files(tmp_path / "out") == set()


def test_an_id_in_two_sources_is_left_out_the_second_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_material(tmp_path / name, "planks")
    write_material(tmp_path / "b", "rock", seed=1)
    result = run(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "planks: got the id in a and in b" in " ".join(result.output.split())
    found = {row.id: row.source for row in ShardSet.open(tmp_path / "out").rows}
    assert found == {"planks": "a", "rock": "b"}


def test_a_file_as_output_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, no folder")
    result = run("generated:count=2,size=32,seed=1", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "leads to a file; expected a folder" in " ".join(result.output.split())


def test_an_output_that_cannot_be_written_is_an_input_error_without_a_traceback(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "shards").write_text("a file, no folder")
    result = run(folder, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.exception
    assert "cannot be written" in result.output
    assert "Traceback" not in result.output


def test_a_material_that_kills_its_process_costs_itself_alone(folder: Path, tmp_path: Path) -> None:
    """Kill the process by the signal of a crashing decoder; `test_jobtasks` uses SIGKILL."""
    result = prepare([Deadly(str(folder), signal=signal.SIGSEGV)], out=str(tmp_path / "out"))
    assert result.report.excluded == ("wood 200",)
    assert result.report.findings[0].check == "killed"
    assert "reading it killed its process" in result.report.findings[0].message
    opened = ShardSet.open(tmp_path / "out")
    opened.verify()
    assert len(opened.rows) == 9
    shards = {info.file for info in opened.manifest.shards}
    assert files(tmp_path / "out") == {"manifest.json", "index-0001.parquet", *shards}


def test_a_failed_run_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DefectError, match=r"(?s)in load.*ZeroDivisionError"):
        prepare([Defective(str(folder))], out=str(tmp_path / "out"))
    assert files(tmp_path / "out") == set()


def killed_run(source: Source, out: Path) -> None:
    """Leaves what a run leaves that is killed behind its first shard."""
    listed, _ = list_sources([source])
    splits = assign_splits([one.entry for one in listed], val_share=0.1, hold_out=())
    first = group_entries(listed)[0]
    families = {one.entry.family: splits[one.entry.family] for one in first}
    job = shard_job(Group(shard_name(version=1, ordinal=0), first, families), out=out)
    assert isinstance(run_job(job, root=out), Success)
    (out / "shards" / ".partial-abc").write_text("half of the second")
    (out / shard_name(version=1, ordinal=3)).write_text("a material of the second alone, which kills no more")


def test_a_killed_run_is_taken_up_where_it_was(folder: Path, tmp_path: Path) -> None:
    source = Logged(str(folder), str(tmp_path / "log"))
    prepare([source], out=str(tmp_path / "undisturbed"))
    killed_run(source, tmp_path / "out")
    (tmp_path / "log").unlink()
    prepare([source], out=str(tmp_path / "out"))
    assert sorted((tmp_path / "log").read_text().split("\n")[:-1]) == [f"wood {n}00" for n in range(5, 10)]
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "undisturbed")


def test_what_changed_since_a_killed_run_is_read_again(folder: Path, tmp_path: Path) -> None:
    source = Logged(str(folder), str(tmp_path / "log"))
    killed_run(source, tmp_path / "out")
    write_material(folder, "wood 000", seed=77)
    (tmp_path / "log").unlink()
    prepare([source], out=str(tmp_path / "out"))
    assert "wood 000" in (tmp_path / "log").read_text()
    prepare([source], out=str(tmp_path / "undisturbed"))
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "undisturbed")


def bytes_of(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in files(root)}


def test_matsynth_and_skyrim_become_one_set_that_says_what_it_left_out(tmp_path: Path) -> None:
    """Twin is oak's picture again: near-duplicates on both sides of the split are a warning."""
    colour = colours(1, 64)
    hub = write_hub(
        tmp_path / "train-0.parquet",
        hub_row("acg_oak_001", "wood", size=64, basecolor=colour, authors=["A"], licence="CC-BY 4.0"),
        hub_row("acg_twin_001", "wood", size=64, basecolor=colour),
        hub_row("tc_cup_001", "plastic", size=64),
        hub_row("ms_oak_001__twin_001", "wood", size=64, basecolor=colours(3, 64)),
        hub_row("tc_slate_001", "marble", size=64, basecolor=colours(4, 64)),
    )
    save_old(tmp_path / "old", "stone/wall01", size=64)
    save_new(tmp_path / "new/textures/PBR", "stone/wall01", size=64)
    arguments = [f"matsynth:path={hub.parent}/*.parquet", f"skyrim:old={tmp_path}/old,new={tmp_path}/new"]
    report = tmp_path / "audit.json"
    options = ["--val-share", 0, "--hold-out", "acg_twin*", "--report", report, "--size", 32]
    result = run(*arguments, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    rows = {row.id: row for row in ShardSet.open(tmp_path / "out").rows}
    assert {row.source for row in rows.values()} == {"matsynth", "skyrim"}
    assert {name: (row.label, row.split) for name, row in rows.items()} == {
        "acg_oak_001": ("wood", "train"),
        "acg_twin_001": ("wood", "val"),
        "tc_slate_001": ("stone", "train"),
        "stone/wall01": (None, "train"),
    }
    assert (rows["acg_oak_001"].licence, rows["acg_oak_001"].attribution) == ("CC-BY 4.0", "A")
    assert {"diffuse", "gloss", "albedo", "relief"} <= set(rows["stone/wall01"].maps)
    assert {"ao", "relief", "mask"} <= set(rows["acg_oak_001"].maps)
    found = {(f["material"], f["check"]): f for f in json.loads(report.read_text())["findings"]}
    assert "acg_oak_001 for training" in found["acg_twin_001", "near-duplicate"]["message"]
    assert ("ms_oak_001__twin_001", "both splits") in found
    assert any(name == "tc_cup_001" for name, _ in found)
    strict = run(*arguments, "--out", tmp_path / "again", *options, "--strict")
    assert strict.exit_code == 2
    assert files(tmp_path / "again") == set()


def test_a_source_is_named_like_its_folder(tmp_path: Path) -> None:
    (tmp_path / "Old oak.v2").mkdir()
    assert parse_source(str(tmp_path / "Old oak.v2"), size=64, name=None).name == "Old_oak_v2"
    assert parse_source("generated:count=3,size=64,seed=1", size=64, name="x").name == "generated"
    with pytest.raises(DataError, match="expected a folder with a subfolder for each material"):
        parse_source(str(tmp_path / "nowhere"), size=64, name=None)


def test_inspect_shows_what_is_in_a_set(folder: Path, tmp_path: Path) -> None:
    write_material(folder, "sheet", ao=colours(7)[..., 0])
    assert run(folder, "--out", tmp_path / "out", "--val-share", 0, "--hold-out", "sheet").exit_code == 0
    sheet = tmp_path / "pictures" / "sheet.png"
    shown = CliRunner().invoke(
        main, ["shards", "inspect", str(tmp_path / "out"), "--contact-sheet", str(sheet)]
    )
    assert shown.exit_code == 0, shown.output
    assert "11 materials, 2 shards" in " ".join(shown.output.split())
    assert "32x32 (11)" in shown.output
    wood = next(line for line in shown.output.splitlines() if "wood" in line and "│" in line)
    assert wood.split()[3:6] == ["10", "100.0%", "│"]
    assert sheet.read_bytes()[:4] == b"\x89PNG"


def test_inspect_refuses_a_folder_that_is_no_set(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["shards", "inspect", str(tmp_path)])
    assert shown.exit_code == 2
    assert "no manifest.json" in shown.output
