"""Tests of two players with their own losses and start steps, resumed bit for bit."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pbrlib.data.draws.batch import Batch
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import CheckpointError, NumericsError
from pbrlib.losses.recipe import LossReport
from pbrlib.train.checkpoint.players import read_weights, restore, verify
from pbrlib.train.checkpoint.state import (
    OPTIMIZER,
    PLAYERS,
    STATE,
    WEIGHTS,
    checkpoints,
    read_state,
)
from pbrlib.train.debug.replay import replay_step
from pbrlib.train.failedstep import FAILED_STEP, read_failed_step
from pbrlib.train.learner import Learner
from pbrlib.train.loop import micro_batches
from pbrlib.train.phase import PhaseRun
from pbrlib.train.record.journal import METRICS
from pbrlib.train.step import JointTurns, Learners
from pbrlib.train.task import Turn
from tests.gloo import gloo_rank, run_ranks
from tests.train.test_ranks import WORLD, GlooRuntime
from tests.train.twoplayers import CRITIC, GENERATOR, SELECTION, WAKES, TwoPlayers, alone, run_of, train

LAST = "checkpoint_00000008"


@pytest.fixture(scope="module")
def straight(shard_set: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted run, with dropout in the generator."""
    directory = tmp_path_factory.mktemp("straight")
    train(run_of(directory, shard_set), TwoPlayers(dropout=0.3), alone(directory, shard_set))
    return directory


def steps_of(directory: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (directory / METRICS).read_text().splitlines()]
    return [line for line in lines if line["kind"] == "step"]


def batches_at(run: PhaseRun, shards: ShardSet, step: int) -> list[Batch]:
    raw = next(alone(run.directory, shards).batches(run.plan, maps=run.maps, first_step=step))
    return micro_batches(run, raw, torch.device("cpu"))


def rank_main(rank: int, shards: Path, folder: Path) -> None:
    with gloo_rank(rank, folder=folder, world=WORLD):
        given: Any = {"shards": ShardSet.open(shards), "directory": folder / "run", "selection": SELECTION}
        given["directory"].mkdir(exist_ok=True)
        runtime = GlooRuntime(**given, device=torch.device("cpu"), rank=rank, world_size=WORLD)
        task, reached = TwoPlayers(), []
        watch_critic(task, reached)
        train(run_of(runtime.directory, runtime.shards), task, runtime)
        torch.save(reached, folder / f"{rank}.pt")


def watch_critic(task: TwoPlayers, reached: list[bool]) -> None:
    """Record after each backward pass of the generator whether the critic has a gradient."""
    generator, critic = (player.network for player in task.players)
    first = next(iter(generator.parameters()))
    first.register_post_accumulate_grad_hook(
        lambda _: reached.append(any(one.grad is not None for one in critic.parameters()))
    )


def test_two_workers_train_like_one_and_the_generator_s_gradient_reaches_no_critic(
    shard_folder: Path, shard_set: ShardSet, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    train(run_of(one, shard_set), TwoPlayers(), alone(one, shard_set))
    run_ranks(rank_main, shard_folder, tmp_path)
    for player in (GENERATOR, CRITIC):
        ours, theirs = (read_weights(folder / LAST, player=player) for folder in (one, tmp_path / "run"))
        worst = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
        print(f"two workers against one, {player}: largest difference of a weight {worst:.2e}")
        for name, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-5)
    for rank in range(WORLD):
        reached = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert len(reached) == 8 * 2 and not any(reached)


