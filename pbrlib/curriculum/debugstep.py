"""Replays one step of a run in one process and examines every part of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.curriculum.recorded import newest_environment, phase_to_replay, recorded_runtime, recorded_workers
from pbrlib.curriculum.run import PhaseJob, build_phase, resolve
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.draws.batch import Batch
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.union import open_data
from pbrlib.errors import CheckpointError, ConfigError
from pbrlib.losses.collectives import summed_by
from pbrlib.tasks.supervised import LossOfNetwork, logits_of
from pbrlib.train.checkpoint.players import restore
from pbrlib.train.checkpoint.state import checkpoints, is_complete, read_state
from pbrlib.train.debug.examine import (
    GroupReport,
    SampleReport,
    broken_layers,
    examine_groups,
    range_of,
    ranges_of,
    select_sample,
)
from pbrlib.train.debug.replay import ReplayedTurn, replay_step
from pbrlib.train.failedstep import FAILED_STEP, StepRecord, read_failed_step
from pbrlib.train.learner import autocast
from pbrlib.train.loop import micro_batches, set_arithmetic
from pbrlib.train.phase import PhaseRun
from pbrlib.train.record.rundirectory import CURRICULUM
from pbrlib.train.runtime import LocalRuntime
from pbrlib.train.runtimespec import RuntimeSpec
from pbrlib.train.step import Learners

Watch = Callable[[int, int], None]
"""A function that is called before each step, with the number of finished steps and of all steps."""


@dataclass(frozen=True)
class TurnReport:
    """The results of examining one turn of a replayed step.

    Attributes:
        player: Name of the player; None if the phase has one player.
        figures: Loss terms, total and gradient norm, named as in `pbrlib.train.failedstep.StepRecord`.
        groups: Reports of the parameter groups.
        layers: The layers whose output is not finite, in the order of the network.
        samples: Reports of the samples; empty if the player is not supervised.
        recorded: The turn as recorded in training; None without a record.
    """

    player: str | None
    figures: Mapping[str, float]
    groups: Sequence[GroupReport]
    layers: Sequence[str]
    samples: Sequence[SampleReport]
    recorded: StepRecord | None

    @property
    def is_finite(self) -> bool:
        """Whether training would continue after the turn."""
        return math.isfinite(self.figures["total"]) and math.isfinite(self.figures["norm"])

    def differences(self) -> dict[str, tuple[float, float]]:
        """Return the figures that differ from the record, each with its recorded and its replayed value."""
        before = {} if self.recorded is None else self.recorded.figures
        return {
            name: (value, self.figures[name])
            for name, value in before.items()
            if value != self.figures[name] and not (math.isnan(value) and math.isnan(self.figures[name]))
        }


@dataclass(frozen=True)
class StepReport:
    """The turns of a replayed step, up to the first one that is not finite."""

    step: int
    turns: Sequence[TurnReport]

    @property
    def is_finite(self) -> bool:
        """Whether training would continue after the step."""
        return all(turn.is_finite for turn in self.turns)


class ReplayableStep:
    """A step that can be replayed: its number, the checkpoint to start from, and its data.

    ``start`` is the checkpoint from which the replay starts, None for the beginning of the phase.
    ``began_at`` is the step of this checkpoint.

    Args:
        run: The folder of a run.
        phase: A phase of the curriculum; None is the phase with a step that was not finite.
        step: The number of the step; None is the step that was not finite.
        data: The location of the shards; None is the recorded location.
        device: The device for the replay; None is that of the run.

    Raises:
        PbrError: The run, the phase, the step, its data or its checkpoint does not exist.
    """

    def __init__(
        self, run: Path, *, phase: str | None, step: int | None, data: DataSpec | None, device: str | None
    ) -> None:
        if not (run / CURRICULUM).is_file():
            raise ConfigError(
                f"{run}: got a folder without {CURRICULUM}; expected a run. Give RUNS/<curriculum>."
            )
        curriculum = load_curriculum(run / CURRICULUM)
        self.phase = phase or phase_to_replay(curriculum, run)
        if self.phase not in curriculum.phases:
            raise ConfigError(
                f"--phase: got {self.phase}; expected a phase of {curriculum.name}. "
                f"Use one of {', '.join(curriculum.phases)}."
            )
        known = newest_environment(run, self.phase)
        spec = recorded_runtime(known, run=run, phase=self.phase, device=device)
        self._job = self._resolve(curriculum, known, spec, run=run, data=data)
        failed = read_failed_step(self._job.directory)
        if step is None:
            if failed is None:
                raise ConfigError(
                    f"{self._job.directory}: got no step that was not finite; expected the step to replay. "
                    "Give it with --step."
                )
            step = failed.step
        self.step = step
        self.recorded = failed if failed is not None and failed.step == step else None
        self.world_size = self.recorded.world_size if self.recorded else recorded_workers(known, run=run)
        self.start = self._find_start()
        self.began_at = 0 if self.start is None else read_state(self.start).step

    def _resolve(
        self,
        curriculum: Curriculum,
        known: Mapping[str, Any],
        spec: RuntimeSpec,
        *,
        run: Path,
        data: DataSpec | None,
    ) -> PhaseJob:
        recorded = DataSpec.from_record(known.get("data"), known.get("sources"))
        data = data or recorded
        if data is None:
            raise ConfigError(
                f"{run}: got no recorded location of the data; expected one. Give it with --data."
            )
        shards = open_data(data, on_bad_sample=spec.on_bad_sample)
        job = resolve(curriculum, self.phase, shards=shards, runs=run.parent, runtime=spec)
        if not job.directory.is_dir():
            trained_on = recorded or "data that is not recorded"
            existing = ", ".join(sorted(path.name for path in run.glob(f"{self.phase}-*"))) or "none"
            raise CheckpointError(
                f"{job.directory}: got other folders of this phase ({existing}); expected this one. The "
                f"curriculum, the data or a donor has changed since the training on {trained_on}. Give the "
                "location of each of these sets with --data, under the same names, or train the phase again."
            )
        return job

    def _find_start(self) -> Path | None:
        if self.recorded is not None and is_complete(self._job.directory / FAILED_STEP):
            return self._job.directory / FAILED_STEP
        before = [
            folder for folder in checkpoints(self._job.directory) if read_state(folder).step <= self.step
        ]
        return before[-1] if before else None

    def replay(self, *, watch: Watch = lambda done, total: None) -> StepReport:
        """Replay the steps up to this step and examine it; raises ConfigError if there is no such step."""
        runtime = _ReplayRuntime(
            shards=open_data(self._job.data, on_bad_sample=self._job.runtime.on_bad_sample),
            directory=self._job.directory,
            selection=self._job.curriculum.phases[self.phase].select,
            device=torch.device(self._job.runtime.device),
            start=self.start,
        )
        run, task = build_phase(self._job, runtime)
        if not 0 <= self.step < run.plan.total_steps:
            raise ConfigError(
                f"--step: got {self.step}; expected 0 to {run.plan.total_steps - 1} in phase {self.phase}. "
                "Use a step in this range."
            )
        set_arithmetic(run)
        learners = Learners(run, task, runtime)
        if self.start is not None:
            restore(self.start, fingerprint=run.fingerprint, learned=learners.learned)
        for step in range(self.began_at, self.step):
            watch(step - self.began_at, self.step - self.began_at)
            for turn in replay_step(learners, self._parts(run, runtime, step), step=step):
                turn.learner.clip()
        return self._examine(learners, self._parts(run, runtime, self.step))

    def _parts(self, run: PhaseRun, runtime: LocalRuntime, step: int) -> list[list[Batch]]:
        """Return the micro-batches of every rank."""
        parts = []
        for rank in range(self.world_size):
            own = LocalRuntime(
                shards=runtime.shards,
                directory=runtime.directory,
                selection=runtime.selection,
                device=runtime.device,
                rank=rank,
                world_size=self.world_size,
            )
            raw = next(own.batches(run.plan, maps=run.maps, first_step=step))
            parts.append(micro_batches(run, raw, runtime.device))
        return parts

    def _examine(self, learners: Learners, parts: Sequence[Sequence[Batch]]) -> StepReport:
        reports: list[TurnReport] = []
        networks = [learner.player.network for learner in learners.by_name.values()]
        turns = replay_step(learners, parts, step=self.step)
        while not reports or reports[-1].is_finite:
            with ExitStack() as stack:
                layers = [stack.enter_context(broken_layers(network)) for network in networks]
                turn = next(turns, None)
            if turn is None:
                break
            own = layers[networks.index(turn.learner.player.network)]
            reports.append(self._examine_turn(turn, parts, layers=own, several=len(networks) > 1))
        return StepReport(self.step, reports)

    def _examine_turn(
        self, turn: ReplayedTurn, parts: Sequence[Sequence[Batch]], *, layers: Sequence[str], several: bool
    ) -> TurnReport:
        groups, norm = examine_groups(turn.learner), turn.learner.clip()
        values = {"total": turn.report.total, "norm": norm, **turn.report.terms}
        known = self.recorded
        return TurnReport(
            player=turn.learner.player.name if several else None,
            figures={name: float(value) for name, value in values.items()},
            groups=groups,
            layers=layers,
            samples=examine_samples(turn, parts, step=self.step),
            recorded=known if known is not None and known.turn == turn.number else None,
        )


@torch.no_grad()
def examine_samples(turn: ReplayedTurn, parts: Sequence[Sequence[Batch]], *, step: int) -> list[SampleReport]:
    """Examine every sample of a supervised player's turn; returns none for other players."""
    learner, found = turn.learner, list[SampleReport]()
    module = learner.player.module
    if not isinstance(module, LossOfNetwork):
        return found
    progress = step / max(learner.run.plan.total_steps - 1, 1)
    for rank, micro in enumerate(parts):
        for number, (batch, example) in enumerate(zip(micro, turn.examples[rank], strict=True)):
            learner.seed(step, turn=turn.number, micro=number, rank=rank)
            with autocast(learner.run, learner.runtime.device):
                logits = logits_of(module.network, example)
            for place, sample in enumerate(batch.ids):
                target, own = select_sample(example.target, place), logits[place : place + 1]
                with summed_by(lambda x: x):
                    report = module.recipe(own, target, progress=progress)
                terms = {name: float(value) for name, value in report.terms.items()}
                ranges = {
                    **ranges_of(batch, place),
                    "network's input": range_of(example.x[place]),
                    "network's output": range_of(own),
                }
                found.append(SampleReport(rank, sample, terms, ranges))
    return found


class _ReplayRuntime(LocalRuntime):
    """A runtime of one process that starts from a given checkpoint."""

    def __init__(self, *, start: Path | None, **given: Any) -> None:
        super().__init__(**given)
        self._start = start

    def latest_checkpoint(self) -> Path | None:
        """Return the given checkpoint."""
        return self._start
