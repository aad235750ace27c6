"""``--data [SOURCE=]PATH`` and ``--source NAME=SOURCE`` in the commands that take them; needs no Ray."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pbrlib.data.shards.dataspec import DataPlace, DataSpec
from pbrlib.data.shards.prepare import with_relief
from pbrlib.data.shards.union import open_data
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.data.sources.generated import GeneratedSource
from ray_jobs.cli import main
from ray_jobs.submission import check_command, job_metadata
from ray_jobs.sweep.sweeprun import begin_sweep, open_sweep
from tests.conftest import SEGFORMER
from tests.sweep.sweeps import write_search


def pbr(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine materials of a source ``more``, three of them for validation."""
    root = tmp_path_factory.mktemp("more")
    source = GeneratedSource(count=9, size=128, seed=5, name="more")
    materials = [with_relief(source.load(entry)) for entry in source.entries()]
    held = {one.family for one in materials[2::3]}
    info, rows = write_shard(
        root / shard_name(version=1, ordinal=0),
        materials,
        split_for=lambda one: "val" if one.family in held else "train",
    )
    publish(root, shards=[info], rows=[rows], previous=None)
    return root


@pytest.fixture
def curriculum(tmp_path: Path) -> Path:
    """A phase that draws from two sources, of which the shard set of all tests has none."""
    file = tmp_path / "segformer.yaml"
    file.write_text(SEGFORMER.replace("{generated: 1.0}", "{skyrim: 0.5, matsynth: 0.5}"))
    return file


def test_a_plan_says_which_sources_there_are_and_which_options_feed_those_that_are_not(
    curriculum: Path, shard_folder: Path, more: Path
) -> None:
    refused = pbr("plan", curriculum, "--data", shard_folder)
    assert refused.exit_code == 2
    assert (
        "got no material of matsynth, skyrim; expected sources of the data: generated (21 materials)."
        in refused.output
    )
    assert "--source matsynth=generated --source skyrim=generated" in refused.output
    named = pbr("plan", curriculum, "--data", f"skyrim={shard_folder}", "--data", f"matsynth={more}")
    assert named.exit_code == 0, named.output
    assert f"skyrim={shard_folder}" in named.output and f"matsynth={more}" in named.output
    fed = ("--source", "skyrim=generated", "--source", "matsynth=generated", "--json")
    shown = pbr("plan", curriculum, "--data", shard_folder, *fed)
    assert shown.exit_code == 0, shown.output
    plan = json.loads(shown.output)
    assert plan["data"] == {
        "places": [str(shard_folder)],
        "materials": {"generated": 21},
        "sources": {"skyrim": "generated", "matsynth": "generated"},
    }
    assert plan["families"]["segformer"]["phases"]["S0"]["data"] == {"generated": 1.0}


