"""What a curriculum would do, as data; nothing is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from pbrlib.curriculum.check import NOMINAL_STEPS, network_on_meta
from pbrlib.curriculum.gate import compared_with
from pbrlib.curriculum.scale import scaled
from pbrlib.curriculum.spec import (
    Curriculum,
    OtherCurriculum,
    PhaseSpec,
    frozen_networks,
    parse_donor,
    plain,
)
from pbrlib.data.balance import merged, minority_of, minority_tiles
from pbrlib.data.plan import share, usable
from pbrlib.data.shards.index import IndexRow
from pbrlib.optim.groups import ParamGroup, parameter_groups
from pbrlib.optim.schedules import rate
from pbrlib.spec import Spec
from pbrlib.tasks.spec import TaskSpec, maps_required, merged_classes
from pbrlib.tasks.start import declared_by, renewed
from pbrlib.train.spec import RuntimeSpec

Described = dict[str, Any]

PER_MICRO_BATCH = ("dice", "focal_tversky")
"""Terms that are ratios of sums over a micro-batch: accumulation changes them, so a plan says so."""


def describe(
    curriculum: Curriculum,
    *,
    runtime: RuntimeSpec,
    rows: Sequence[IndexRow] | None = None,
    family: Sequence[Curriculum] = (),
) -> Described:
    """A curriculum that :func:`pbrlib.curriculum.check.check` accepts, resolved to plain values for JSON.

    ``rows``, the index of a shard set, gives the number of steps; without it a phase knows its steps only
    if it bounds its epochs. ``family``, the curricula beside this one, tells what a phase that begins from
    one of them draws anew. Rates are those of the first step, the peak, and the last step.
    """
    batch_scale, curriculum = curriculum.batch_scale, scaled(curriculum)
    network = network_on_meta(curriculum.task)
    return {
        "name": curriculum.name,
        "seed": curriculum.seed,
        "batch_scale": plain(batch_scale),
        "task": plain(curriculum.task),
        "frozen_networks": frozen_networks(curriculum.task),
        "precision": runtime.precision,
        "workers": runtime.workers,
        "phases": {
            name: {
                **_phase(phase, curriculum.task, network=network, runtime=runtime, rows=rows),
                "drawn_anew": _drawn_anew(phase.starts_from, curriculum, family),
                "gate": _gate(curriculum, name),
            }
            for name, phase in curriculum.phases.items()
        },
    }


def _phase(
    phase: PhaseSpec,
    task: TaskSpec,
    *,
    network: nn.Module,
    runtime: RuntimeSpec,
    rows: Sequence[IndexRow] | None,
) -> Described:
    epoch = _epoch(phase, task, rows)
    micro_batches = runtime.micro_batches(phase.batch)
    parts = [share(phase.batch, rank=rank, world=runtime.workers) for rank in range(runtime.workers)]
    noted = [name for name in PER_MICRO_BATCH if name in phase.loss.terms()]
    return {
        "starts_from": phase.starts_from,
        "data": dict(phase.data),
        "crop": phase.crop,
        "batch": phase.batch,
        "batch_of_workers": [stop - start for start, stop in parts],
        "micro_batches": micro_batches,
        "epochs": phase.epochs,
        **epoch,
        "segment_steps": phase.segment_steps or epoch["steps_per_epoch"],
        "groups": _groups(phase, network, steps_per_epoch=epoch["steps_per_epoch"] or NOMINAL_STEPS),
        "schedule": phase.schedule.describe(),
        "grad_clip": phase.grad_clip,
        "loss": phase.loss.formula(),
        "per_micro_batch": noted if micro_batches > 1 else [],
        "augment": plain(phase.augment),
        "balance": plain(phase.balance),
        "minority_tiles": _minority_tiles(phase, task, rows),
        "mosaic": plain(phase.mosaic),
        "select": plain(phase.select),
        "plateau": phase.plateau,
        "text": {"augment": compact(phase.augment), "balance": compact(phase.balance)},
    }


def _drawn_anew(
    reference: str | None, curriculum: Curriculum, family: Sequence[Curriculum]
) -> Described | None:
    """Channels and tensors that do not come from a donor of another role; None where that is not known."""
    donor = None if reference is None else parse_donor(reference, own_phases=tuple(curriculum.phases))
    tasks = {other.name: other.task for other in family}
    if not isinstance(donor, OtherCurriculum) or donor.curriculum not in tasks:
        return None
    theirs, own = (
        declared_by(task, condition_channels=1) for task in (tasks[donor.curriculum], curriculum.task)
    )
    return {name: list(found) for name, found in renewed(theirs, own).items()} or None


def _gate(curriculum: Curriculum, phase: str) -> Described | None:
    gate = curriculum.phases[phase].gate
    if gate is None:
        return None
    return {
        "against": compared_with(curriculum, phase),
        "ratios": dict(gate.ratios),
        "window": gate.window,
    }


def _epoch(phase: PhaseSpec, task: TaskSpec, rows: Sequence[IndexRow] | None) -> Described:
    """Steps and usable textures, as :func:`pbrlib.data.plan.make_plan` counts them; None where unknown."""
    textures, left_out = None, None
    if rows is not None:
        own = [row for row in rows if row.source in phase.data]
        kept, left_out = usable(own, maps=maps_required(task), crop=phase.crop)
        textures = len(kept)
    steps = phase.steps_per_epoch
    if steps is None and textures is not None:
        steps = -(-textures // phase.batch)
    return {
        "textures": textures,
        "left_out": left_out,
        "steps_per_epoch": steps,
        "total_steps": None if steps is None else steps * phase.epochs,
    }


def _minority_tiles(
    phase: PhaseSpec, task: TaskSpec, rows: Sequence[IndexRow] | None
) -> dict[str, int] | None:
    """How many minority tiles each source has to draw from; None where none are drawn or data is unknown."""
    if rows is None or not phase.balance.minority_tiles:
        return None
    own = merged([row for row in rows if row.source in phase.data], merged_classes(task))
    kept, _ = usable(own, maps=maps_required(task), crop=phase.crop)
    drawn = [own[number] for number in kept]
    tiles = minority_tiles(drawn, crop=phase.crop, minority=minority_of(drawn, phase.balance))
    sources = [drawn[number].source for number in tiles.row]
    return {name: sources.count(name) for name in phase.data}


def _groups(phase: PhaseSpec, network: nn.Module, *, steps_per_epoch: int) -> list[Described]:
    return [
        {
            "name": group.name,
            "frozen": group.frozen,
            "tensors": len(group.names),
            "weight_decay": group.weight_decay,
            "rates": None if group.frozen else _rates(group, phase, steps_per_epoch=steps_per_epoch),
        }
        for group in parameter_groups(network, phase.optimizer)
    ]


def _rates(group: ParamGroup, phase: PhaseSpec, *, steps_per_epoch: int) -> Described:
    total = steps_per_epoch * phase.epochs

    def at(step: int) -> float:
        return rate(
            phase.schedule,
            group_lr=group.lr,
            group_factor=group.factor,
            step=step,
            total_steps=total,
            steps_per_epoch=steps_per_epoch,
            group_final=group.final,
            reference_lr=phase.optimizer.lr,
        )

    return {"first": at(0), "peak": group.lr, "last": at(total - 1)}


def compact(spec: Spec) -> str:
    """What a spec sets apart from its defaults, in a phrase: ``flip, sky_photometric(p 0.6)``."""
    phrases = []
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if value == field.get_default(call_default_factory=True) or value is None:
            continue
        if isinstance(value, bool):
            phrases.append(name if value else f"no {name}")
        else:
            phrases.append(_phrase(name, plain(value) if isinstance(value, Spec) else value))
    return ", ".join(phrases) or "-"


def _phrase(name: str, value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"{name} {value}"
    return f"{name}({', '.join(_phrase(key, plain(entry)) for key, entry in value.items())})"
