"""Runs one phase: builds task, plan and loop from a resolved job; the same on every rank."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from pbrlib.curriculum.describe.tags import tags_of
from pbrlib.curriculum.draws import phase_plan
from pbrlib.curriculum.gate import check_gates, evaluate_gate
from pbrlib.curriculum.lossweights import capped_weights, loss_weights
from pbrlib.curriculum.outside import outside_folders
from pbrlib.curriculum.phasestatus import fingerprints_of
from pbrlib.curriculum.references import OwnPhase, frozen_networks, parse_donor
from pbrlib.curriculum.scale import scaled
from pbrlib.curriculum.spec import Curriculum
from pbrlib.curriculum.weights import with_absolute_paths, without_pretrained
from pbrlib.data.draws.balance import merge_classes
from pbrlib.data.shards.dataset import DataSet
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.union import open_data
from pbrlib.errors import CheckpointError, DataError
from pbrlib.models.build import AnyNetwork
from pbrlib.seeds import mix
from pbrlib.tasks.build import build_task, measured, players_of
from pbrlib.tasks.start import start_from
from pbrlib.tasks.taskspec import maps_read, maps_required, merged_classes
from pbrlib.train.checkpoint.keeping import best_checkpoint
from pbrlib.train.checkpoint.state import State, checkpoints, is_complete, read_state
from pbrlib.train.fallback import retry_without_damaged
from pbrlib.train.loop import train_phase
from pbrlib.train.phase import PhaseRun, PlayerRun
from pbrlib.train.record.codestate import note_command
from pbrlib.train.record.rundirectory import FinishedPhase, RunDirectory
from pbrlib.train.record.timesheet import enter_stage, enter_time
from pbrlib.train.runtime import LocalRuntime, Runtime
from pbrlib.train.runtimespec import RuntimeSpec, Selection
from pbrlib.train.task import Task
from pbrlib.train.validation import load_validation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PhaseJob:
    """One phase, resolved to plain values and paths that are valid on every node.

    ``starts_from`` is the checkpoint folder of the donor. ``frozen`` has the checkpoint folders of the frozen
    networks, by the field of the task.
    """

    curriculum: Curriculum
    phase: str
    fingerprint: str
    data: DataSpec
    runs: Path
    runtime: RuntimeSpec
    starts_from: Path | None
    frozen: Mapping[str, Path]

    def __str__(self) -> str:
        """Return the title, which the Ray dashboard shows."""
        return self.title

    @property
    def title(self) -> str:
        """The path of the phase below ``runs``, such as ``segformer/S1-5a1d33c0``."""
        return str(self.directory.relative_to(self.runs))

    @property
    def run_directory(self) -> RunDirectory:
        """The run directory of the curriculum."""
        return RunDirectory(self.runs, name=self.curriculum.name)

    @property
    def directory(self) -> Path:
        """The folder of this phase."""
        return self.run_directory.phase_directory(self.phase, fingerprint=self.fingerprint)

    @property
    def selection(self) -> Selection:
        """The selection of the phase's best checkpoint."""
        return self.curriculum.phases[self.phase].select


def resolve(
    curriculum: Curriculum, phase: str, *, shards: DataSet, runs: Path, runtime: RuntimeSpec
) -> PhaseJob:
    """Resolve the donors and the fingerprint of a phase; raises CheckpointError for an untrained donor."""
    curriculum = scaled(curriculum)
    own = RunDirectory(runs, name=curriculum.name)
    outside = outside_folders(curriculum, runs=runs)
    fingerprint = fingerprints_of(curriculum, outside, shards=shards, run=own, runtime=runtime)[phase]
    reference = curriculum.phases[phase].starts_from
    starts_from = None
    if reference is not None:
        donor = parse_donor(reference, own_phases=curriculum.earlier(phase))
        if not isinstance(donor, OwnPhase):
            starts_from = outside[reference]
        elif own.finished(phase, fingerprint=fingerprint) and donor.phase in (known := own.phases()):
            starts_from = own.path / known[donor.phase].checkpoint  # may be deleted: it is not needed
        else:
            starts_from = own.best(donor.phase)[0]
    return PhaseJob(
        curriculum=with_absolute_paths(curriculum),
        phase=phase,
        fingerprint=fingerprint,
        data=shards.data,
        runs=runs,
        runtime=runtime,
        starts_from=starts_from,
        frozen={field: outside[name] for field, name in frozen_networks(curriculum.task).items()},
    )


def run_phase(job: PhaseJob, runtime: Runtime) -> State:
    """Train the phase of a job on this rank, from its newest checkpoint or its donor."""
    if runtime.rank == 0:
        enter_stage(job.directory, "networks")
    run, task = build_phase(job, runtime)
    validation = load_validation(
        runtime.shards,
        maps=run.maps,
        required=maps_required(job.curriculum.task),
        rank=runtime.rank,
        world=runtime.world_size,
    )
    return train_phase(run, task, runtime, validation=validation)


