"""Tests of a phase of two players: it is trained, resumed, and replayed turn by turn."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pbrlib.curriculum.config.load import dump_yaml, parse_curriculum
from pbrlib.curriculum.debugstep import ReplayableStep
from pbrlib.curriculum.run import launch_local, resolve
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import NumericsError
from pbrlib.train.checkpoint.state import checkpoints, read_state
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.cli import main
from tests.curriculum.test_players import TEXT
from tests.train.test_two_players import break_turn, steps_of
from tests.train.twoplayers import CRITIC, GENERATOR, TwoPlayers

STEP = 6


def test_the_turn_that_failed_is_found_from_the_run_s_folder_and_reproduced(
    shard_set: ShardSet, trained_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbrlib.curriculum.run.players_of", lambda spec: (GENERATOR, CRITIC))
    monkeypatch.setattr("pbrlib.curriculum.run.build_task", lambda spec, **given: TwoPlayers(dropout=0.3))
    segformer = RunDirectory(trained_runs, name="segformer").best()[0]
    text = TEXT.replace("  kind: albedo", f"  kind: albedo\n  segformer: {segformer}")
    curriculum, runs = parse_curriculum(text), tmp_path / "runs"
    (runs / curriculum.name).mkdir(parents=True)
    (runs / curriculum.name / "curriculum.yaml").write_text(dump_yaml(curriculum))
    job = resolve(curriculum, "A1", shards=shard_set, runs=runs, runtime=RuntimeSpec(workers=1))
    break_turn(CRITIC, monkeypatch, step=STEP)
    with pytest.raises(NumericsError, match=f"step {STEP}: the gradient of critic is not finite"):
        launch_local(job)
    (checkpoint,) = checkpoints(job.directory)
    assert list(read_state(checkpoint).players) == [GENERATOR, CRITIC]
    assert "rate/critic/base" not in steps_of(job.directory)[0], "its start_epoch is 1"

    asked = ReplayableStep(runs / curriculum.name, phase=None, step=None, data=None, device=None)
    assert (asked.step, asked.began_at) == (STEP, 4), "from the checkpoint, since the generator had stepped"
    seen = asked.replay()
    first, second = seen.turns
    assert (first.player, first.is_finite, first.recorded) == (GENERATOR, True, None)
    assert (second.player, second.is_finite, second.differences()) == (CRITIC, False, {})
    assert [group.name for group in second.groups] == ["base"]
    result = CliRunner().invoke(main, ["debug-step", str(runs / curriculum.name)])
    assert result.exit_code == 4, result.output
    for said in ("replays 2 steps before it", "the turn of generator", "the turn of critic", "bit for bit"):
        assert said in result.output
