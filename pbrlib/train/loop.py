"""One phase from its first step, or from its last checkpoint, to its end."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pbrlib.data.augment import AugmentSpec, augment
from pbrlib.data.batch import Batch, RawBatch
from pbrlib.data.plan import DrawPlan
from pbrlib.errors import NumericsError
from pbrlib.losses.recipe import LossReport
from pbrlib.optim.groups import build_optimizer, frozen_modules
from pbrlib.optim.schedules import ScheduleSpec, apply_rates
from pbrlib.optim.spec import OptimizerSpec
from pbrlib.seeds import mix
from pbrlib.train.clock import Clock
from pbrlib.train.environment import note_environment
from pbrlib.train.journal import Journal
from pbrlib.train.plateau import PLATEAU, on_plateau
from pbrlib.train.record import BatchRecord
from pbrlib.train.runtime import Runtime
from pbrlib.train.spec import RuntimeSpec, Selection
from pbrlib.train.state import UNFINISHED, State, Validated, remove_unfinished, restore, save
from pbrlib.train.task import Example, Player, Task
from pbrlib.train.validation import ValidationTexture, validate
from pbrlib.train.warmstart import WarmStart


@dataclass(frozen=True)
class PhaseRun:
    """All that one phase is, resolved: what the loop needs and nothing that knows a model.

    ``segment_steps`` steps lie between two validations, each with a checkpoint; the last segment may be
    shorter. ``maps`` are read for every draw; ``start`` says what was taken from the weights of another role;
    ``frozen`` are the fingerprints of the networks before this one. After ``plateau_steps`` without a better
    selection metric the phase ends. ``tags`` are its hyperparameters for people.
    """

    name: str
    fingerprint: str
    seed: int
    directory: Path
    plan: DrawPlan
    maps: Sequence[str]
    segment_steps: int
    micro_batches: int
    augment: AugmentSpec
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    grad_clip: float
    selection: Selection
    frozen: Mapping[str, str]
    runtime: RuntimeSpec
    start: WarmStart | None = None
    plateau_steps: int | None = None
    tags: Mapping[str, str | int | float] = field(default_factory=dict)


def train_phase(
    run: PhaseRun, task: Task, runtime: Runtime, *, validation: Sequence[ValidationTexture]
) -> State:
    """Trains a phase to its end and returns its last state.

    ``validation`` is this rank's share of the validation textures. Raises
    NumericsError, naming samples and terms, when a loss or gradient is not finite.
    """
    torch.set_num_threads(run.runtime.threads_per_worker)
    # Left to itself cuDNN rounds the operands of fp32 convolutions to TF32, those of loss terms too, whose
    # small differences (MS-SSIM's variances, Sobel's gradients) do not survive eleven bits.
    torch.backends.cudnn.allow_tf32 = False
    learners = [_Learner(run, player, runtime) for player in task.players]
    done = _resume(run, learners, runtime)
    if done.is_finished:
        return done
    journal = None
    if runtime.rank == 0:
        remove_unfinished(run.directory)
        journal = Journal(run.directory, first_step=done.step)
        journal.tag(run.tags, metric=run.selection.metric)
        note_environment(
            run.directory, device=runtime.device, world_size=runtime.world_size, runtime=run.runtime
        )
        if run.start is not None and done.step == 0:
            journal.scalars("warm_start", step=0, values=asdict(run.start))
    record = BatchRecord(run.directory, rank=runtime.rank) if run.runtime.record_batches else None
    with journal or nullcontext(), record or nullcontext():
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
                clock,
                batches=batches,
                first_step=first,
                stop=stop,
            )
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
    return done


def _train_segment(
    run: PhaseRun,
    task: Task,
    learners: Sequence[_Learner],
    runtime: Runtime,
    journal: Journal | None,
    record: BatchRecord | None,
    clock: Clock,
    *,
    batches: Iterator[RawBatch],
    first_step: int,
    stop: int,
) -> None:
    """The optimizer steps from ``first_step`` until before ``stop``; the journal hears of one a second."""
    shown = time.monotonic()
    for step in range(first_step, stop):
        raw = clock.next(batches)
        if journal:
            journal.account(clock, step=step)
        micro = _micro_batches(run, raw, runtime.device)
        if record:
            record.write(step, micro)
        for learner in learners:
            report = learner.step(task, micro, step=step)
        done = step + 1
        clock.samples += run.plan.batch
        if journal and (time.monotonic() - shown > 1.0 or done == stop):
            shown = time.monotonic()
            journal.scalars("step", step=done, values=_step_values(run, learners, report, clock, done))


class _Learner:
    """A player with its optimizer and its wrapped module."""

    def __init__(self, run: PhaseRun, player: Player, runtime: Runtime) -> None:
        player.network.to(runtime.device)
        if run.runtime.channels_last:
            player.network.to(memory_format=torch.channels_last)
        self.run, self.player, self.runtime = run, player, runtime
        self.optimizer = build_optimizer(player.network, run.optimizer)
        if run.runtime.compile:
            player.network.compile()
        self.module = runtime.wrap(player.module.to(runtime.device))
        # After the wrapping, which may have put other batch norms in the place of these.
        self.frozen = frozen_modules(player.network, run.optimizer)

    def step(self, task: Task, micro: Sequence[Batch], *, step: int) -> LossReport:
        """One optimizer step over the micro-batches of this rank."""
        run = self.run
        self.player.module.train()
        for module in self.frozen:
            module.eval()
        rates = apply_rates(
            self.optimizer,
            run.schedule,
            step=step,
            total_steps=run.plan.total_steps,
            steps_per_epoch=run.plan.steps_per_epoch,
        )
        self.rates = rates
        with self._autocast():
            examples = [task.prepare(batch, training=True) for batch in micro]
        counts = None
        if len(examples) > 1:
            counts = self.runtime.all_reduce(sum_counts(self.player, examples))
        reports, progress = [], step / max(run.plan.total_steps - 1, 1)
        for number, example in enumerate(examples):
            torch.manual_seed(mix(run.seed, run.name, step, number, self.runtime.rank))
            last = number == len(examples) - 1
            with self._sync(last), self._autocast():
                report: LossReport = self.module(example, counts, progress)
            with self._sync(last):
                torch.autograd.backward(report.total)
            reports.append(report)
        total = LossReport.merge(reports)
        norm = nn.utils.clip_grad_norm_(_trainable(self.player.network), run.grad_clip)
        self._check(total, norm, micro, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _sync(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are averaged in the backward pass of the last micro-batch only."""
        if last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = self.module.no_sync()
        return context

    def _autocast(self) -> AbstractContextManager[object]:
        if self.run.runtime.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.runtime.device.type, dtype=torch.bfloat16)

    def _check(self, report: LossReport, norm: Tensor, micro: Sequence[Batch], step: int) -> None:
        """One look at two numbers; their tensors are read only when something is wrong."""
        if bool(torch.isfinite(report.total.detach() + norm)):
            return
        terms = [name for name, value in report.terms.items() if not math.isfinite(float(value))]
        # Loss and gradient are the same on every rank, so all of them come here together.
        parts = self.runtime.gather([sample for batch in micro for sample in batch.ids])
        ids = sorted({sample for part in parts for sample in part})
        raise NumericsError(
            f"phase {self.run.name}, step {step}: the "
            f"{'loss' if terms else 'gradient'} is not finite. Terms: {', '.join(terms) or 'all finite'}. "
            f"Samples: {', '.join(ids)}. "
            "Lower the learning rate, or look at these samples with `pbr shards inspect`."
        )