def build_phase(job: PhaseJob, runtime: Runtime) -> tuple[PhaseRun, Task]:
    """Build the phase for the training loop, and its task with initial weights."""
    spec, shards = job.curriculum.phases[job.phase], runtime.shards
    seed = job.curriculum.seed
    torch.manual_seed(mix(seed, job.phase, "weights"))
    rows = merge_classes(shards.rows, merged_classes(job.curriculum.task))
    weights = loss_weights(spec, rows)
    if runtime.rank == 0 and (warning := capped_weights(spec, job.curriculum.task, shards.rows)):
        log.warning("phases.%s: %s", job.phase, warning)
    declared = measured(job.curriculum.task, shards.rows, mix=spec.data)
    is_fresh = job.starts_from is None and runtime.latest_checkpoint() is None
    names = players_of(declared)
    task = build_task(
        declared if is_fresh else without_pretrained(declared),
        losses={player.name_in(names): player.spec.loss for player in spec.by_player()},
        class_weights=None if weights is None else weights.to(runtime.device),
        mask_dropout=spec.balance.mask_dropout or {},
        category=spec.augment.category,
        frozen=job.frozen,
        device=runtime.device,
    )
    networks: dict[str, AnyNetwork] = {player.name: player.network for player in task.players}
    start = None
    if job.starts_from is not None:
        start = start_from(job.starts_from, task, seed=mix(seed, job.phase, "warm start"))
    plan = phase_plan(job.curriculum, job.phase, shards.rows)
    run = PhaseRun(
        name=job.phase,
        fingerprint=job.fingerprint,
        seed=seed,
        directory=job.directory,
        plan=plan,
        maps=maps_read(job.curriculum.task),
        segment_steps=spec.segment_steps or plan.steps_per_epoch,
        micro_batches=job.runtime.micro_batches(spec.batch),
        augment=spec.augment,
        players={
            player.name_in(networks): PlayerRun(
                player.spec.optimizer,
                player.spec.schedule,
                player.grad_clip,
                start_step=player.spec.start_epoch * plan.steps_per_epoch,
            )
            for player in spec.by_player()
        },
        selection=spec.select,
        start=start,
        plateau_steps=None if spec.plateau is None else spec.plateau * plan.steps_per_epoch,
        frozen={field: read_state(folder).fingerprint for field, folder in job.frozen.items()},
        runtime=job.runtime,
        tags=tags_of(job.curriculum, job.phase, networks=networks),
    )
    return run, task


RankWork = Callable[[PhaseJob, Runtime], object]
"""The function that every rank calls: :func:`run_phase`, or its rehearsal."""

Launcher = Callable[[PhaseJob], Path]
"""A function that runs a phase to its end and returns its best checkpoint in the phase's folder."""


Launching = Callable[[Curriculum], AbstractContextManager[Launcher]]
"""A function that returns the launcher of a curriculum's phases, for use in a ``with`` block around them."""


def one_by_one(launch: Launcher) -> Launching:
    """Launch every phase by itself."""
    return lambda curriculum: nullcontext(launch)


def launch_local(job: PhaseJob, *, work: RankWork = run_phase) -> Path:
    """Run a phase in this process, without Ray."""
    job.directory.mkdir(parents=True, exist_ok=True)
    runtime = LocalRuntime(
        shards=open_data(job.data, on_bad_sample=job.runtime.on_bad_sample),
        directory=job.directory,
        selection=job.selection,
        device=torch.device(job.runtime.device),
    )
    retry_without_damaged(job.directory, lambda: work(job, runtime))
    return best_checkpoint_of(job)


def best_checkpoint_of(job: PhaseJob) -> Path:
    """Return the best checkpoint of a finished phase."""
    best = best_checkpoint(job.directory, job.selection)
    assert best is not None
    return best


def is_trained(job: PhaseJob) -> bool:
    """Return whether a phase is finished and its best checkpoint exists."""
    run = job.run_directory
    return run.finished(job.phase, fingerprint=job.fingerprint) is not None and run.has_weights(job.phase)


def carry_out(job: PhaseJob, launch: Launcher, *, force: str | None = None) -> FinishedPhase:
    """Run a phase unless it is trained, record it in ``run.json``, and evaluate its gate.

    Args:
        job: The resolved phase.
        launch: Trains the phase.
        force: The reason for continuing even if a gate fails, which is recorded.

    Raises:
        GateError: The gate of an earlier phase or of this phase fails, and ``force`` is None.
        CheckpointError: The checkpoint of the donor does not exist any more.
    """
    run = job.run_directory
    check_gates(job.curriculum, job.phase, run=run, force=force)
    if not is_trained(job):
        if job.starts_from is not None and not is_complete(job.starts_from):
            raise CheckpointError(
                f"{job.starts_from}: got no checkpoint; expected the donor of phases.{job.phase}. Train "
                f"{job.curriculum.phases[job.phase].starts_from} again with --phases "
                f"{job.curriculum.phases[job.phase].starts_from}."
            )
        _train(job, launch)
    evaluate_gate(job.curriculum, job.phase, run=run, force=force)
    return run.phases()[job.phase]


def _train(job: PhaseJob, launch: Launcher) -> None:
    """Run a phase to its end and record it in ``run.json``."""
    run = job.run_directory
    started = time.monotonic()
    enter_time(job.directory, "launched")
    note_command(job.directory)
    try:
        best = launch(job)
    except BaseException:
        # The error may come from the same disk, so a failure to write is ignored.
        with suppress(OSError, DataError):
            enter_time(job.directory, "stopped")
        raise
    enter_time(job.directory, "ended")
    state, last = read_state(best), read_state(checkpoints(best.parent)[-1])
    finished = FinishedPhase(
        fingerprint=job.fingerprint,
        checkpoint=str(best.relative_to(run.path)),
        step=state.step,
        metrics=state.metrics,
        seconds=time.monotonic() - started,
        history=last.history,
        stopped=last.stopped,
    )
    run.finish(job.phase, finished, order=tuple(job.curriculum.phases))
