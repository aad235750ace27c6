"""Plans the draws of a phase."""

from __future__ import annotations

from collections.abc import Sequence

from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.draws.balance import merge_classes
from pbrlib.data.draws.plan import DrawPlan, PlanRequest, make_plan
from pbrlib.data.shards.index import IndexRow
from pbrlib.tasks.taskspec import maps_required, merged_classes


def phase_plan(curriculum: Curriculum, phase: str, rows: Sequence[IndexRow]) -> DrawPlan:
    """Plan a phase over the rows of an index; the curriculum must be scaled already.

    Raises DataError if a source of the phase has no usable texture.
    """
    spec = curriculum.phases[phase]
    request = PlanRequest(
        mix=spec.data,
        crop=spec.crop,
        batch=spec.batch,
        epochs=spec.epochs,
        maps=maps_required(curriculum.task),
        balance=spec.balance,
        seed=curriculum.seed,
        phase=phase,
        steps_per_epoch=spec.steps_per_epoch,
        mosaic=spec.mosaic,
    )
    return make_plan(merge_classes(rows, merged_classes(curriculum.task)), request)
