"""Checks a curriculum against its networks, the runtime and the shards, and reports all mistakes at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from pbrlib.curriculum.check.donors import donor_mistakes
from pbrlib.curriculum.check.metricnames import metric_names
from pbrlib.curriculum.check.players import player_mistakes
from pbrlib.curriculum.check.sampling import balance_mistakes, merge_mistakes, mosaic_mistakes
from pbrlib.curriculum.gate import gate_mistakes
from pbrlib.curriculum.mistakes import Mistake, refuse, suggestion
from pbrlib.curriculum.references import frozen_networks
from pbrlib.curriculum.scale import scaled
from pbrlib.curriculum.sources import source_mistakes, source_of_metric
from pbrlib.curriculum.spec import Curriculum, PhaseSpec
from pbrlib.data.draws.plan import usable_rows
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import ConfigError
from pbrlib.models.build import AnyNetwork, build_on_meta
from pbrlib.models.network import Network
from pbrlib.models.roles import CONDITIONING_STRIDE
from pbrlib.tasks.build import measured
from pbrlib.tasks.start import declared_by
from pbrlib.tasks.taskspec import TaskSpec, maps_required
from pbrlib.train.runtimespec import RuntimeSpec
from pbrlib.train.validation import validated


def check(
    curriculum: Curriculum,
    *,
    place: str,
    runtime: RuntimeSpec | None = None,
    rows: Sequence[IndexRow] | None = None,
    curricula: Sequence[Curriculum] = (),
    running: Collection[str] | None = None,
) -> None:
    """Raise ConfigError for a curriculum that cannot run.

    Args:
        curriculum: Valid by itself.
        place: Names the curriculum in the error, such as its file.
        runtime: Where given, batches are checked against workers and devices.
        rows: The index of the shard set; where given, sources, maps and sizes are checked.
        curricula: Curricula that run beside this one, whose phases its donors may name.
        running: The phases that this runtime will run; None is all of them.

    Raises:
        ConfigError: Lists every mistake with its address.
    """
    curriculum = scaled(curriculum)
    running = curriculum.phases if running is None else running
    refuse(place, list(_mistakes(curriculum, runtime, rows, curricula, running)))


def networks_of(task: TaskSpec) -> dict[str, AnyNetwork]:
    """Build the networks of a task on the meta device, by the names of its players.

    One channel stands for the conditioning, which a donor gives.
    """
    declared = declared_by(task, condition_channels=1)
    return {declared.role: build_on_meta(declared)}


def stride(task: TaskSpec, network: Network) -> tuple[int, str]:
    """Return the stride that must divide the crops of a task, and the network that requires it.

    A map network is conditioned on features of the same crop, so both strides hold; they are powers of two.
    """
    if task.kind == "segmentation" or network.stride > CONDITIONING_STRIDE:
        return network.stride, task.model.kind
    return CONDITIONING_STRIDE, "segformer"


def _mistakes(
    curriculum: Curriculum,
    runtime: RuntimeSpec | None,
    rows: Sequence[IndexRow] | None,
    curricula: Sequence[Curriculum],
    running: Collection[str],
) -> Iterator[Mistake]:
    networks = networks_of(curriculum.task)
    known = {other.name: other for other in curricula if other.name != curriculum.name}
    for field, reference in frozen_networks(curriculum.task).items():
        yield from donor_mistakes(f"task.{field}", reference, own=None, earlier=(), known=known)
    yield from merge_mistakes(curriculum.task)
    if rows is not None:
        yield from source_mistakes(curriculum, rows)
        yield from _validation(curriculum.task, rows)
        yield from _measured(curriculum, rows)
    for name, phase in curriculum.phases.items():
        address = f"phases.{name}"
        if phase.starts_from is not None:
            place, earlier = f"{address}.starts_from", curriculum.earlier(name)
            yield from donor_mistakes(place, phase.starts_from, own=curriculum, earlier=earlier, known=known)
        coarsest = max(networks.values(), key=lambda network: network.stride)
        yield from _crop(f"{address}.crop", phase.crop, curriculum.task, coarsest)
        yield from balance_mistakes(f"{address}.balance", phase.balance, curriculum.task)
        yield from mosaic_mistakes(f"{address}.mosaic", phase)
        yield from player_mistakes(address, phase, curriculum.task, networks)
        yield from _select(f"{address}.select.metric", phase, curriculum.task, rows)
        if runtime is not None and name in running:
            yield from _batch(f"{address}.batch", phase.batch, runtime)
        yield from gate_mistakes(curriculum, name, rows=rows)
        if rows is not None:
            yield from _data(f"{address}.data", phase, curriculum.task, rows)


def _crop(address: str, crop: int, task: TaskSpec, network: Network) -> Iterator[Mistake]:
    step, owner = stride(task, network)
    if crop % step:
        below, above = crop // step * step, -(-crop // step) * step
        advice = f"{below} or {above}" if below else str(above)
        yield Mistake(address, f"{crop} is not a multiple of {step}, the stride of {owner}. Use {advice}.")


def _select(
    address: str, phase: PhaseSpec, task: TaskSpec, rows: Sequence[IndexRow] | None
) -> Iterator[Mistake]:
    metric = phase.select.metric
    source = source_of_metric(metric)
    names = metric_names(task, source=source)
    if metric not in names:
        yield Mistake(address, f"{metric!r} is not measured for {task.kind}. {suggestion(metric, names)}")
    elif (
        rows is not None
        and source in {row.source for row in rows}
        and source not in {row.source for row in validated(rows, required=maps_required(task))}
    ):
        yield Mistake(
            address, f"no validation texture of source {source!r} has what the task needs. Use val/all/... ."
        )


def _batch(address: str, batch: int, runtime: RuntimeSpec) -> Iterator[Mistake]:
    if batch < runtime.workers:
        yield Mistake(
            address,
            f"{runtime.workers} workers cannot share a batch of {batch}. "
            f"Set workers to {batch} or less in the runtime file, or take a larger batch.",
        )
    elif batch // runtime.workers < runtime.micro_batches(batch):
        yield Mistake(
            address,
            f"{batch} samples over {runtime.workers} workers in {runtime.micro_batches(batch)} micro-batches "
            "leave some empty. Raise batch_per_device in the runtime file, or use fewer workers.",
        )


def _data(address: str, phase: PhaseSpec, task: TaskSpec, rows: Sequence[IndexRow]) -> Iterator[Mistake]:
    for name in phase.data:
        own = [row for row in rows if row.source == name]
        if not own:  # source_mistakes reports this
            continue
        kept, left_out = usable_rows(own, maps=maps_required(task), crop=phase.crop)
        if not kept:
            reasons = "; ".join(f"{count} with {reason}" for reason, count in left_out.items())
            yield Mistake(
                f"{address}.{name}",
                f"none of its training textures can be used ({reasons or 'all are for validation'}). "
                "Prepare such textures, choose a smaller crop, or leave the source out.",
            )


def _validation(task: TaskSpec, rows: Sequence[IndexRow]) -> Iterator[Mistake]:
    if not validated(rows, required=maps_required(task)):
        yield Mistake(
            "task",
            f"no validation texture of the shard set has {', '.join(maps_required(task))}, so no checkpoint "
            "could be chosen. Prepare the set with a larger --val-share.",
        )


def _measured(curriculum: Curriculum, rows: Sequence[IndexRow]) -> Iterator[Mistake]:
    for phase in curriculum.phases.values():
        try:
            measured(curriculum.task, rows, mix=phase.data)
        except ConfigError as error:
            yield Mistake("", str(error))
