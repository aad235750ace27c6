"""One phase from its first step, or from its last checkpoint, to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict

import torch

from pbrlib.data.augment import augment
from pbrlib.data.batch import Batch, RawBatch
from pbrlib.data.storage import remove_folder
from pbrlib.losses.recipe import LossReport
from pbrlib.train.badsamples import BAD_SAMPLES, BadSamples
from pbrlib.train.clock import Clock
from pbrlib.train.environment import note_environment
from pbrlib.train.failedstep import FAILED_STEP, STEP
from pbrlib.train.journal import Journal
from pbrlib.train.learner import Learner
from pbrlib.train.phase import PhaseRun
from pbrlib.train.plateau import PLATEAU, on_plateau
from pbrlib.train.profile import StepProfile
from pbrlib.train.record import BatchRecord
from pbrlib.train.runtime import Runtime
from pbrlib.train.state import State, Validated, remove_unfinished, restore, save, unfinished
from pbrlib.train.task import Player, Task
from pbrlib.train.trackers import open_trackers
from pbrlib.train.validation import ValidationTexture, contact_sheet, validate


def train_phase(
    run: PhaseRun, task: Task, runtime: Runtime, *, validation: Sequence[ValidationTexture]
) -> State:
    """Trains a phase to its end and returns its last state.

    ``validation`` is this rank's share of the validation textures. Raises
    NumericsError, naming samples and terms, when a loss or gradient is not finite.
    """
    set_arithmetic(run)
    learners = [Learner(run, player, runtime) for player in task.players]
    done = _resume(run, learners, runtime)
    if done.is_finished:
        return done
    journal, bad = None, BadSamples()
    if runtime.rank == 0:
        remove_unfinished(run.directory)
        bad = BadSamples.resumed(run.directory, step=done.step)
        journal = Journal(run.directory, first_step=done.step, trackers=open_trackers(run))
        journal.tag(run.tags, metric=run.selection.metric)
        note_environment(
            run.directory,
            device=runtime.device,
            world_size=runtime.world_size,
            runtime=run.runtime,
            data=str(runtime.shards.location),
        )
        if run.start is not None and done.step == 0:
            journal.scalars("warm_start", step=0, values=asdict(run.start))
    record = None
    if run.runtime.record_batches:
        record = BatchRecord(run.directory, rank=runtime.rank, world=runtime.world_size)
    profile = None
    if run.runtime.profile_steps:
        profile = StepProfile(
            run.directory,
            steps=run.runtime.profile_steps,
            first_step=done.step,
            rank=runtime.rank,
            device=runtime.device,
        )
    with journal or nullcontext(), record or nullcontext(), profile or nullcontext():
        batches = runtime.batches(run.plan, maps=run.maps, first_step=done.step)
        while not done.is_finished:
            first, total = done.step, run.plan.total_steps
            stop = min(first + run.segment_steps - first % run.segment_steps, total)
            clock = Clock()
            _train_segment(
                run,
                task,
                learners,
                runtime,
                journal,
                record,
                profile,
                clock,
                bad,
                batches=batches,
                first_step=first,
                stop=stop,
            )
            _share(bad, run, runtime, journal, step=stop)
            done = _end_segment(
                run,
                task,
                learners,
                runtime,
                journal,
                clock,
                validation=validation,
                step=stop,
                before=done.history,
            )
    if runtime.rank == 0:
        # It was got past in the end.
        remove_folder(run.directory / FAILED_STEP, first=STEP)
    return done


def set_arithmetic(run: PhaseRun) -> None:
    """Threads and precision of this process."""
    torch.set_num_threads(run.runtime.threads_per_worker)
    # Left to itself cuDNN rounds the operands of fp32 convolutions to TF32, those of loss terms too, whose
    # small differences (MS-SSIM's variances, Sobel's gradients) do not survive eleven bits.
    torch.backends.cudnn.allow_tf32 = False


def _train_segment(
    run: PhaseRun,
    task: Task,
    learners: Sequence[Learner],
    runtime: Runtime,
    journal: Journal | None,
    record: BatchRecord | None,
    profile: StepProfile | None,
    clock: Clock,
    bad: BadSamples,
    *,
    batches: Iterator[RawBatch],
    first_step: int,
    stop: int,
) -> None:
    """The optimizer steps from ``first_step`` until before ``stop``; the journal hears of one a second."""
    shown = time.monotonic()
    for step in range(first_step, stop):
        raw = clock.next(batches)
        bad.add(raw.replaced)
        if journal:
            journal.account(clock, step=step)
        micro = micro_batches(run, raw, runtime.device)
        if record:
            record.write(step, micro)
        for learner in learners:
            report = learner.step(task, micro, step=step)
        if profile:
            profile.step()
        done = step + 1
        clock.samples, clock.steps = clock.samples + run.plan.batch, clock.steps + 1
        if journal and (time.monotonic() - shown > 1.0 or done == stop):
            shown = time.monotonic()
            values = _step_values(run, learners, report, clock, done)
            if run.runtime.on_bad_sample == "skip":
                values[BAD_SAMPLES] = float(bad.num)
            _tell(journal, runtime, "step", step=done, values={**values, **_gpu_memory(runtime.device)})


def _share(bad: BadSamples, run: PhaseRun, runtime: Runtime, journal: Journal | None, *, step: int) -> None:
    """Counts the replaced draws of all ranks, where any may be."""
    if run.runtime.on_bad_sample == "skip" and (found := bad.share(runtime)) is not None and journal:
        _tell(journal, runtime, BAD_SAMPLES, step=step, values=found)


def _tell(journal: Journal, runtime: Runtime, kind: str, *, step: int, values: Mapping[str, object]) -> None:
    """Writes values down and shows them to who watches."""
    journal.scalars(kind, step=step, values=values)
    runtime.publish(values, step=step)


def micro_batches(run: PhaseRun, raw: RawBatch, device: torch.device) -> list[Batch]:
    """A rank's part of a step as the task sees it."""
    return [augment(part, run.augment, device=device) for part in raw.split(run.micro_batches)]


