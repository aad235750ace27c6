"""Trains one phase, from its first step or its newest checkpoint to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace

import torch

from pbrlib import storage
from pbrlib.data.augment.pipeline import augment
from pbrlib.data.draws.batch import Batch, RawBatch
from pbrlib.errors import ConfigError
from pbrlib.losses.recipe import LossReport
from pbrlib.train.badsamples import BAD_SAMPLES, BadSamples
from pbrlib.train.checkpoint.players import restore, save
from pbrlib.train.checkpoint.state import UNFINISHED, State, Validated
from pbrlib.train.clock import Clock
from pbrlib.train.failedstep import FAILED_STEP, STEP
from pbrlib.train.notice import Notices
from pbrlib.train.phase import PhaseRun
from pbrlib.train.plateau import PLATEAU, on_plateau
from pbrlib.train.record.batchrecord import BatchRecord
from pbrlib.train.record.environment import note_environment
from pbrlib.train.record.journal import GPU_PEAK, Journal
from pbrlib.train.record.profile import StepProfile
from pbrlib.train.record.timesheet import enter_stage
from pbrlib.train.record.trackers import open_trackers
from pbrlib.train.runtime import Runtime
from pbrlib.train.step import Learners
from pbrlib.train.task import Task
from pbrlib.train.validation import ValidationTexture, contact_sheet, validate


def train_phase(
    run: PhaseRun, task: Task, runtime: Runtime, *, validation: Sequence[ValidationTexture]
) -> State:
    """Train a phase to its end and return its last state.

    ``validation`` is this rank's share of the validation textures. Raises
    NumericsError, naming samples and terms, when a loss or gradient is not finite.
    """
    set_arithmetic(run)
    learners = Learners(run, task, runtime)
    done = _resume(run, learners, runtime)
    if done.is_finished:
        return done
    with ExitStack() as notes:
        training = _Training(run, task, runtime, learners, validation)
        training.open_notes(notes, done=done)
        batches = runtime.batches(run.plan, maps=run.maps, first_step=done.step)
        while not done.is_finished:
            done = training.segment(batches, done=done)
    if runtime.rank == 0:
        # The phase finished, so a stored failed step is obsolete.
        storage.remove_folder(run.directory / FAILED_STEP, first=STEP)
    return done


def set_arithmetic(run: PhaseRun) -> None:
    """Set the number of threads and the precision of this process."""
    torch.set_num_threads(run.runtime.threads_per_worker)
    # By default cuDNN rounds the operands of fp32 convolutions to TF32, also in loss terms. Their small
    # differences (MS-SSIM's variances, Sobel's gradients) would be lost in eleven bits.
    torch.backends.cudnn.allow_tf32 = False


@dataclass
class _Training:
    """The training of a phase on one rank, with its records; only rank 0 has a journal."""

    run: PhaseRun
    task: Task
    runtime: Runtime
    learners: Learners
    validation: Sequence[ValidationTexture]
    journal: Journal | None = None
    record: BatchRecord | None = None
    profile: StepProfile | None = None
    bad: BadSamples = field(default_factory=BadSamples)
    clock: Clock = field(default_factory=Clock)
    notices: Notices = field(init=False)

    def __post_init__(self) -> None:
        self.notices = Notices(self.runtime)

    def open_notes(self, notes: ExitStack, *, done: State) -> None:
        """Open the records and register them with ``notes``; a resumed phase continues its records."""
        run, runtime = self.run, self.runtime
        if runtime.rank == 0:
            storage.remove_unfinished(run.directory, prefix=UNFINISHED)
            self.bad = BadSamples.resumed(run.directory, step=done.step)
            self.journal = Journal(
                run.directory, first_step=done.step, trackers=open_trackers(run, resumes=done.step > 0)
            )
            notes.enter_context(self.journal)
            self.journal.tag(run.tags, metric=run.selection.metric)
            enter_stage(run.directory, "first batch")
            note_environment(
                run.directory,
                device=runtime.device,
                world_size=runtime.world_size,
                runtime=run.runtime,
                data=runtime.shards.data,
            )
            if run.start is not None and done.step == 0:
                self.journal.scalars("warm_start", step=0, values=asdict(run.start))
        if run.runtime.record_batches:
            self.record = BatchRecord(run.directory, rank=runtime.rank, world=runtime.world_size)
            notes.enter_context(self.record)
        if run.runtime.profile_steps:
            self.profile = StepProfile(
                run.directory,
                steps=run.runtime.profile_steps,
                first_step=done.step,
                rank=runtime.rank,
                device=runtime.device,
            )
            notes.enter_context(self.profile)

    def segment(self, batches: Iterator[RawBatch], *, done: State) -> State:
        """Train to the end of the current segment, validate, and write a checkpoint."""
        length = self.run.segment_steps
        self.clock.begin_segment()
        stop = min(done.step + length - done.step % length, self.run.plan.total_steps)
        shown = time.monotonic()
        for step in range(done.step, stop):
            reports = self._step(batches, step=step)
            finished = step + 1
            if self.journal and (time.monotonic() - shown > 1.0 or finished == stop):
                shown = time.monotonic()
                self._write("step", step=finished, values=self._step_values(reports, finished))
            if finished < stop and self.notices.is_new():
                self._share_bad_samples(step=finished)
                # Without validation, which takes too long before a preemption. The checkpoint has no metrics,
                # so it cannot become the best one.
                state = _state(self.run, self.learners, step=finished, history=done.history)
                self._checkpoint(replace(state, metrics={}))
        self._share_bad_samples(step=stop)
        metrics = self._validate(step=stop)
        history = (*done.history, Validated(stop, metrics))
        state = _state(self.run, self.learners, step=stop, history=history)
        self._checkpoint(state)
        return state

    def _step(self, batches: Iterator[RawBatch], *, step: int) -> Mapping[str, LossReport]:
        raw = self.clock.next(batches)
        self.bad.add(raw.replaced)
        if self.journal:
            self.journal.account(self.clock, step=step)
        micro = micro_batches(self.run, raw, self.runtime.device)
        if self.record:
            self.record.write(step, micro)
        reports = self.learners.step(micro, step=step)
        if self.profile:
            self.profile.step()
        self.clock.end_step(samples=self.run.plan.batch)
        return reports

    def _step_values(self, reports: Mapping[str, LossReport], step: int) -> dict[str, object]:
        values = _step_values(self.run, self.learners, reports, self.clock, step)
        if self.run.runtime.on_bad_sample == "skip":
            values[BAD_SAMPLES] = float(self.bad.num)
        return {**values, **_gpu_memory(self.runtime.device)}

    def _share_bad_samples(self, *, step: int) -> None:
        """Collect the replaced draws of all ranks, if damaged samples are skipped."""
        if self.run.runtime.on_bad_sample == "fail":
            return
        found = self.bad.share(self.runtime)
        if found is not None and self.journal:
            self._write(BAD_SAMPLES, step=step, values=found)

    def _validate(self, *, step: int) -> Mapping[str, float]:
        with self.clock.spending("validation"):
            for player in self.task.players:
                self.runtime.share_buffers(player.network)
            metrics = validate(self.task, self.validation, self.runtime)
            if self.journal:
                if self.validation:
                    image = contact_sheet(self.task, self.validation, device=self.runtime.device)
                    self.journal.picture("validation", step=step, image=image)
                self._write("validation", step=step, values=metrics)
        return metrics

    def _checkpoint(self, state: State) -> None:
        """Write a checkpoint and report it with its metrics."""
        folder, began = None, time.monotonic()
        with self.clock.spending("checkpoint"):
            if self.journal:
                self.journal.send()
                folder = storage.make_unfinished(self.run.directory, prefix=UNFINISHED)
                save(folder, state=state, learned=self.learners.learned)
            self.runtime.report(state.metrics, checkpoint=folder, step=state.step)
        if self.journal:
            seconds = time.monotonic() - began
            self._write("checkpoint", step=state.step, values={"checkpoint_s": seconds})
            self.journal.account(self.clock, step=state.step, at_once=True)

    def _write(self, kind: str, *, step: int, values: Mapping[str, object]) -> None:
        """Write values to the journal and publish them to observers."""
        assert self.journal is not None
        self.journal.scalars(kind, step=step, values=values)
        self.runtime.publish(values, step=step)


def micro_batches(run: PhaseRun, raw: RawBatch, device: torch.device) -> list[Batch]:
    """Split and augment a rank's part of a step into micro-batches."""
    return [augment(part, run.augment, device=device) for part in raw.split(run.micro_batches)]


