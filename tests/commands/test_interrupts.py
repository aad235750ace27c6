"""Ctrl-C and SIGTERM end with what stays and how to go on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import pbrlib.curriculum.run
import ray_jobs.preparation
from pbrlib.curriculum.run import PhaseJob
from ray_jobs.cli import INTERRUPTED, main
from ray_jobs.cluster.stopping import interrupt_advice
from tests.conftest import SEGFORMER
from tests.train.phases import kill_at


def test_advice_is_that_of_the_innermost_block() -> None:
    inner = pytest.raises(KeyboardInterrupt, match=r"^inner$")
    with inner, interrupt_advice(lambda: "outer"), interrupt_advice(lambda: "inner"):
        raise KeyboardInterrupt


def train(tmp_path: Path, shards: Path, *more: str) -> Result:
    (tmp_path / "segformer.yaml").write_text(SEGFORMER)
    places = ("--data", str(shards), "--runs", str(tmp_path / "runs"))
    return CliRunner().invoke(main, ["train", str(tmp_path / "segformer.yaml"), *places, "--local", *more])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_training_continues_with_the_same_command_from_its_last_checkpoint(
    shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    whole = pbrlib.curriculum.run.launch_local

    def interrupted(job: PhaseJob) -> Path:
        with monkeypatch.context() as patch:
            kill_at(1, patch, error=lambda: os.kill(os.getpid(), number))
            return whole(job)

    monkeypatch.setattr(pbrlib.curriculum.run, "launch_local", interrupted)
    ended = train(tmp_path, shard_folder, "--set", "phases.S0.segment_steps=1")
    assert ended.exit_code == INTERRUPTED, ended.output
    advice = "resume with the same command (segformer/S0 resumes at step 1 of 2)"
    assert f"pbr: interrupted; {advice}" in ended.stderr
    monkeypatch.undo()
    done = train(tmp_path, shard_folder, "--set", "phases.S0.segment_steps=1")
    assert done.exit_code == 0 and "segformer/S0: finished," in done.output


def test_a_preparation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray_jobs.preparation, "prepare", interrupted)
    ended = CliRunner().invoke(
        main, ["prepare", "generated:count=2,size=64,seed=1", "--out", str(tmp_path / "new")]
    )
    assert ended.exit_code == INTERRUPTED, ended.output
    said = f"pbr: interrupted; nothing was published in {tmp_path}/new; the same command begins anew"
    assert said in ended.stderr
