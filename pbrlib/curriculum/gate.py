"""Gates: whether a finished phase is good enough, beside an earlier one, for the next to start."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from pbrlib.curriculum.mistakes import Mistake, suggestion
from pbrlib.curriculum.spec import Curriculum, GateSpec
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import GateError
from pbrlib.tasks.taskspec import TaskSpec, maps_required
from pbrlib.train.checkpoint.state import Validated
from pbrlib.train.record.rundirectory import RECORD, RunDirectory
from pbrlib.train.validation import validated


@dataclass(frozen=True)
class Figure:
    """The error of one source before and after; ``limit`` is the most that was allowed."""

    source: str
    before: float
    after: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """What a gate said; ``forced`` is the reason for which somebody went on all the same."""

    against: str
    error: str
    figures: tuple[Figure, ...]
    passed: bool
    forced: str | None = None

    def sentence(self, gate: GateSpec) -> str:
        """The figures in words, those that failed first."""
        parts = [
            f"{figure.source} {'passed' if figure.passed else 'failed'} with {figure.after:.4g} after "
            f"{figure.before:.4g}, at most {gate.ratios[figure.source]:g} x = {figure.limit:.4g}"
            for figure in sorted(self.figures, key=lambda figure: figure.passed)
        ]
        return f"{self.error}, mean of the last {gate.window} validations: {'; '.join(parts)}"


def error_of(task: TaskSpec, metrics: Mapping[str, float], *, source: str) -> float:
    """The unweighted error of a family on one source: 1 - mIoU for segmentation, L1 for a map.

    Not a number where the source was not measured.
    """
    if task.kind == "segmentation":
        return 1.0 - metrics.get(f"val/{source}/segmentation/miou", math.nan)
    return metrics.get(f"val/{source}/{task.kind}/l1", math.nan)


def judge(
    gate: GateSpec, task: TaskSpec, *, against: str, before: Sequence[Validated], after: Sequence[Validated]
) -> Verdict:
    """Compares two phases by their last validations; a figure that is not a number does not pass."""
    figures = []
    for source, ratio in gate.ratios.items():
        was, now = (
            _mean([error_of(task, one.metrics, source=source) for one in history[-gate.window :]])
            for history in (before, after)
        )
        figures.append(Figure(source, was, now, ratio * was, passed=now <= ratio * was))
    return Verdict(
        against=against,
        error="1 - mIoU" if task.kind == "segmentation" else "L1",
        figures=tuple(figures),
        passed=all(figure.passed for figure in figures),
    )


def pass_gate(curriculum: Curriculum, phase: str, *, run: RunDirectory, force: str | None) -> Verdict | None:
    """Enters the verdict of a finished phase's gate into the run's record; None where it has no gate.

    Judged anew each time, so that a gate that was loosened lets through what it had stopped. What was forced
    once stays so.

    Args:
        curriculum: Of the phase.
        phase: Finished, as is the one it is compared with.
        run: Whose record holds both.
        force: Why to go on even if the gate says no.

    Raises:
        GateError: It says no and nobody forces it.
    """
    gate = curriculum.phases[phase].gate
    if gate is None:
        return None
    against = compared_with(curriculum, phase)
    require_history(curriculum, phase, of=against, run=run)
    require_history(curriculum, phase, of=phase, run=run)
    known = run.phases()
    verdict = judge(
        gate, curriculum.task, against=against, before=known[against].history, after=known[phase].history
    )
    reason = force if force is not None else (known[phase].gate or {}).get("forced")
    if not verdict.passed and reason is not None:
        verdict = Verdict(**{**vars(verdict), "forced": reason})
    run.note_gate(phase, asdict(verdict))
    if not verdict.passed and verdict.forced is None:
        raise GateError(
            f"{curriculum.name}/{phase}: did not pass its gate against {against}. {verdict.sentence(gate)}. "
            f"Train it otherwise, loosen phases.{phase}.gate, or go on with --force "
            '"REASON", which is recorded.'
        )
    return verdict


def enter(curriculum: Curriculum, phase: str, *, run: RunDirectory, force: str | None) -> None:
    """Lets a phase begin: earlier ones have passed their gates, and its own one will find what it compares.

    Raises GateError where that is not so.
    """
    finished = run.phases()
    for earlier in curriculum.earlier(phase):
        if earlier in finished:
            pass_gate(curriculum, earlier, run=run, force=force)
    if curriculum.phases[phase].gate is not None:
        require_history(curriculum, phase, of=compared_with(curriculum, phase), run=run)


def require_history(curriculum: Curriculum, phase: str, *, of: str, run: RunDirectory) -> None:
    """Raises GateError when a phase that the gate of ``phase`` reads has no record of its validations."""
    known = run.phases()
    if of not in known or not known[of].history:
        raise GateError(
            f"{curriculum.name}/{phase}: its gate reads the validations of {of}, and {run.path / RECORD} has "
            f"none. Train {of} first, or leave phases.{phase}.gate out."
        )


def compared_with(curriculum: Curriculum, phase: str) -> str:
    """The phase that the gate of one looks back to."""
    gate = curriculum.phases[phase].gate
    assert gate is not None
    return gate.against or curriculum.earlier(phase)[-1]


def gate_mistakes(
    curriculum: Curriculum, phase: str, *, rows: Sequence[IndexRow] | None
) -> Iterator[Mistake]:
    """What is wrong with the gate of a phase; of sources without any material other checks speak."""
    gate, earlier = curriculum.phases[phase].gate, curriculum.earlier(phase)
    if gate is None:
        return
    address = f"phases.{phase}.gate"
    if not earlier:
        yield Mistake(
            address, "this is the first phase, and a gate looks back to an earlier one. Leave it out."
        )
    elif gate.against is not None and gate.against not in earlier:
        yield Mistake(
            f"{address}.against", f"{gate.against!r} is not earlier. {suggestion(gate.against, earlier)}"
        )
    required = maps_required(curriculum.task)
    held_out = sorted({row.source for row in validated(rows or (), required=required)})
    there = {row.source for row in rows or ()}
    for source in gate.ratios:
        if source in there and source not in held_out:
            yield Mistake(
                f"{address}.ratios.{source}",
                "no validation texture of this source has what the task needs. "
                f"{suggestion(source, held_out)} Leave it out, or prepare the set with such textures held "
                "out.",
            )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
