"""The tables of a described curriculum for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pbrlib.curriculum.describe import Described


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
    if (anew := phase["drawn_anew"]) is not None:
        inputs = dict.fromkeys(channel.rpartition(".")[0] for channel in anew["channels"])
        table.add_row(
            "drawn anew", Text(", ".join([*(f"input {name}" for name in inputs), *anew["tensors"]]))
        )
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