def sum_counts(player: Player, examples: Sequence[Example]) -> Tensor:
    """What each loss term averages over in a whole step of this rank. Shape (terms,)."""
    return torch.stack([player.counts(example) for example in examples]).sum(dim=0)


def _micro_batches(run: PhaseRun, raw: RawBatch, device: torch.device) -> list[Batch]:
    return [augment(part, run.augment, device=device) for part in raw.split(run.micro_batches)]


def _trainable(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _step_values(
    run: PhaseRun, learners: Sequence[_Learner], report: LossReport, clock: Clock, step: int
) -> dict[str, object]:
    rates = {f"rate/{name}": rate for learner in learners for name, rate in learner.rates.items()}
    return {
        "phase": run.name,
        "total_steps": run.plan.total_steps,
        "epoch": (step - 1) / run.plan.steps_per_epoch,
        "train/loss": float(report.total),
        **{f"train/{name}": float(value) for name, value in report.terms.items()},
        **clock.figures(),
        "seconds_left": clock.seconds_left(run.plan, step),
        **rates,
    }


def _resume(run: PhaseRun, learners: Sequence[_Learner], runtime: Runtime) -> State:
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
    learners: Sequence[_Learner],
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
            _show(task, validation, runtime, journal, step=step)
            journal.scalars("validation", step=step, values=metrics)
    (learner,) = learners
    state = _state(run, learner.player, step=step, history=(*before, Validated(step, metrics)))
    folder = None
    with clock.spending("checkpoint"):
        if journal:
            folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=run.directory))
            save(folder, state=state, network=learner.player.network, optimizer=learner.optimizer)
        runtime.report(metrics, checkpoint=folder, step=step)
    if journal:
        journal.account(clock, step=step, at_once=True)
    return state


def _show(
    task: Task, validation: Sequence[ValidationTexture], runtime: Runtime, journal: Journal, *, step: int
) -> None:
    """The picture of the first validation texture, always the same one."""
    if not validation:
        return
    shown = augment(validation[0].raw, AugmentSpec(), device=runtime.device)
    with torch.no_grad():
        journal.picture("validation", step=step, image=task.picture(shown))
