"""The commands on a bucket: what they say, write and remove there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pbrlib import storage
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.errors import DataError
from pbrlib.storage import s3listing, s3reading
from pbrlib.train.record.rundirectory import RunDirectory
from ray_jobs.cli import main
from ray_jobs.sweep.sweeprun import open_sweep
from tests.conftest import ALBEDO, S3_CREDENTIALS, SEGFORMER
from tests.release.conftest import Ladder, add_fresh
from tests.release.conftest import released as released
from tests.release.test_write import everything
from tests.runs.test_prune import NEW, trained
from tests.s3_server import BROKEN, BUSY, FaultyServer
from tests.sweep.sweeps import write_search


def pbr(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


def send(folder: Path, address: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            storage.put_file(path, storage.to_path(address) / path.relative_to(folder))


def contents(address: str) -> dict[str, bytes]:
    found = {name: s3reading.read(name) for name in s3listing.tree(address)}
    return {name.removeprefix(f"{address}/"): content for name, content in found.items()}


@pytest.fixture
def runs(bucket: str, released: Ladder) -> str:
    """A trained ladder in a bucket."""
    send(released.runs, f"{bucket}/runs")
    return f"{bucket}/runs"


def test_train_takes_shards_and_runs_in_a_bucket_and_writes_no_credentials(
    bucket: str, shard_folder: Path, tmp_path: Path
) -> None:
    send(shard_folder, f"{bucket}/shards")
    files = []
    for name, text in {"segformer": SEGFORMER, "albedo": ALBEDO}.items():
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(text)
    work = ("train", *files, "--data", f"{bucket}/shards", "--runs", f"{bucket}/runs", "--local")
    code, output = pbr(*work)
    assert code == 0, output
    assert f"albedo/A1: training into {bucket}/runs/albedo/A1-" in output
    left = contents(f"{bucket}/runs")
    assert json.loads(left["ladder.json"])["state"] == "finished"
    assert {name.rpartition("/")[2] for name in left} >= {"metrics.jsonl", "time.jsonl", "environment.json"}
    secrets = [value for name, value in S3_CREDENTIALS.items() if name != "AWS_DEFAULT_REGION"]
    assert not [name for name, content in left.items() if any(one.encode() in content for one in secrets)]
    assert not [one for one in secrets if one in output]
    code, output = pbr(*work)
    assert code == 0, output
    assert "albedo/A1: finished before" in output
    code, output = pbr("runs", f"{bucket}/runs")
    assert code == 0, output
    assert output.count("finished") == 2


def test_a_bucket_that_cannot_be_written_ends_training_with_a_message(
    s3: FaultyServer, bucket: str, shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    (tmp_path / "segformer.yaml").write_text(SEGFORMER)
    work = (
        "train",
        tmp_path / "segformer.yaml",
        "--data",
        shard_folder,
        "--runs",
        f"{bucket}/runs",
        "--local",
    )
    with s3.failing("PUT", "model.safetensors", BUSY):
        code, output = pbr(*work)
    assert code == 2
    assert "model.safetensors: S3 cannot be used" in output or "S3 answers" in output
    assert "Traceback" not in output
    assert not list(storage.to_path(f"{bucket}/runs/segformer").glob("*/checkpoint_*"))
    code, output = pbr("runs", "show", f"{bucket}/runs/segformer")
    assert code == 0, output
    assert "stopped" in output
    assert pbr(*work)[0] == 0


def test_runs_are_listed_shown_compared_and_reported(runs: str, s3: FaultyServer) -> None:
    s3.asked.clear()
    code, output = pbr("runs", runs)
    assert code == 0, output
    assert [line.split()[0] for line in output.splitlines()[1:4]] == ["albedo", "metallic", "segformer"]
    assert len([one for one in s3.asked if one[0] == "HEAD" or "list-type" in one[1]]) == 1
    code, output = pbr("runs", "show", f"{runs}/albedo")
    assert code == 0, output
    assert f"{runs}/albedo/A1-" in output
    picture = f"{runs}/both.png"
    code, output = pbr("runs", "compare", f"{runs}/albedo", f"{runs}/metallic", "--out", picture)
    assert code == 0, output
    assert storage.to_path(picture).read_bytes().startswith(b"\x89PNG")
    code, output = pbr("report", f"{runs}/albedo")
    assert code == 0, output
    page = storage.to_path(f"{runs}/albedo/report.html").read_bytes().decode()
    assert "data:image/jpeg" in page


def test_a_sweep_finds_its_donors_in_a_bucket(runs: str, shard_folder: Path, tmp_path: Path) -> None:
    space = {"phases.A1.optimizer.lr": {"kind": "loguniform", "low": 1e-4, "high": 1e-2}}
    objectives = [{"metric": "val/all/albedo/l1", "mode": "min"}]
    file = write_search(tmp_path, text=ALBEDO, phase="A1", space=space, objectives=objectives)
    given = {
        "data": DataSpec.from_location(shard_folder),
        "out": tmp_path / "sweep",
        "runtime_file": None,
        "overrides": [],
    }
    sweep = open_sweep(file, runs=storage.to_path(runs), **given)
    job = sweep.job(0, {"phases.A1.optimizer.lr": 1e-3}, 0)
    assert str(job.frozen["segformer"]).startswith(f"{runs}/segformer/S0-")
    assert job.directory.is_relative_to(tmp_path / "sweep")


def test_prune_removes_what_it_said_and_nothing_else(bucket: str, tmp_path: Path) -> None:
    folder = trained(tmp_path, fingerprint=NEW, age_s=3600)
    send(tmp_path, f"{bucket}/runs")
    before = contents(f"{bucket}/runs")
    code, said = pbr("runs", "prune", f"{bucket}/runs")
    assert code == 0, said
    assert contents(f"{bucket}/runs") == before
    code, output = pbr("runs", "prune", f"{bucket}/runs", "--delete")
    assert code == 0, output
    goes = {f"albedo/{folder.name}/checkpoint_0000000{step}" for step in (2, 6)}
    assert all("would delete" in said and f"{bucket}/runs/{one}:" in said for one in goes)
    stays = {name: one for name, one in before.items() if name.rpartition("/")[0] not in goes}
    assert contents(f"{bucket}/runs") == stays
    assert (
        RunDirectory(storage.to_path(f"{bucket}/runs"), name="albedo").best()[0].name == "checkpoint_00000004"
    )


def test_a_model_in_a_bucket_is_evaluated_as_on_a_disk(runs: str, released: Ladder) -> None:
    data = ("--data", released.shards.location, "--device", "cpu")
    before = contents(f"{runs}/model")
    code, output = pbr("evaluate", f"{runs}/model", *data)
    assert code == 0, output
    assert contents(f"{runs}/model") == before
    theirs = json.loads((released.runs / "model" / "evaluation" / "evaluation.json").read_text())
    code, output = pbr("evaluate", runs, *data)
    assert code == 0, output
    for folder in (f"{runs}/model-evaluation", f"{runs}/evaluation"):
        ours = json.loads(storage.to_path(f"{folder}/evaluation.json").read_bytes())
        assert ours["per_texture"] == theirs["per_texture"]
        assert storage.to_path(f"{folder}/contact-1.png").stat().st_size


def test_a_model_in_a_bucket_converts_as_on_a_disk(bucket: str, released: Ladder, tmp_path: Path) -> None:
    local = tmp_path / "runs"
    shutil.copytree(released.runs, local)
    whole = add_fresh(Ladder(local, released.curricula, released.shards), *released.lacking)
    whole.write()
    send(local / "model", f"{bucket}/model")
    (tmp_path / "in").mkdir()
    random = np.random.default_rng(2)
    for name in ("wall.png", "wall_n.png"):
        pixels = random.integers(60, 200, (32, 32, 4), dtype=np.uint8)
        if name == "wall_n.png":
            pixels[..., 2] = 230  # normals point out of the surface
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    for name, model in (("disk", str(local / "model")), ("bucket", f"{bucket}/model")):
        code, output = pbr(
            "convert", model, tmp_path / "in", tmp_path / name, "--device", "cpu", "--workers", "1"
        )
        assert code == 0, output
    ours, theirs = (everything(tmp_path / name / "textures") for name in ("bucket", "disk"))
    assert "PBR/wall_rmaos.dds" in ours
    assert ours == theirs


def test_a_ladder_leaves_its_model_in_the_bucket_whole_or_not_at_all(
    runs: str, s3: FaultyServer, released: Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    ladder = Ladder(storage.to_path(runs), released.curricula, released.shards)
    assert ladder.write().evaluation is None, "it is of these very networks already"
    storage.write_atomic(storage.to_path(f"{runs}/model/model.json"), b"of another time")
    for file in ("segformer/model.safetensors", "model.json"):
        with s3.failing("PUT", f"model/{file}", BROKEN), pytest.raises(DataError, match=file):
            ladder.write()
        assert not storage.to_path(f"{runs}/model/model.json").exists()
    done = ladder.write()
    assert done.evaluation is not None
    theirs = everything(released.runs / "model")
    assert contents(f"{runs}/model").keys() == theirs.keys()
    assert storage.file_sizes(storage.to_path(runs)) == {}, "no mark is left"
    assert ladder.write().evaluation is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("convert", "RUNS", "in", "s3://bucket/out"), "OUTPUT.*textures are read and written locally"),
        (("tune", "FILE", "--data", "d", "--runs", "r", "--out", "s3://bucket/sweep"), "--out.*SQLite"),
        (("evaluate", "/nowhere", "--data", "d"), "/nowhere: got a path that does not exist"),
        (
            ("evaluate", "s3://bucket-of-nobody/runs", "--data", "d"),
            "s3://bucket-of-nobody/runs: got a path that",
        ),
        (
            ("runs", "s3://bucket-of-nobody/runs"),
            "s3://bucket-of-nobody/runs: got a path that does not exist",
        ),
        (("train", "FILE", "--data", "d", "--runs", "s3://"), "s3://: got no bucket"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_paths_that_cannot_be_on_s3_are_reported(bucket: str, words: tuple[str, ...], said: str) -> None:
    code, output = pbr(*words)
    assert code == 2
    assert re.search(said, output), output