@pytest.mark.parametrize("step", [5, 7])
def test_a_run_killed_in_the_critic_s_turn_equals_an_uninterrupted_one_bit_for_bit(
    shard_folder: Path, shard_set: ShardSet, straight: Path, tmp_path: Path, step: int
) -> None:
    killed = subprocess.run(
        [sys.executable, "-m", "tests.train.twoplayers", str(shard_folder), str(tmp_path), str(step)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint_00000004"]
    train(run_of(tmp_path, shard_set), TwoPlayers(dropout=0.3), alone(tmp_path, shard_set))
    for player in (GENERATOR, CRITIC):
        for name in (WEIGHTS, OPTIMIZER):
            ours, theirs = (folder / LAST / PLAYERS / player / name for folder in (tmp_path, straight))
            assert ours.read_bytes() == theirs.read_bytes(), f"{player}/{name}"
    assert read_state(tmp_path / LAST) == read_state(straight / LAST)


def test_a_checkpoint_contains_every_player_by_name(straight: Path) -> None:
    folder = straight / LAST
    state = read_state(folder)
    assert state.players == {name: {"role": name} for name in (GENERATOR, CRITIC)}
    assert {*state.files} == {
        f"{PLAYERS}/{player}/{name}" for player in (GENERATOR, CRITIC) for name in (WEIGHTS, OPTIMIZER)
    }
    verify(folder)
    assert read_weights(folder, player=CRITIC).keys() == layers_of(CRITIC).state_dict().keys()
    with pytest.raises(CheckpointError, match=r"got the networks generator, critic; expected one network"):
        read_weights(folder)
    with pytest.raises(CheckpointError, match=r"expected discriminator\. Name a checkpoint"):
        read_weights(folder, player="discriminator")


def layers_of(name: str) -> nn.Module:
    return next(player.network for player in TwoPlayers().players if player.name == name)


def test_a_checkpoint_of_other_players_is_not_restored(shard_set: ShardSet, straight: Path) -> None:
    learned = Learners(run_of(straight, shard_set), TwoPlayers(), alone(straight, shard_set)).learned
    for others in (
        {GENERATOR: learned[GENERATOR]},
        {GENERATOR: learned[GENERATOR], "discriminator": learned[CRITIC]},
    ):
        before = {name: tensor.clone() for name, tensor in learned[GENERATOR].network.state_dict().items()}
        with pytest.raises(CheckpointError, match="generator, critic"):
            restore(straight / LAST, fingerprint="f" * 64, learned=others)
        after = learned[GENERATOR].network.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_player_before_its_start_step_takes_no_time_and_no_scheduled_steps(
    shard_set: ShardSet, tmp_path: Path
) -> None:
    run, task = run_of(tmp_path, shard_set), TwoPlayers()
    learners = Learners(run, task, alone(tmp_path, shard_set))
    critic, asked = learners.by_name[CRITIC], []
    critic.player.network.register_forward_hook(lambda *given: asked.append(step))
    critic.optimizer.register_step_pre_hook(lambda *given: asked.append(step))
    began = {name: tensor.clone() for name, tensor in critic.player.network.state_dict().items()}
    rates = {}
    for step in range(run.plan.total_steps):
        reports = learners.step(batches_at(run, shard_set, step), step=step)
        assert list(reports) == ([GENERATOR] if step < WAKES else [GENERATOR, CRITIC])
        assert ("adversarial" in reports[GENERATOR].terms) == (step >= WAKES)
        if step < WAKES:
            now = critic.player.network.state_dict()
            assert all(torch.equal(now[name], tensor) for name, tensor in began.items())
            assert not critic.optimizer.state_dict()["state"] and not critic.rates
        else:
            rates[step] = critic.rates["base"]
    assert {*asked} == {4, 5, 6, 7}, "nobody asks it while it sleeps"
    assert rates[WAKES] == 2e-2, "its schedule begins where it wakes"
    assert rates[7] == pytest.approx(1e-3), "and ends with the phase"


def test_a_player_before_its_start_step_is_saved_and_starts_in_a_resumed_run(straight: Path) -> None:
    first = checkpoints(straight)[0]
    assert read_state(first).step == WAKES
    optimizer = torch.load(first / PLAYERS / CRITIC / OPTIMIZER, weights_only=True)
    assert optimizer["state"] == {}
    begun = layers_of(CRITIC).state_dict()
    slept = read_weights(first, player=CRITIC)
    assert all(torch.equal(slept[name], tensor) for name, tensor in begun.items())
    woke = read_weights(straight / LAST, player=CRITIC)
    assert not any(torch.equal(woke[name], tensor) for name, tensor in begun.items())


def test_the_journal_names_the_player_of_every_term_and_rate(straight: Path) -> None:
    asleep, awake = steps_of(straight)[0], steps_of(straight)[-1]
    assert asleep["step"] <= WAKES
    assert {"train/generator/loss", "train/generator/l1", "rate/generator/base"} <= asleep.keys()
    assert not [name for name in asleep if CRITIC in name or name == "train/loss"]
    assert {"train/critic/true", "train/critic/loss", "train/generator/adversarial"} <= awake.keys()
    assert awake["rate/critic/base"] == pytest.approx(1e-3)


def test_gradients_flow_through_a_judge_but_not_to_its_parameters() -> None:
    task = TwoPlayers()
    generates, critic = task.players[0].module, task.players[1].network
    critic[0].weight.requires_grad_(False)
    assert not {id(one) for one in critic.parameters()} & {id(one) for one in generates.parameters()}
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    generates.judge(x).sum().backward()
    assert x.grad is not None and bool(x.grad.any())
    assert all(one.grad is None for one in critic.parameters())
    learns = {name: one.requires_grad for name, one in critic.named_parameters()}
    assert learns.pop("0.weight") is False, "what was frozen stays so"
    assert all(learns.values())


def test_a_gradient_that_reaches_another_player_stops_the_step(shard_set: ShardSet, tmp_path: Path) -> None:
    run = run_of(tmp_path, shard_set, wakes=0)
    unheld = TwoPlayers(judge=lambda network: network.forward)
    learners = Learners(run, unheld, alone(tmp_path, shard_set))
    with pytest.raises(AssertionError, match="critic: got a gradient from another player's turn"):
        learners.step(batches_at(run, shard_set, 0), step=0)


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([[GENERATOR], [CRITIC]], "turns: got players"),
        ([[GENERATOR, CRITIC], [GENERATOR]], "turns: got players"),
        ([["nobody"], ["nobody"]], "got a turn of nobody; expected one of"),
    ],
)
def test_different_turns_and_turns_of_unknown_players_are_assertion_errors(
    turns: Sequence[Sequence[str]], words: str
) -> None:
    class Task:
        def turns(self, batch: Any, *, awake: object) -> Any:
            yield from (Turn(name, None) for name in turns[batch])

    joint = JointTurns(Task(), [0, 1], awake=[GENERATOR, CRITIC])  # type: ignore[arg-type,list-item]
    reports = [LossReport(torch.zeros(()), {})] * 2
    with pytest.raises(AssertionError, match=words):
        joint.next()
        joint.next(reports)


