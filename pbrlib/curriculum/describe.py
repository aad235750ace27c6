"""What a curriculum would do, as data and as tables; nothing is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import nn

from pbrlib.curriculum.check import NOMINAL_STEPS, network_on_meta
from pbrlib.curriculum.gate import compared_with
from pbrlib.curriculum.scale import scaled
from pbrlib.curriculum.spec import Curriculum, PhaseSpec, frozen_networks, plain
from pbrlib.data.balance import merged, minority_of, minority_tiles
from pbrlib.data.plan import share, usable
from pbrlib.data.shards.index import IndexRow
from pbrlib.optim.groups import ParamGroup, parameter_groups
from pbrlib.optim.schedules import rate
from pbrlib.spec import Spec
from pbrlib.tasks.spec import TaskSpec, maps_required, merged_classes
from pbrlib.train.spec import RuntimeSpec

Described = dict[str, Any]

PER_MICRO_BATCH = ("dice", "focal_tversky")
"""Terms that are ratios of sums over a micro-batch: accumulation changes them, so a plan says so."""


def describe(
    curriculum: Curriculum, *, runtime: RuntimeSpec, rows: Sequence[IndexRow] | None = None
) -> Described:
    """A curriculum that :func:`pbrlib.curriculum.check.check` accepts, resolved to plain values for JSON.

    ``rows``, the index of a shard set, gives the number of steps; without it a phase knows its steps only
    if it bounds its epochs. Rates are those of the first step, the peak, and the last step.
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


def render(described: Described) -> RenderableType:
    """The tables of one curriculum for a terminal."""
    frozen = described["frozen_networks"]
    title = f"{described['name']}: {described['task']['kind']}, seed {described['seed']}"
    if frozen:
        title += ", frozen before it: " + ", ".join(frozen.values())
    if (scale := described["batch_scale"]) is not None:
        title += f", batches x {scale['factor']} (rates: {scale['learning_rate']})"
    blocks: list[RenderableType] = [Text(title, style="bold"), _overview(described)]
    for name, phase in described["phases"].items():
        blocks += [Text(f"\n{name}", style="bold"), _details(phase), _rate_table(phase["groups"])]
    return Group(*blocks, Text())


def _overview(described: Described) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("phase", "starts from", "data"):
        table.add_column(column, overflow="fold")
    for column in ("crop", "batch", "per worker", "micro", "epochs", "steps"):
        table.add_column(column, justify="right")
    for name, phase in described["phases"].items():
        table.add_row(
            Text(name),
            Text(phase["starts_from"] or "fresh"),
            Text(_mix(phase["data"])),
            str(phase["crop"]),
            str(phase["batch"]),
            " + ".join(map(str, phase["batch_of_workers"])) if described["workers"] <= 4 else _span(phase),
            str(phase["micro_batches"]),
            str(phase["epochs"]),
            "by data" if phase["total_steps"] is None else str(phase["total_steps"]),
        )
    return table


def _span(phase: Described) -> str:
    parts = phase["batch_of_workers"]
    low, high = min(parts), max(parts)
    return f"{len(parts)} x {low}" if low == high else f"{len(parts)} x {low} to {high}"


def _details(phase: Described) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    loss = phase["loss"]
    if phase["per_micro_batch"]:
        loss += f"   ({', '.join(phase['per_micro_batch'])} per micro-batch, over all workers)"
    table.add_row("loss", Text(loss))
    table.add_row("schedule", Text(f"{phase['schedule']}; gradient norm at most {phase['grad_clip']:g}"))
    table.add_row("augment", Text(phase["text"]["augment"]))
    table.add_row("balance", Text(phase["text"]["balance"] + _tiles(phase["minority_tiles"])))
    if mosaic := phase["mosaic"]:
        shares = f"{mosaic['two']:.0%} in halves, {mosaic['four']:.0%} in quarters"
        table.add_row("mosaic", Text(f"of {', '.join(mosaic['sources'])} {shares}"))
    select = phase["select"]
    table.add_row("select", Text(f"{select['mode']} {select['metric']}, {_segments(phase)}"))
    if phase["plateau"] is not None:
        table.add_row("plateau", Text(f"ends after {phase['plateau']} epochs without improvement"))
    if (gate := phase["gate"]) is not None:
        limits = ", ".join(f"{source} at most {ratio:g} x" for source, ratio in gate["ratios"].items())
        over = f"mean error of the last {gate['window']} validations"
        table.add_row("gate", Text(f"against {gate['against']}: {limits}; {over}"))
    if phase["left_out"]:
        reasons = "; ".join(f"{count} with {reason}" for reason, count in phase["left_out"].items())
        table.add_row("left out", Text(reasons))
    return table


def _tiles(found: Mapping[str, int] | None) -> str:
    if found is None:
        return ""
    counts = (f"{count or 'none'} in {name}" for name, count in found.items())
    return f" (minority tiles to draw: {', '.join(counts)})"


def _segments(phase: Described) -> str:
    steps = phase["segment_steps"]
    return "validated every epoch" if steps is None else f"validated every {steps} steps"


def _mix(data: Mapping[str, float]) -> str:
    return (
        next(iter(data)) if len(data) == 1 else ", ".join(f"{name} {part:.0%}" for name, part in data.items())
    )


def _rate_table(groups: Sequence[Described]) -> Table:
    """One line a group; parameters without weight decay share the line of those with it."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("group")
    for column in ("first rate", "peak", "last", "weight decay", "tensors"):
        table.add_column(column, justify="right")
    lines: dict[str, list[Described]] = {}
    for group in groups:
        lines.setdefault(group["name"].removesuffix("/no_decay"), []).append(group)
    for name, members in lines.items():
        tensors = str(sum(member["tensors"] for member in members))
        rates = members[0]["rates"]
        if rates is None:
            table.add_row(Text(name), "frozen", "", "", "", tensors)
            continue
        decay = max(member["weight_decay"] for member in members)
        shown = [f"{rates[key]:.3g}" for key in ("first", "peak", "last")]
        table.add_row(Text(name), *shown, f"{decay:g}", tensors)
    return table
