"""Show a replayed step as lines and a table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from pbrlib.curriculum.debugstep import ReplayableStep, TurnReport


def start_lines(asked: ReplayableStep) -> Iterator[str]:
    """Yield the step that is replayed, and the checkpoint or state that the replay starts from."""
    ranks = f"{asked.world_size} rank{'s' if asked.world_size > 1 else ''} in one process"
    yield f"phase {asked.phase}, step {asked.step}, {ranks}"
    if asked.recorded is not None and asked.began_at == asked.step:
        yield f"from the state that training saved before it: {asked.start}"
        return
    between = asked.step - asked.began_at
    place = "the start of the phase" if asked.start is None else str(asked.start)
    yield f"from {place}: replays {between} step{'s' if between != 1 else ''} before it"


def turn_lines(seen: TurnReport) -> Iterator[str]:
    """Yield terms, gradients and layers of a turn, and the comparison with the values of training."""
    if seen.player is not None:
        yield f"the turn of {seen.player}"
    for name, value in seen.figures.items():
        label = {"total": "loss", "norm": "gradient norm"}.get(name, f"term {name}")
        yield f"{label:28} {value:.9g}{'' if math.isfinite(value) else '   not finite'}"
    yield from comparison_lines(seen)
    if seen.layers:
        more = f", and {len(seen.layers) - 1} after it" if len(seen.layers) > 1 else ""
        yield f"the first layer whose output is not finite: {seen.layers[0]}{more}"
    for group in seen.groups:
        broken = ", ".join(group.broken_gradients[:3])
        count = len(group.broken_gradients)
        odd = f"   {count} tensors not finite, such as {broken}" if count else ""
        yield f"group {group.name}: gradient norm {group.norm:.6g}, learning rate {group.rate:.4g}{odd}"
        if group.broken_weights:
            shown = ", ".join(group.broken_weights[:3])
            yield f"group {group.name}: weights not finite before the step: {shown}"


def comparison_lines(seen: TurnReport) -> Iterator[str]:
    """Yield the differences between the replay and the step of the training."""
    if seen.recorded is None:
        return
    differences = seen.differences()
    if not differences:
        yield "reproduced: every value equals that of training, bit for bit"
    for name, (before, now) in differences.items():
        yield f"differs: {name} was {before:.9g} in training, {now:.9g} here ({now - before:+.3g})"


def samples_table(seen: TurnReport) -> Table:
    """Return a table with a line for each sample: its loss terms, computed alone, and its ranges."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    names = list(seen.samples[0].terms) if seen.samples else []
    for name in ("rank", "sample", *names, "input", "output"):
        table.add_column(name)
    for one in seen.samples:
        values = (f"{value:.6g}" for value in one.terms.values())
        ends = (str(one.ranges["network's input"]), str(one.ranges["network's output"]))
        table.add_row(*map(Text, (str(one.rank), one.id, *values, *ends)))
    return table


def range_lines(seen: TurnReport) -> Iterator[str]:
    """Yield the range of every map over the samples, and the samples in which it is not finite."""
    for name in seen.samples[0].ranges if seen.samples else ():
        ranges = [one.ranges[name] for one in seen.samples]
        least, most = min(one.least for one in ranges), max(one.most for one in ranges)
        broken = [one.id for one in seen.samples if one.ranges[name].broken]
        odd = f"   not finite in {', '.join(dict.fromkeys(broken))}" if broken else ""
        yield f"{name:28} {least:.4g} to {most:.4g}{odd}"
