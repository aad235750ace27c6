"""Checks a curriculum against its networks, the runtime and the shards, and reports all mistakes at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from pbrlib.curriculum.check.donors import donor_mistakes
from pbrlib.curriculum.check.metricnames import metric_names
from pbrlib.curriculum.check.players import player_mistakes
from pbrlib.curriculum.check.sampling import balance_mistakes, merge_mistakes, mosaic_mistakes
from pbrlib.curriculum.gate import gate_mistakes
from pbrlib.curriculum.mistakes import Mistake, raise_mistakes, suggestion
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
        curriculum: The curriculum, as `pbrlib.curriculum.config.load` returns it.
        place: Where the curriculum comes from, such as its file; the error begins with it.
        runtime: If given, batches are checked against workers and devices.
        rows: The index of the shard set; if given, sources, maps and sizes are checked.
        curricula: The curricula of the same command, whose phases may be donors.
        running: The phases that the runtime will run; None for all phases.

    Raises:
        ConfigError: Lists every mistake with its address.
    """
    curriculum = scaled(curriculum)
    running = curriculum.phases if running is None else running
    raise_mistakes(place, list(_mistakes(curriculum, runtime, rows, curricula, running)))


def networks_of(task: TaskSpec) -> dict[str, AnyNetwork]:
    """Build the networks of a task on the meta device, by the names of its players.

    The conditioning has one channel here, since its size is known only with the donor.
    """
    declared = declared_by(task, condition_channels=1)
    return {declared.role: build_on_meta(declared)}


def required_stride(task: TaskSpec, network: Network) -> tuple[int, str]:
    """Return the stride that must divide the crops of a task, and the network that requires it.

    A map network also needs the stride of the segmentation that conditions it. Both are powers of two.
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
    stride, owner = required_stride(task, network)
    if crop % stride:
        below, above = crop // stride * stride, -(-crop // stride) * stride
        advice = f"{below} or {above}" if below else str(above)
        yield Mistake(
            address, f"got {crop}; expected a multiple of {stride}, the stride of {owner}. Use {advice}."
        )


def _select(
    address: str, phase: PhaseSpec, task: TaskSpec, rows: Sequence[IndexRow] | None
) -> Iterator[Mistake]:
    metric = phase.select.metric
    source = source_of_metric(metric)
    names = metric_names(task, source=source)
    if metric not in names:
        yield Mistake(
            address, f"got {metric!r}; expected a metric of {task.kind}. {suggestion(metric, names)}"
        )
    elif (
        rows is not None
        and source in {row.source for row in rows}
        and source not in {row.source for row in validated(rows, required=maps_required(task))}
    ):
        yield Mistake(
            address,
            f"got source {source!r}, without validation textures that have the maps of the task; expected a "
            "source with such textures. Use val/all/... .",
        )


def _batch(address: str, batch: int, runtime: RuntimeSpec) -> Iterator[Mistake]:
    if batch < runtime.workers:
        yield Mistake(
            address,
            f"got {batch} for {runtime.workers} workers; expected at least one sample per worker. "
            f"Set workers to at most {batch} in the runtime file, or a larger batch.",
        )
    elif batch // runtime.workers < runtime.micro_batches(batch):
        yield Mistake(
            address,
            f"got {batch} for {runtime.workers} workers with {runtime.micro_batches(batch)} micro-batches "
            "each; expected at least one sample per micro-batch. Set a larger batch_per_device in the "
            "runtime file, or fewer workers.",
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
                f"got no usable training texture ({reasons or 'all are for validation'}); expected at "
                "least one. Prepare suitable textures, set a smaller crop, or remove the source.",
            )


def _validation(task: TaskSpec, rows: Sequence[IndexRow]) -> Iterator[Mistake]:
    if not validated(rows, required=maps_required(task)):
        yield Mistake(
            "task",
            f"got no validation texture with {', '.join(maps_required(task))}; expected at least one, to "
            "select the best checkpoint. Prepare the set with a larger --val-share.",
        )


def _measured(curriculum: Curriculum, rows: Sequence[IndexRow]) -> Iterator[Mistake]:
    for phase in curriculum.phases.values():
        try:
            measured(curriculum.task, rows, mix=phase.data)
        except ConfigError as error:
            yield Mistake("", str(error))
