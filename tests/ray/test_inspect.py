from __future__ import annotations

import shutil
from pathlib import Path

from click.testing import CliRunner, Result

from ray_jobs.cli import main


def inspect(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["shards", "inspect", *map(str, arguments)])


def test_a_whole_set_passes_verification_and_is_shown(shard_folder: Path) -> None:
    result = inspect(shard_folder, "--verify")
    assert result.exit_code == 0, result.output
    assert "checksums: all 1 shards are as they were written" in result.output
    assert "21 materials" in result.output


def test_a_flipped_byte_is_found_by_verification_alone(shard_folder: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(shard_folder, tmp_path / "shards"))
    (shard,) = (damaged / "shards").glob("*.parquet")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert inspect(damaged).exit_code == 0
    result = inspect(damaged, "--verify")
    assert result.exit_code == 2
    assert f"shards/{shard.name}" in result.output
    assert "Traceback" not in result.output
