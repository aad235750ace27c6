"""Describes the training of a ladder as data, without starting anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from pbrlib.curriculum.check.curriculum import networks_of
from pbrlib.curriculum.check.players import NOMINAL_STEPS
from pbrlib.curriculum.describe.departures import departures
from pbrlib.curriculum.describe.phrases import phrases
from pbrlib.curriculum.gate import compared_with
from pbrlib.curriculum.ladder import Ladder
from pbrlib.curriculum.references import OtherCurriculum, frozen_networks, parse_donor
from pbrlib.curriculum.scale import scaled
from pbrlib.curriculum.spec import Curriculum, PhasePlayer, PhaseSpec, plain
from pbrlib.data.draws.balance import merge_classes, minority_of, minority_tiles
from pbrlib.data.draws.plan import share, usable_rows
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.index import IndexRow
from pbrlib.models.build import build_on_meta
from pbrlib.models.roles import INPUT_CHANNELS
from pbrlib.optim.groups import ParamGroup, parameter_groups, stage_of
from pbrlib.optim.schedules import rate
from pbrlib.tasks.start import declared_by, renewed
from pbrlib.tasks.taskspec import SegmentationSpec, TaskSpec, maps_required, merged_classes
from pbrlib.train.runtimespec import RuntimeSpec

Described = dict[str, Any]


def describe_ladder(
    ladder: Ladder,
    *,
    runtime: RuntimeSpec,
    rows: Sequence[IndexRow] | None = None,
    data: DataSpec | None = None,
) -> Described:
    """Describe every curriculum of a checked ladder, and the waves in which they train, as JSON values.

    ``rows`` are the materials of ``data``.
    """
    curricula = ladder.curricula
    return {
        "data": None if data is None else _data(data, rows or ()),
        "waves": [[entry.curriculum.name for entry in wave] for wave in ladder.waves],
        "runtime": plain(runtime),
        "families": {
            curriculum.name: describe(curriculum, runtime=runtime, rows=rows, curricula=curricula)
            for curriculum in curricula
        },
    }


def _data(data: DataSpec, rows: Sequence[IndexRow]) -> Described:
    """Describe the data: locations, materials per source, and renamed sources."""
    return {
        "places": list(map(str, data.places)),
        "materials": dict(sorted(Counter(row.source for row in rows).items())),
        "sources": dict(data.renamed),
    }


def describe(
    curriculum: Curriculum,
    *,
    runtime: RuntimeSpec,
    rows: Sequence[IndexRow] | None = None,
    curricula: Sequence[Curriculum] = (),
) -> Described:
    """Describe a curriculum as JSON values: its settings, and the values derived from them.

    Learning rates are those of the first step, the peak and the last step.

    Args:
        curriculum: The curriculum.
        runtime: Workers, devices and precision.
        rows: The index of the data; without it, the number of steps is known only for phases that set
            ``steps_per_epoch``.
        curricula: The curricula of the same command; they determine the parameters that a phase with a donor
            of another role initialises.
    """
    batch_scale, curriculum = curriculum.batch_scale, scaled(curriculum)
    networks = networks_of(curriculum.task)
    return {
        "name": curriculum.name,
        "seed": curriculum.seed,
        "batch_scale": plain(batch_scale),
        "task": plain(curriculum.task),
        "network": _network(curriculum.task, curricula),
        "frozen_networks": frozen_networks(curriculum.task),
        "phases": {
            name: {
                **_phase(phase, curriculum.task, networks=networks, runtime=runtime, rows=rows),
                "drawn_anew": _drawn_anew(phase.starts_from, curriculum, curricula),
                "gate": _gate(curriculum, name),
            }
            for name, phase in curriculum.phases.items()
        },
    }


def _network(task: TaskSpec, curricula: Sequence[Curriculum]) -> Described:
    """Describe a network's channels and sizes; values that depend on an outside network are None."""
    conditioned = _condition_channels(task, curricula)
    declared = declared_by(task, condition_channels=conditioned or 1)
    known = declared.condition_channels is None or conditioned is not None
    return {
        "inputs": {name: INPUT_CHANNELS[name] for name in declared.inputs},
        "outputs": dict(declared.outputs),
        "condition_channels": conditioned,
        "parameters": _count(build_on_meta(declared)) if known else None,
    }


def parameters_of(curriculum: Curriculum, *, curricula: Sequence[Curriculum]) -> int | None:
    """Return the number of parameters of a network; None if it depends on an unknown outside network."""
    found: int | None = _network(curriculum.task, curricula)["parameters"]
    return found


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _condition_channels(task: TaskSpec, curricula: Sequence[Curriculum]) -> int | None:
    """Return the number of channels that condition a map network; None if its segmentation is unknown."""
    reference = frozen_networks(task).get("segformer")
    donor = None if reference is None else parse_donor(reference)
    for other in curricula:
        if not (isinstance(donor, OtherCurriculum) and donor.curriculum == other.name):
            continue
        if isinstance(other.task, SegmentationSpec):
            (network,) = networks_of(other.task).values()
            return network.feature_channels
    return None