def test_a_run_trains_on_two_sets_records_them_and_resumes_with_the_same_in_any_order(
    curriculum: Path, shard_folder: Path, more: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    first, second = f"skyrim={shard_folder}", str(more)
    fed = ("--source", "matsynth=more", "--runs", runs, "--local")
    done = pbr("train", curriculum, "--data", first, "--data", second, *fed)
    assert done.exit_code == 0, done.output
    assert f"data: {first}, {second}; matsynth is fed from more" in done.output
    (folder,) = (runs / "segformer").glob("S0-*")
    known = json.loads((folder / "environment.json").read_text())
    assert (known["data"], known["sources"]) == ([first, second], {"matsynth": "more"})
    metrics = json.loads((runs / "segformer" / "run.json").read_text())["phases"]["S0"]["metrics"]
    assert {"val/skyrim/segmentation/miou", "val/more/segmentation/miou"} <= metrics.keys()
    again = pbr("train", curriculum, "--data", second, "--data", first, *fed)
    assert "segformer/S0: finished before" in again.output
    other = pbr("train", curriculum, "--data", second, "--data", first, *fed, "--source", "skyrim=more")
    assert "segformer/S0: training into" in other.output
    assert len(list((runs / "segformer").glob("S0-*"))) == 2


def test_a_step_of_two_sets_is_replayed_where_they_lay_and_where_they_lie_now(
    curriculum: Path, shard_folder: Path, more: Path, tmp_path: Path
) -> None:
    runs, places = tmp_path / "runs", [f"skyrim={shard_folder}", f"matsynth={more}"]
    data = [word for place in places for word in ("--data", place)]
    assert pbr("train", curriculum, *data, "--runs", runs, "--local").exit_code == 0
    replayed = pbr("debug-step", runs / "segformer", "--step", "1")
    assert replayed.exit_code == 0, replayed.output
    moved = Path(shutil.copytree(more, tmp_path / "moved"))
    there = pbr("debug-step", runs / "segformer", "--step", "1", *data[:2], "--data", f"matsynth={moved}")
    assert there.output == replayed.output
    nameless = pbr("debug-step", runs / "segformer", "--step", "1", *data[:2], "--data", moved)
    assert nameless.exit_code == 2
    assert f"has changed since the training on {', '.join(places)}. Give the location" in nameless.output


def test_an_evaluation_measures_all_sets(
    trained_runs: Path, shard_folder: Path, more: Path, tmp_path: Path
) -> None:
    data = ("--data", shard_folder, "--data", f"old={more}")
    done = pbr("evaluate", trained_runs, *data, "--out", tmp_path, "--device", "cpu")
    assert done.exit_code == 0, done.output
    about = json.loads((tmp_path / "evaluation.json").read_text())
    assert {one["source"] for one in about["textures"]} == {"generated", "old"}
    opened = open_data(DataSpec((DataPlace(str(shard_folder)), DataPlace(str(more), "old"))))
    assert about["data"] == {"location": opened.location, "fingerprint": opened.fingerprint}


def test_a_preview_takes_the_options_and_for_one_version_the_argument(
    curriculum: Path, shard_folder: Path, tmp_path: Path
) -> None:
    common = ("--phase", "S0", "--curriculum", curriculum)
    fed = ("--source", "skyrim=generated", "--source", "matsynth=generated")
    new = pbr("augment-preview", *common, *fed, "--data", shard_folder, "--out", tmp_path / "new.png")
    assert new.exit_code == 0 and "next version" not in new.output, new.output
    old = pbr("augment-preview", shard_folder, *common, *fed, "--out", tmp_path / "old.png")
    assert old.exit_code == 0 and f"write --data {shard_folder}" in old.output, old.output
    assert (tmp_path / "new.png").read_bytes() == (tmp_path / "old.png").read_bytes()
    assert pbr("augment-preview", *common).exit_code == 2


def test_a_sweep_takes_the_options_and_is_another_with_other_sources(
    shard_folder: Path, more: Path, tmp_path: Path
) -> None:
    text = SEGFORMER.replace("generated", "skyrim")
    objectives = [{"metric": "val/skyrim/segmentation/miou", "mode": "max"}]
    file = write_search(tmp_path, text=text, objectives=objectives)
    places = (DataPlace(str(shard_folder)), DataPlace(str(more)))

    def opened(source: str) -> object:
        work = open_sweep(
            file,
            data=DataSpec(places, {"skyrim": source}),
            runs=tmp_path / "runs",
            out=tmp_path / "sweep",
            runtime_file=None,
            overrides=[],
        )
        (objective,) = begin_sweep(work).spec.objectives
        assert objective.metric == f"val/{source}/segmentation/miou"
        return work.search.trial({}).phases["S0"].data

    assert opened("generated") == {"generated": 1.0}
    with pytest.raises(Exception, match="got a sweep of gamma with other search, curriculum"):
        opened("more")


def test_submitted_data_is_checked_set_by_set_and_shown_with_the_job(
    curriculum: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "train",
        "segformer.yaml",
        "--runs",
        "/runs",
        "--data",
        "skyrim=/mnt/a",
        "--source",
        "matsynth=b",
    ]
    seen = job_metadata(
        check_command([*words, "--data", "s3://bucket/b"], working_dir=tmp_path), working_dir=tmp_path
    )
    assert (seen["data"], seen["sources"]) == ("skyrim=/mnt/a, s3://bucket/b", "matsynth=b")
    with pytest.raises(Exception, match="--data: got b, a path in the job's upload"):
        check_command([*words, "--data", "matsynth=b"], working_dir=tmp_path)