def break_turn(player: str, patch: pytest.MonkeyPatch, *, step: int) -> None:
    """Makes the loss of one player's turn of a step infinite."""
    whole: Callable[..., LossReport] = Learner.forward

    def forward(self: Learner, example: Any, counts: Tensor | None, *, step: int) -> LossReport:
        report = whole(self, example, counts, step=step)
        broken = self.player.name == player and step == at
        return replace(report, total=report.total * math.inf) if broken else report

    at = step
    patch.setattr(Learner, "forward", forward)


@pytest.mark.parametrize(("player", "turn"), [(GENERATOR, 0), (CRITIC, 1)])
def test_a_turn_that_is_not_finite_is_named_and_replayed_bit_for_bit(
    shard_set: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, player: str, turn: int
) -> None:
    run = run_of(tmp_path, shard_set)
    break_turn(player, monkeypatch, step=6)
    with pytest.raises(NumericsError, match=f"step 6: the gradient of {player} is not finite"):
        train(run, TwoPlayers(dropout=0.3), alone(tmp_path, shard_set))
    record = read_failed_step(tmp_path)
    assert record is not None and (record.step, record.player, record.turn) == (6, player, turn)
    kept = tmp_path / FAILED_STEP
    # In the critic's turn the generator has stepped already: the state before the step is that of no file.
    assert (kept / STATE).is_file() == (player == GENERATOR)
    learners = Learners(run, TwoPlayers(dropout=0.3), alone(tmp_path, shard_set))
    start = kept if player == GENERATOR else checkpoints(tmp_path)[-1]
    began = restore(start, fingerprint=run.fingerprint, learned=learners.learned).step
    assert began == (6 if player == GENERATOR else 4)
    for step in range(began, 7):
        for seen in replay_step(learners, [batches_at(run, shard_set, step)], step=step):
            norm = seen.learner.clip()
            if (step, seen.number) == (6, turn):
                break
    figures = {"total": seen.report.total, "norm": norm, **seen.report.terms}
    assert seen.learner.player.name == player
    assert {name: float(value) for name, value in figures.items()} == pytest.approx(
        dict(record.figures), rel=0, abs=0, nan_ok=True
    )