def _phase(
    phase: PhaseSpec,
    task: TaskSpec,
    *,
    networks: Mapping[str, nn.Module],
    runtime: RuntimeSpec,
    rows: Sequence[IndexRow] | None,
) -> Described:
    epoch = epoch_figures(phase, task, rows)
    parts = [share(phase.batch, rank=rank, world=runtime.workers) for rank in range(runtime.workers)]
    return {
        "starts_from": phase.starts_from,
        "data": dict(phase.data),
        "crop": phase.crop,
        "batch": phase.batch,
        "batch_of_workers": [stop - start for start, stop in parts],
        "micro_batches": runtime.micro_batches(phase.batch),
        "epochs": phase.epochs,
        **epoch,
        "segment_steps": phase.segment_steps or epoch["steps_per_epoch"],
        **_learning(phase, networks, steps_per_epoch=epoch["steps_per_epoch"] or NOMINAL_STEPS),
        "augment": plain(phase.augment),
        "balance": plain(phase.balance),
        "minority_tiles": _minority_tiles(phase, task, rows),
        "mosaic": plain(phase.mosaic),
        "select": plain(phase.select),
        "plateau": phase.plateau,
        "departures": departures(phase, task, runtime, rows=rows),
        "text": {"augment": phrases(phase.augment), "balance": _balance(phase, task)},
    }


def _learning(phase: PhaseSpec, networks: Mapping[str, nn.Module], *, steps_per_epoch: int) -> Described:
    """Describe optimizer, schedule and loss of the only player, or of each player below ``players``."""
    described: dict[str, Described] = {}
    for player in phase.by_player():
        epochs = phase.epochs - player.spec.start_epoch
        network = networks[player.name_in(networks)]
        groups = _groups(player, network, epochs=epochs, steps_per_epoch=steps_per_epoch)
        own = _player(player, groups)
        if player.name is None:
            return own
        described[player.name] = {"start_epoch": player.spec.start_epoch, **own}
    return {"players": described}


def _player(player: PhasePlayer, groups: list[Described]) -> Described:
    spec = player.spec
    return {
        "optimizer": {"kind": spec.optimizer.kind, "betas": list(spec.optimizer.betas)},
        "groups": groups,
        "schedule": {**plain(spec.schedule), "text": spec.schedule.describe()},
        "grad_clip": player.grad_clip,
        "loss": {"terms": plain(spec.loss), "formula": spec.loss.formula()},
    }


def _drawn_anew(
    reference: str | None, curriculum: Curriculum, curricula: Sequence[Curriculum]
) -> Described | None:
    """Return the channels and tensors that a donor of another role does not have; None if unknown."""
    donor = None if reference is None else parse_donor(reference, own_phases=tuple(curriculum.phases))
    tasks = {other.name: other.task for other in curricula}
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


def epoch_figures(phase: PhaseSpec, task: TaskSpec, rows: Sequence[IndexRow] | None) -> Described:
    """Return steps and usable textures, counted as in `pbrlib.data.draws.plan.make_plan`; None if unknown."""
    textures, left_out = None, None
    if rows is not None:
        own = [row for row in rows if row.source in phase.data]
        kept, left_out = usable_rows(own, maps=maps_required(task), crop=phase.crop)
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


def _balance(phase: PhaseSpec, task: TaskSpec) -> list[str]:
    """Describe the measures against rare classes; only segmentation has class weights."""
    is_weighted = task.kind == "segmentation" and phase.balance.class_weights
    return [*(["class weights w_c"] if is_weighted else []), *phrases(phase.balance)]


def _minority_tiles(
    phase: PhaseSpec, task: TaskSpec, rows: Sequence[IndexRow] | None
) -> dict[str, int] | None:
    """Return the number of minority tiles of each source; None if none are drawn or the data is unknown."""
    if rows is None or not phase.balance.minority_tiles:
        return None
    own = merge_classes([row for row in rows if row.source in phase.data], merged_classes(task))
    kept, _ = usable_rows(own, maps=maps_required(task), crop=phase.crop)
    drawn = [own[number] for number in kept]
    tiles = minority_tiles(drawn, crop=phase.crop, minority=minority_of(drawn, phase.balance))
    sources = [drawn[number].source for number in tiles.row]
    return {name: sources.count(name) for name in phase.data}


def _groups(player: PhasePlayer, network: nn.Module, *, epochs: int, steps_per_epoch: int) -> list[Described]:
    return [
        {
            "name": group.name,
            "parts": list(dict.fromkeys(map(_part, group.names))),
            "frozen": group.frozen,
            "tensors": len(group.names),
            "layer_factor": group.factor,
            "weight_decay": group.weight_decay,
            "rates": None
            if group.frozen
            else _rates(group, player, epochs=epochs, steps_per_epoch=steps_per_epoch),
        }
        for group in parameter_groups(network, player.spec.optimizer)
    ]


def _part(name: str) -> str:
    """Return the part of a network that a parameter belongs to: an encoder stage, decoder, film or head."""
    stage = stage_of(name)
    return name.partition(".")[0] if stage is None else f"encoder.stages.{stage}"


def _rates(group: ParamGroup, player: PhasePlayer, *, epochs: int, steps_per_epoch: int) -> Described:
    total = steps_per_epoch * epochs

    def at(step: int) -> float:
        return rate(
            player.spec.schedule,
            group_lr=group.lr,
            group_factor=group.factor,
            step=step,
            total_steps=total,
            steps_per_epoch=steps_per_epoch,
            group_final=group.final,
            reference_lr=player.spec.optimizer.lr,
        )

    return {"first": at(0), "peak": group.lr, "last": at(total - 1)}
