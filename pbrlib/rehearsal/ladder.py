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
class Rehearsed:
    """A phase with what became of it: figures and an estimate, or the reason why there are none."""

    length: PhaseLength
    crop: int
    figures: PhaseFigures | None = None
    estimate: PhaseEstimate | None = None
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether it went through both starts, and the second one found what the first had left."""
        return self.figures is not None and self.figures.restored


def rehearse_ladder(
    ladder: Ladder,
    *,
    phases: Mapping[str, Sequence[str]],
    shards: DataSet,
    scratch: Path,
    runtime: RuntimeSpec,
    launch: RankLauncher,
    say: Callable[[Rehearsed], None],
) -> list[Rehearsed]:
    """Rehearses the ``phases`` of each curriculum one by one, so that none disturbs another's figures.

    ``say`` hears of each when it has ended. Only what is no mistake of a phase is raised: an interrupt.
    """
    done: list[Rehearsed] = []
    for curriculum in map(scaled, ladder.curricula):
        for phase in phases[curriculum.name]:
            length = length_of(curriculum, phase, shards.rows)
            crop = curriculum.phases[phase].crop
            gone = {one.length.name for one in done if not one.passed}
            lost = [name for name in needs(curriculum, phase, ladder) if name in gone]
            if lost:
                done.append(Rehearsed(length, crop, error=f"not rehearsed: it builds on {', '.join(lost)}."))
                say(done[-1])
                continue
            try:
                job = resolve(curriculum, phase, shards=shards, runs=scratch, runtime=runtime)
                figures = rehearse(job, launch)
            except Exception as error:
                done.append(Rehearsed(length, crop, error=reason_of(error)))
            else:
                done.append(Rehearsed(length, crop, figures, estimate(length, figures)))
            say(done[-1])
    return done


def reason_of(error: BaseException) -> str:
    """What an error says, in a paragraph, with its kind where it says nothing."""
    text = str(error).strip()
    return text or type(error).__name__


def needs(curriculum: Curriculum, phase: str, ladder: Ladder) -> list[str]:
    """The phases whose weights one builds on, as ``albedo/A2``, those of its frozen networks too."""
    last = {one.name: tuple(one.phases)[-1] for one in ladder.curricula}
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
    """Steps and segments of a phase of a scaled curriculum."""
    spec = curriculum.phases[phase]
    epoch = epoch_figures(spec, curriculum.task, rows)
    return PhaseLength(
        curriculum=curriculum.name,
        phase=phase,
        batch=spec.batch,
        steps=epoch["total_steps"],
        segment_steps=spec.segment_steps or epoch["steps_per_epoch"],
    )
