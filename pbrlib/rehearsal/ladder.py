"""Rehearses a ladder phase by phase; after a failure, phases that do not depend on it continue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pbrlib.curriculum.describe.description import epoch_figures
from pbrlib.curriculum.ladder import Ladder
from pbrlib.curriculum.references import OtherCurriculum, OwnPhase, frozen_networks, parse_donor
from pbrlib.curriculum.run import resolve
from pbrlib.curriculum.scale import scaled
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.dataset import DataSet
from pbrlib.data.shards.index import IndexRow
from pbrlib.rehearsal.estimate import PhaseEstimate, PhaseLength, estimate
from pbrlib.rehearsal.measured import PhaseFigures, RankLauncher, rehearse
from pbrlib.train.runtimespec import RuntimeSpec


@dataclass(frozen=True)
class PhaseRehearsal:
    """The result of rehearsing a phase: measurements and an estimate, or an error."""

    length: PhaseLength
    crop: int
    figures: PhaseFigures | None = None
    estimate: PhaseEstimate | None = None
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether both starts succeeded, and the second one resumed from the checkpoint of the first."""
        return self.figures is not None and self.figures.restored


def rehearse_ladder(
    ladder: Ladder,
    *,
    phases: Mapping[str, Sequence[str]],
    shards: DataSet,
    scratch: Path,
    runtime: RuntimeSpec,
    launch: RankLauncher,
    show: Callable[[PhaseRehearsal], None],
) -> list[PhaseRehearsal]:
    """Rehearse the ``phases`` of each curriculum one by one, so that they do not affect each other's times.

    ``show`` is called with the result of each phase. Errors of a phase are part of its result; only
    interrupts are raised.
    """
    done: list[PhaseRehearsal] = []
    for curriculum in map(scaled, ladder.curricula):
        for phase in phases[curriculum.name]:
            length = length_of(curriculum, phase, shards.rows)
            crop = curriculum.phases[phase].crop
            failed = {result.length.name for result in done if not result.passed}
            missing = [name for name in needs(curriculum, phase, ladder) if name in failed]
            if missing:
                error = f"not rehearsed, since it depends on {', '.join(missing)}, which failed."
                done.append(PhaseRehearsal(length, crop, error=error))
                show(done[-1])
                continue
            try:
                job = resolve(curriculum, phase, shards=shards, runs=scratch, runtime=runtime)
                figures = rehearse(job, launch)
            except Exception as caught:
                done.append(PhaseRehearsal(length, crop, error=reason_of(caught)))
            else:
                done.append(PhaseRehearsal(length, crop, figures, estimate(length, figures)))
            show(done[-1])
    return done


def reason_of(error: BaseException) -> str:
    """Return the message of an error, or its type if the message is empty."""
    text = str(error).strip()
    return text or type(error).__name__


def needs(curriculum: Curriculum, phase: str, ladder: Ladder) -> list[str]:
    """Return the phases whose weights a phase uses, as donor or frozen network, such as ``albedo/A2``."""
    last = {other.name: tuple(other.phases)[-1] for other in ladder.curricula}
    references = [*frozen_networks(curriculum.task).values()]
    if (start := curriculum.phases[phase].starts_from) is not None:
        references.append(start)
    found = []
    for reference in references:
        donor = parse_donor(reference, own_phases=curriculum.earlier(phase))
        if isinstance(donor, OwnPhase):
            found.append(f"{curriculum.name}/{donor.phase}")
        elif isinstance(donor, OtherCurriculum):
            found.append(f"{donor.curriculum}/{donor.phase or last.get(donor.curriculum)}")
    return found


def length_of(curriculum: Curriculum, phase: str, rows: Sequence[IndexRow]) -> PhaseLength:
    """Return the length of a phase of a scaled curriculum."""
    spec = curriculum.phases[phase]
    epoch = epoch_figures(spec, curriculum.task, rows)
    return PhaseLength(
        curriculum=curriculum.name,
        phase=phase,
        batch=spec.batch,
        steps=epoch["total_steps"],
        segment_steps=spec.segment_steps or epoch["steps_per_epoch"],
    )