def _step_values(
    run: PhaseRun, learners: Learners, reports: Mapping[str, LossReport], clock: Clock, step: int
) -> dict[str, object]:
    """Return the journal's values of a step; with several players, names include the player's."""
    losses: dict[str, object] = {}
    norms: dict[str, object] = {}
    rates: dict[str, object] = {}
    left = run.plan.total_steps - step
    for player, report in reports.items():
        whose = f"{player}/" if len(run.players) > 1 else ""
        losses[f"train/{whose}loss"] = float(report.total)
        losses |= {f"train/{whose}{name}": float(value) for name, value in report.terms.items()}
        if (norm := learners.by_name[player].gradient_norm) is not None:
            norms[f"{whose}gradient_norm"] = float(norm)
        rates |= {f"rate/{whose}{name}": rate for name, rate in learners.by_name[player].rates.items()}
    return {
        "phase": run.name,
        "total_steps": run.plan.total_steps,
        "epoch": (step - 1) / run.plan.steps_per_epoch,
        **losses,
        **norms,
        **clock.figures(),
        "step_s": clock.step_s(),
        "seconds_left": clock.seconds_left(steps=left, validations=-(-left // run.segment_steps)),
        **rates,
    }


def _gpu_memory(device: torch.device) -> dict[str, float]:
    """Return the peak of allocated GPU memory in bytes since the process started; empty on a CPU."""
    return {GPU_PEAK: float(torch.cuda.max_memory_allocated(device))} if device.type == "cuda" else {}


def _resume(run: PhaseRun, learners: Learners, runtime: Runtime) -> State:
    folder = runtime.latest_checkpoint()
    if folder is None:
        return _state(run, learners, step=0, history=())
    state = restore(folder, fingerprint=run.fingerprint, learned=learners.learned)
    threads = run.runtime.threads_per_worker
    if runtime.device.type == "cpu" and state.threads not in (None, threads):
        raise ConfigError(
            f"threads_per_worker: got {threads}; expected {state.threads}, with which {folder} was trained, "
            f"since another number rounds differently on a CPU. Use {state.threads}, or another --runs."
        )
    return state


def _state(run: PhaseRun, learners: Learners, *, step: int, history: tuple[Validated, ...]) -> State:
    early = on_plateau(history, run.selection, patience_steps=run.plateau_steps)
    return State(
        phase=run.name,
        fingerprint=run.fingerprint,
        step=step,
        total_steps=run.plan.total_steps,
        metrics=history[-1].metrics if history else {},
        players=learners.declarations,
        frozen=run.frozen,
        history=history,
        stopped=PLATEAU if early and step < run.plan.total_steps else None,
        threads=run.runtime.threads_per_worker,
    )