def _step_values(
    run: PhaseRun, learners: Sequence[Learner], report: LossReport, clock: Clock, step: int
) -> dict[str, object]:
    rates = {f"rate/{name}": rate for learner in learners for name, rate in learner.rates.items()}
    return {
        "phase": run.name,
        "total_steps": run.plan.total_steps,
        "epoch": (step - 1) / run.plan.steps_per_epoch,
        "train/loss": float(report.total),
        **{f"train/{name}": float(value) for name, value in report.terms.items()},
        **clock.figures(),
        "step_s": clock.step_s(),
        "seconds_left": clock.seconds_left(run.plan, step),
        **rates,
    }


def _gpu_memory(device: torch.device) -> dict[str, float]:
    """What tensors of this rank have held at most since the process began, in bytes; nothing on a CPU."""
    return {"gpu_peak_bytes": float(torch.cuda.max_memory_allocated(device))} if device.type == "cuda" else {}


def _resume(run: PhaseRun, learners: Sequence[Learner], runtime: Runtime) -> State:
    (learner,) = learners
    folder = runtime.latest_checkpoint()
    if folder is None:
        return _state(run, learner.player, step=0, history=())
    return restore(
        folder, fingerprint=run.fingerprint, network=learner.player.network, optimizer=learner.optimizer
    )


def _state(run: PhaseRun, player: Player, *, step: int, history: tuple[Validated, ...]) -> State:
    early = on_plateau(history, run.selection, patience_steps=run.plateau_steps)
    return State(
        phase=run.name,
        fingerprint=run.fingerprint,
        step=step,
        total_steps=run.plan.total_steps,
        metrics=history[-1].metrics if history else {},
        network=player.declaration,
        frozen=run.frozen,
        history=history,
        stopped=PLATEAU if early and step < run.plan.total_steps else None,
    )


def _end_segment(
    run: PhaseRun,
    task: Task,
    learners: Sequence[Learner],
    runtime: Runtime,
    journal: Journal | None,
    clock: Clock,
    *,
    validation: Sequence[ValidationTexture],
    step: int,
    before: tuple[Validated, ...],
) -> State:
    """Validates, writes a checkpoint and reports both together; ``before`` are the validations so far."""
    with clock.spending("validation"):
        for learner in learners:
            runtime.share_buffers(learner.player.network)
        metrics = validate(task, validation, runtime)
        if journal:
            if validation:
                image = contact_sheet(task, validation, device=runtime.device)
                journal.picture("validation", step=step, image=image)
            _tell(journal, runtime, "validation", step=step, values=metrics)
    (learner,) = learners
    state = _state(run, learner.player, step=step, history=(*before, Validated(step, metrics)))
    folder, began = None, time.monotonic()
    with clock.spending("checkpoint"):
        if journal:
            journal.send()
            folder = unfinished(run.directory)
            save(folder, state=state, network=learner.player.network, optimizer=learner.optimizer)
        runtime.report(metrics, checkpoint=folder, step=step)
    if journal:
        seconds = time.monotonic() - began
        _tell(journal, runtime, "checkpoint", step=step, values={"checkpoint_s": seconds})
        journal.account(clock, step=step, at_once=True)
    return state
