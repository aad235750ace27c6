from __future__ import annotations

import shutil
from pathlib import Path

from click.testing import CliRunner, Result

from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from ray_jobs.cli import main
from ray_jobs.shardview import balance_table
from tests.damage import flip
from tests.data.shards.materials import material


def inspect(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["shards", "inspect", *map(str, arguments)])


def test_a_whole_set_passes_verification_and_is_shown(shard_folder: Path) -> None:
    result = inspect(shard_folder, "--verify")
    assert result.exit_code == 0, result.output
    assert "checksums: all 1 shards are as they were written" in result.output
    assert "21 materials" in result.output
    assert "sampler weight, least to most" in result.output


def test_a_flipped_byte_is_found_by_verification_alone(shard_folder: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(shard_folder, tmp_path / "shards"))
    (shard,) = (damaged / "shards").glob("*.parquet")
    flip(shard)
    assert inspect(damaged).exit_code == 0
    result = inspect(damaged, "--verify")
    assert result.exit_code == 2
    assert f"shards/{shard.name}" in result.output
    assert "Traceback" not in result.output


def test_balance_is_shown_by_source_with_tiles_of_the_crops_that_fit(tmp_path: Path) -> None:
    rare = [material(n, size=(192, 256), maps=("normal",), label="ceramic") for n in range(2)]
    stone = [material(n, size=(600, 300), maps=("normal",), label="stone") for n in range(2, 14)]
    wood = [material(n, size=(256, 256), maps=("normal",), label="wood") for n in range(14, 23)]
    info, rows = write_shard(
        tmp_path / shard_name(version=1, ordinal=0), [*rare, *stone, *wood], split_for=lambda one: "train"
    )
    publish(tmp_path, shards=[info], rows=[rows], previous=None)
    table = balance_table(ShardSet.open(tmp_path).rows)
    names, values = (list(column.cells) for column in table.columns)
    cells = dict(zip(names, values, strict=True))
    pixels = 2 * 192 * 256 + 12 * 600 * 300 + 9 * 256 * 256
    assert cells["ceramic"].startswith(f"{2 * 192 * 256 / pixels:.1%}") and cells["ceramic"].endswith("*")
    assert not cells["stone"].endswith("*")
    mean = (2 + 21 * 0.3) / 23
    assert cells["heaviest texture is drawn"] == f"{1 / mean:.1f} times as often"
    assert cells["sampler weight, least to most"] == f"{0.3 / mean:.2f} to {1 / mean:.2f}"
    tiles = {name: count for name, count in cells.items() if "tiles" in name}
    assert tiles == {"minority tiles of 128 px": str(2 * 2 * 3), "minority tiles of 256 px": "0"}
