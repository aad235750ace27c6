"""Runs one optimizer step: the turns of the players over the micro-batches of this rank."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pbrlib.data.draws.batch import Batch
from pbrlib.errors import NumericsError, PbrError
from pbrlib.losses.recipe import LossReport
from pbrlib.train.checkpoint.players import Learned
from pbrlib.train.failedstep import StepRecord, keep_failed_step
from pbrlib.train.learner import Learner, autocast
from pbrlib.train.phase import PhaseRun
from pbrlib.train.runtime import Runtime
from pbrlib.train.task import Task, Turn


@dataclass(frozen=True)
class JointTurn:
    """A turn over several micro-batches: its player, its number in the step, and one example each."""

    player: str
    number: int
    examples: Sequence[Any]


class JointTurns:
    """The turns of several micro-batches, advanced together: a turn ends on all before the next one."""

    def __init__(self, task: Task, batches: Sequence[Batch], *, awake: Collection[str]) -> None:
        self._turns = [task.turns(batch, awake=awake) for batch in batches]
        self._awake, self._number = awake, -1

    def next(self, reports: Sequence[LossReport] | None = None) -> JointTurn | None:
        """Return the next turn, None after the last one; ``reports`` are the previous turn's loss reports."""
        found: list[Turn | None] = []
        for number, turns in enumerate(self._turns):
            try:
                found.append(next(turns) if reports is None else turns.send(reports[number]))
            except StopIteration:
                found.append(None)
        players = {None if turn is None else turn.player for turn in found}
        assert len(players) == 1, f"turns: got players {players} for the micro-batches; expected the same one"
        self._number += 1
        (player,) = players
        if player is None:
            return None
        assert player in self._awake, f"turns: got a turn of {player}; expected one of {self._awake}"
        return JointTurn(player, self._number, [turn.example for turn in found if turn is not None])


class Learners:
    """The training states of a phase's players, by name."""

    def __init__(self, run: PhaseRun, task: Task, runtime: Runtime) -> None:
        self.run, self.task, self.runtime = run, task, runtime
        self.by_name = {player.name: Learner(run, player, runtime) for player in task.players}

    @property
    def learned(self) -> dict[str, Learned]:
        """The network and optimizer of each player, for checkpoints."""
        return {
            name: Learned(learner.player.network, learner.optimizer) for name, learner in self.by_name.items()
        }

    @property
    def declarations(self) -> dict[str, Mapping[str, Any]]:
        """The declaration of each player's network, from which it can be rebuilt."""
        return {name: learner.player.declaration for name, learner in self.by_name.items()}

    def begin_step(self, batches: Sequence[Batch], *, step: int) -> JointTurns:
        """Set modes and rates of the players that train in this step, and return the turns of the step."""
        awake = [name for name, learner in self.by_name.items() if learner.is_awake(step)]
        for name in awake:
            self.by_name[name].begin_step(step)
        return JointTurns(self.task, batches, awake=awake)

    def advance(self, turns: JointTurns, reports: Sequence[LossReport] | None = None) -> JointTurn | None:
        """Return the next turn of a step, prepared under autocast."""
        with autocast(self.run, self.runtime.device):
            turn = turns.next(reports)
        if turn is not None and len(self.by_name) > 1:
            stray = self.by_name[turn.player].has_gradient
            assert not stray, (
                f"{turn.player}: got a gradient from another player's turn; expected none. Use a Judge there."
            )
        return turn

    def step(self, micro: Sequence[Batch], *, step: int) -> dict[str, LossReport]:
        """Run one optimizer step of every player that has a turn, over the micro-batches of this rank.

        Returns:
            The loss reports by player; for a player with several turns, the report of the last one.
        """
        found = {}
        turns = self.begin_step(micro, step=step)
        turn = self.advance(turns)
        while turn is not None:
            learner = self.by_name[turn.player]
            reports = learner.accumulate(turn.examples, step=step, turn=turn.number)
            total = found[turn.player] = LossReport.merge(reports)
            self._check(total, learner.clip(), micro, turn, step=step)
            learner.update()
            turn = self.advance(turns, reports)
        return found

    def _check(
        self, report: LossReport, norm: Tensor, micro: Sequence[Batch], turn: JointTurn, *, step: int
    ) -> None:
        """Raise NumericsError if loss or gradient norm is not finite; single terms are read only then."""
        if bool(torch.isfinite(report.total.detach() + norm)):
            return
        terms = [name for name, value in report.terms.items() if not math.isfinite(float(value))]
        # Loss and gradient are equal on every rank, so all ranks reach this collective.
        parts = self.runtime.gather([sample for batch in micro for sample in batch.ids])
        if self.runtime.rank == 0:
            values = {"total": report.total, "norm": norm, **report.terms}
            figures = {name: float(value) for name, value in values.items()}
            location = str(self.runtime.shards.location)
            self._keep(StepRecord(step, location, parts, figures, player=turn.player, turn=turn.number))
        # The first rank that ends stops the others, so all wait until rank 0 has written the state.
        self.runtime.gather([])
        ids = sorted({sample for part in parts for sample in part})
        whose = f" of {turn.player}" if len(self.by_name) > 1 else ""
        raise NumericsError(
            f"phase {self.run.name}, step {step}: the "
            f"{'loss' if terms else 'gradient'}{whose} is not finite. "
            f"Terms: {', '.join(terms) or 'all finite'}. "
            f"Samples: {', '.join(ids)}. Lower the learning rate, or look closer: "
            f"`pbr debug-step {self.run.directory.parent} --phase {self.run.name}` replays the step."
        )

    def _keep(self, record: StepRecord) -> None:
        # The optimizer has not stepped. Batch norms in train mode have updated their running statistics, but
        # a step does not read them; frozen batch norms read them and are in eval mode.
        with suppress(PbrError, OSError):  # a full disk must not hide the numerical error
            keep_failed_step(self.run, self.learned, record, declarations=self.declarations)
