import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.augment.pipeline import augment
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import DataError
from pbrlib.evaluate.compare import Verdict, compare
from pbrlib.evaluate.evaluationreport import Evaluation
from pbrlib.evaluate.measure import evaluate
from pbrlib.evaluate.samples import validation_rows, validation_textures
from pbrlib.maps import CLASSES, TARGETS
from pbrlib.train.validation import load_validation
from ray_jobs.cli import main
from tests.evaluate.textures import Copycat, Oracle


def with_rows(shards: ShardSet, rows: Sequence[IndexRow]) -> ShardSet:
    return ShardSet(shards.location, manifest=shards.manifest, rows=tuple(rows))


def printed(evaluation: Evaluation) -> str:
    console = Console(width=200, record=True, file=None, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(evaluation.table())
    return capture.get()


@pytest.fixture(scope="module")
def perfect(shard_set: ShardSet) -> Evaluation:
    return evaluate(Oracle(shard_set), shards=shard_set)


@pytest.fixture(scope="module")
def trivial(shard_set: ShardSet) -> Evaluation:
    return evaluate(Copycat(), shards=shard_set)


def test_the_input_is_that_of_training_s_validation(shard_set: ShardSet) -> None:
    maps = ("diffuse", "albedo", "normal", "roughness", "metallic", "ao")
    theirs = load_validation(shard_set, maps=maps, required=("normal", "albedo"), rank=0, world=1)
    ours = list(validation_textures(shard_set))
    assert [one.id for one in ours] == [one.raw.ids[0] for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        batch = augment(other.raw, AugmentSpec(), device="cpu")
        assert torch.equal(one.given.diffuse, batch.maps["diffuse"][0])
        assert torch.equal(one.given.normal, batch.maps["normal"][0])


def test_an_oracle_is_perfect_and_beats_every_baseline(perfect: Evaluation) -> None:
    found = {(each.map, each.metric): each for each in compare(perfect.scores)}
    assert {name for name, _ in found} == {*TARGETS, "segmentation"}
    for (_, metric), each in found.items():
        best = 1.0 if each.higher_is_better else 0.0
        assert each.methods["net"].mean == pytest.approx(best, abs=1e-4)
        assert not each.beaten_by or metric.startswith("ssim"), each
    # Of a texture without metal the baselines know the metallic as well as the oracle.
    for name in set(TARGETS) - {"metallic"}:
        assert found[name, "rmse"].verdict is Verdict.BETTER
    assert found["segmentation", "miou"].verdict is Verdict.BETTER


def test_merged_classes_count_as_one(shard_set: ShardSet) -> None:
    merge = {"ceramic": "stone", "metal": "stone"}
    found = evaluate(Oracle(shard_set), shards=shard_set, merge=merge).scores.confusions
    names = [CLASSES[n] for n in torch.stack(list(found["net"].values())).sum(dim=0).sum(dim=1).nonzero()]
    assert "stone" in names
    assert not {"ceramic", "metal"} & set(names)
    for matrix in found["majority class"].values():
        assert not matrix[:, [CLASSES.index("ceramic"), CLASSES.index("metal")]].any()


def test_a_network_that_equals_the_baselines_is_not_better(trivial: Evaluation) -> None:
    for each in compare(trivial.scores):
        assert each.verdict is Verdict.NOT_BETTER, each
    text = printed(trivial)
    assert "NOT better" in text
    assert "better than all " not in text


def test_maps_that_no_network_predicts_are_left_out_and_named(
    trivial: Evaluation, perfect: Evaluation
) -> None:
    answered = {"albedo", "metallic", "ao"}
    lacking = [name for name in (*TARGETS, "segmentation") if name not in answered]
    assert set(trivial.scores.values) == answered
    assert not trivial.scores.confusions
    assert trivial.as_dict()["not_measured"] == lacking
    assert f"Left out, since no network predicts them: {', '.join(lacking)}." in printed(trivial)
    assert perfect.as_dict()["not_measured"] == []
    assert "no network predicts" not in printed(perfect)


def test_a_texture_without_the_truth_of_a_map_is_left_out_of_that_map_and_counted(
    shard_set: ShardSet,
) -> None:
    first = next(row for row in shard_set.rows if row.split == "val")
    lacking = replace(first, maps=tuple(name for name in first.maps if name != "ao"))
    rows = [lacking if row.id == first.id else row for row in shard_set.rows]
    found = evaluate(Copycat(), shards=with_rows(shard_set, rows))
    assert found.as_dict()["left_out"] == {"ao": [first.id]}
    num = len(validation_rows(shard_set))
    assert found.as_dict()["maps"]["ao"]["rmse"]["num_textures"] == num - 1
    assert found.as_dict()["maps"]["albedo"]["rmse"]["num_textures"] == num
    assert first.id not in found.scores.values["ao"]["rmse"]["1"]
    assert "ao 1" in printed(found)


def test_the_json_holds_every_figure_and_can_be_read_back(perfect: Evaluation, tmp_path: Path) -> None:
    files = perfect.write(tmp_path / "deep" / "evaluation.json")
    content = json.loads(files[0].read_text())
    ids = [item["id"] for item in content["textures"]]
    assert len(ids) == 7
    assert content["lpips"] is None
    assert "the validation split also chose each phase's best checkpoint" in content["protocol"]
    assert content["training_statistics"]["num_training_textures"] == 14
    for name in TARGETS:
        for metric, figure in content["maps"][name].items():
            values = content["per_texture"][name][metric]
            assert set(values) == set(figure["methods"])
            assert list(values["net"]) == ids
            mean = sum(values["net"].values()) / len(ids)
            assert figure["methods"]["net"]["mean"] == pytest.approx(mean)
            assert set(figure["net_minus_baseline"]) == set(figure["methods"]) - {"net"}
    assert set(content["confusions"]["net"]) == set(ids)
    for path in files[1:]:
        with Image.open(path) as picture:
            assert picture.width == 192 * (1 + len(TARGETS) + 1)  # the input, the maps, segmentation


def test_a_set_without_validation_textures_is_refused(shard_set: ShardSet) -> None:
    train = [row for row in shard_set.rows if row.split == "train"]
    with pytest.raises(DataError, match=r"no validation texture.*--val-share"):
        evaluate(Copycat(), shards=with_rows(shard_set, train))


def test_the_command_measures_trained_networks(
    trained_runs: Path, shard_folder: Path, tmp_path: Path
) -> None:
    arguments = ["evaluate", str(trained_runs), "--data", str(shard_folder), "--out", str(tmp_path)]
    result = CliRunner().invoke(main, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(content["maps"]) == {"albedo", "segmentation"}
    assert set(content["checkpoints"]) == {"segformer", "albedo"}
    assert Path(content["checkpoints"]["albedo"]["checkpoint"]).is_dir()
    assert "albedo" in result.stdout
    assert str(tmp_path / "contact-1.png") in result.stdout


def test_a_runs_directory_without_an_albedo_is_measured_for_what_it_has(
    trained_runs: Path, shard_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained_runs / "segformer", tmp_path / "runs" / "segformer")
    arguments = ["evaluate", str(tmp_path / "runs"), "--data", str(shard_folder), "--device", "cpu"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "runs" / "evaluation" / "evaluation.json").read_text())
    assert set(content["maps"]) == {"segmentation"}
    assert content["not_measured"] == list(TARGETS)
    assert f"Left out, since no network predicts them: {', '.join(TARGETS)}." in " ".join(
        result.stdout.split()
    )


def test_lpips_weights_that_are_not_there_are_an_input_error(trained_runs: Path, shard_folder: Path) -> None:
    arguments = ["evaluate", str(trained_runs), "--data", str(shard_folder), "--lpips", "random"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "--lpips: got random, where no file is" in result.stderr
