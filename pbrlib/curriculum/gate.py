"""Gates: compare a finished phase with an earlier one and decide whether the next phase may start."""

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
class SourceComparison:
    """The error of one source in the earlier phase and in the finished one; ``limit`` is the maximum."""

    source: str
    before: float
    after: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """The verdict of a gate; ``forced`` is the user's reason for continuing despite a failure."""

    against: str
    error: str
    figures: tuple[SourceComparison, ...]
    passed: bool
    forced: str | None = None

    def sentence(self, gate: GateSpec) -> str:
        """Format the figures as a sentence, failed ones first."""
        parts = [
            f"{figure.source} {'passed' if figure.passed else 'failed'}: got {figure.after:.4g} after "
            f"{figure.before:.4g}; expected at most {gate.ratios[figure.source]:g} x = {figure.limit:.4g}"
            for figure in sorted(self.figures, key=lambda figure: figure.passed)
        ]
        return f"{self.error}, mean of the last {gate.window} validations: {'; '.join(parts)}"


def error_of(task: TaskSpec, metrics: Mapping[str, float], *, source: str) -> float:
    """Return the unweighted error of a task on one source: 1 - mIoU for segmentation, L1 for a map.

    The result is NaN if the source was not measured.
    """
    if task.kind == "segmentation":
        return 1.0 - metrics.get(f"val/{source}/segmentation/miou", math.nan)
    return metrics.get(f"val/{source}/{task.kind}/l1", math.nan)


def compare_phases(
    gate: GateSpec, task: TaskSpec, *, against: str, before: Sequence[Validated], after: Sequence[Validated]
) -> Verdict:
    """Compare two phases by their last validations; NaN does not pass."""
    figures = []
    for source, ratio in gate.ratios.items():
        earlier, finished = (
            _mean(
                [error_of(task, validation.metrics, source=source) for validation in history[-gate.window :]]
            )
            for history in (before, after)
        )
        figures.append(
            SourceComparison(source, earlier, finished, ratio * earlier, passed=finished <= ratio * earlier)
        )
    return Verdict(
        against=against,
        error="1 - mIoU" if task.kind == "segmentation" else "L1",
        figures=tuple(figures),
        passed=all(figure.passed for figure in figures),
    )


def evaluate_gate(
    curriculum: Curriculum, phase: str, *, run: RunDirectory, force: str | None
) -> Verdict | None:
    """Evaluate the gate of a finished phase and record its verdict; None if it has no gate.

    The gate is evaluated at every call, so that a loosened gate passes a phase that failed before. A forced
    verdict stays forced.

    Args:
        curriculum: The curriculum of the phase.
        phase: A finished phase; the phase it is compared with is finished too.
        run: The run directory with the record of both.
        force: The reason for continuing even if the gate fails.

    Raises:
        GateError: The gate fails and is not forced.
    """
    gate = curriculum.phases[phase].gate
    if gate is None:
        return None
    against = compared_with(curriculum, phase)
    require_validations(curriculum, phase, of=against, run=run)
    require_validations(curriculum, phase, of=phase, run=run)
    known = run.phases()
    verdict = compare_phases(
        gate, curriculum.task, against=against, before=known[against].history, after=known[phase].history
    )
    reason = force if force is not None else (known[phase].gate or {}).get("forced")
    if not verdict.passed and reason is not None:
        verdict = Verdict(**{**vars(verdict), "forced": reason})
    run.note_gate(phase, asdict(verdict))
    if not verdict.passed and verdict.forced is None:
        raise GateError(
            f"{curriculum.name}/{phase}: did not pass its gate against {against}. {verdict.sentence(gate)}. "
            f"Change the phase and train it again, loosen phases.{phase}.gate, or continue with --force "
            '"REASON", which is recorded.'
        )
    return verdict


def check_gates(curriculum: Curriculum, phase: str, *, run: RunDirectory, force: str | None) -> None:
    """Check that a phase may start: earlier gates have passed, and its own gate has a phase to compare with.

    Raises GateError otherwise.
    """
    finished = run.phases()
    for earlier in curriculum.earlier(phase):
        if earlier in finished:
            evaluate_gate(curriculum, earlier, run=run, force=force)
    if curriculum.phases[phase].gate is not None:
        require_validations(curriculum, phase, of=compared_with(curriculum, phase), run=run)


def require_validations(curriculum: Curriculum, phase: str, *, of: str, run: RunDirectory) -> None:
    """Raise GateError if the phase ``of``, which the gate of ``phase`` needs, has no recorded validations."""
    known = run.phases()
    if of not in known or not known[of].history:
        raise GateError(
            f"{curriculum.name}/{phase}: got no validations of {of} in {run.path / RECORD}; expected some, "
            f"which its gate compares. Train {of} first, or leave phases.{phase}.gate out."
        )


def compared_with(curriculum: Curriculum, phase: str) -> str:
    """Return the earlier phase that the gate of a phase compares with."""
    gate = curriculum.phases[phase].gate
    assert gate is not None
    return gate.against or curriculum.earlier(phase)[-1]


def gate_mistakes(
    curriculum: Curriculum, phase: str, *, rows: Sequence[IndexRow] | None
) -> Iterator[Mistake]:
    """Yield the mistakes in the gate of a phase; other checks report sources without any material."""
    gate, earlier = curriculum.phases[phase].gate, curriculum.earlier(phase)
    if gate is None:
        return
    address = f"phases.{phase}.gate"
    if not earlier:
        yield Mistake(
            address,
            "got a gate in the first phase; expected an earlier phase to compare with. Remove the gate.",
        )
    elif gate.against is not None and gate.against not in earlier:
        yield Mistake(
            f"{address}.against",
            f"got {gate.against!r}; expected an earlier phase. {suggestion(gate.against, earlier)}",
        )
    required = maps_required(curriculum.task)
    held_out = sorted({row.source for row in validated(rows or (), required=required)})
    present = {row.source for row in rows or ()}
    for source in gate.ratios:
        if source in present and source not in held_out:
            yield Mistake(
                f"{address}.ratios.{source}",
                f"got {source}, without validation textures that have the maps of the task; expected a "
                f"source with such textures. {suggestion(source, held_out)} Remove it, or prepare the set "
                "with --hold-out.",
            )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
