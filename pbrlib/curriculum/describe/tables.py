"""Formats a described ladder as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from pbrlib.curriculum.describe.description import Described
from pbrlib.curriculum.describe.layout import LABEL_WIDTH, grouped, joined, labelled_lines, plain_table


def render_ladder(described: Described) -> RenderableType:
    """Render the runtime, the data, the waves and every curriculum of a ladder."""
    return Group(
        _title("ladder"),
        labelled_lines([("runtime", joined(_runtime(described["runtime"]))), *_data(described["data"])]),
        Text(),
        _waves(described),
        Text(),
        *(render(curriculum) for curriculum in described["families"].values()),
    )


def render(described: Described) -> RenderableType:
    """Render the overview of one curriculum, and a block for each of its phases."""
    title = f"{described['name']}: {described['task']['kind']}, seed {described['seed']}"
    if (scale := described["batch_scale"]) is not None:
        title += f", batches x {scale['factor']} (rates: {scale['learning_rate']})"
    blocks: list[RenderableType] = [
        _title(title),
        labelled_lines(_about(described)),
        Text(),
        _overview(described),
    ]
    for name, phase in described["phases"].items():
        blocks += [Text(), _heading(name, phase)]
        players: Mapping[str, Described] = phase.get("players", {})
        if not players:
            blocks += [labelled_lines([*_learning(phase), *_details(phase)]), _groups(phase)]
            continue
        blocks.append(labelled_lines(_details(phase)))
        for player, own in players.items():
            start = [f"from epoch {own['start_epoch']}"] if own["start_epoch"] else []
            blocks += [labelled_lines([("player", joined([player, *start])), *_learning(own)]), _groups(own)]
    return Group(*blocks, Text())


def _title(text: str) -> Rule:
    return Rule(Text(text, style="bold"), align="left", style="dim")


def _runtime(spec: Described) -> list[str]:
    """Return the settings of the runtime that matter in a plan."""
    workers = f"{spec['workers']} worker{'s' if spec['workers'] > 1 else ''} on {spec['device']}"
    batch = spec.get("batch_per_device")
    pieces = [] if batch is None else [f"at most {batch} samples per device at a time"]
    cache = spec.get("tile_cache")
    pieces += ["compiled"] if spec["compile"] else []
    if cache is not None:
        folder = cache.get("folder", "the temporary folder")
        pieces.append(f"a tile cache of {cache['gib']:g} GiB on each node, in {folder}")
    return [workers, spec["precision"], *pieces]


def _data(data: Described | None) -> list[tuple[str, list[str]]]:
    """Return the rows about the data: locations, sources, and renamed sources."""
    if data is None:
        return []
    counts = [f"{source} ({grouped(count)} materials)" for source, count in data["materials"].items()]
    renamed = [f"{name} is {source}" for name, source in data["sources"].items()]
    return [("data", joined(data["places"])), ("sources", joined([*counts, *renamed]))]


def _waves(described: Described) -> Table:
    table = plain_table()
    for column in ("wave", "curriculum", "depends on", "phases"):
        table.add_column(column, no_wrap=True)
    for column in ("epochs", "steps", "samples"):
        table.add_column(column, justify="right")
    for number, names in enumerate(described["waves"]):
        for position, name in enumerate(names):
            curriculum = described["families"][name]
            phases = curriculum["phases"].values()
            steps = [phase["total_steps"] for phase in phases]
            samples = [phase["batch"] * total for phase, total in zip(phases, steps, strict=True) if total]
            table.add_row(
                "" if position else str(number + 1),
                Text(name),
                Text(", ".join(_donors(curriculum)) or "-"),
                Text(_span(list(curriculum["phases"]))),
                str(sum(phase["epochs"] for phase in phases)),
                "by data" if None in steps else grouped(sum(steps)),
                "by data" if None in steps else grouped(sum(samples)),
            )
    return table


def _donors(curriculum: Described) -> list[str]:
    """Return the outside networks that a curriculum starts from or uses frozen."""
    own = curriculum["phases"]
    starts = [phase["starts_from"] for phase in own.values() if phase["starts_from"]]
    return list(
        dict.fromkeys([*curriculum["frozen_networks"].values(), *(s for s in starts if s not in own)])
    )


def _span(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _about(described: Described) -> list[tuple[str, list[str]]]:
    network, model = described["network"], described["task"]["model"]
    inputs = [f"{name} {channels}" for name, channels in network["inputs"].items()]
    sizes = {key: value for key, value in model.items() if key not in ("kind", "pretrained")}
    shape = [f"{model['kind']} {model.get('backbone', '')}".strip()]
    shape += [f"{key} {_value(value)}" for key, value in sizes.items() if key != "backbone"]
    if model.get("pretrained", "none") != "none":
        shape.append(f"pretrained weights {model['pretrained']}")
    if (count := network["parameters"]) is not None:
        shape.append(f"{count / 1e6:.1f} M parameters")
    about = [
        ("network", joined(shape)),
        ("inputs", [f"{sum(network['inputs'].values())} channels: ", *joined(inputs)]),
        ("outputs", joined(name if n == 1 else f"{name} {n}" for name, n in network["outputs"].items())),
    ]
    if described["frozen_networks"]:
        frozen = list(described["frozen_networks"].values())
        if (channels := network["condition_channels"]) is not None:
            frozen[0] += f" ({channels} channels of conditioning)"
        about.append(("frozen", joined(frozen)))
    return about


def _value(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _overview(described: Described) -> Table:
    table = plain_table()
    for column in ("phase", "starts from", "data"):
        table.add_column(column, no_wrap=True)
    for column in ("crop", "batch", "per worker", "micro-batches", "epochs", "steps/epoch", "steps"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, phase in described["phases"].items():
        known = phase["total_steps"] is not None
        table.add_row(
            Text(name),
            Text(phase["starts_from"] or "fresh weights"),
            Text(_mix(phase["data"])),
            str(phase["crop"]),
            str(phase["batch"]),
            _shares(phase["batch_of_workers"]),
            str(phase["micro_batches"]),
            str(phase["epochs"]),
            grouped(phase["steps_per_epoch"]) if known else "-",
            grouped(phase["total_steps"]) if known else "by data",
        )
    return table


def _shares(parts: Sequence[int]) -> str:
    low, high = min(parts), max(parts)
    if len(parts) > 2 and low == high:
        return f"{len(parts)} x {low}"
    return " + ".join(map(str, parts)) if len(parts) <= 4 else f"{len(parts)} x {low} to {high}"


def _heading(name: str, phase: Described) -> Text:
    """Return the heading of a phase: its name and the values of its overview, in one line."""
    weights = "fresh weights" if phase["starts_from"] is None else f"from {phase['starts_from']}"
    steps = phase["steps_per_epoch"]
    length = f"{phase['epochs']} epochs" + (f" of {grouped(steps)} steps" if steps is not None else "")
    figures = [weights, _mix(phase["data"]), f"crop {phase['crop']}", f"batch {phase['batch']}", length]
    return Text.assemble((f"{name:<{LABEL_WIDTH}}", "bold"), ", ".join(figures))


def _learning(player: Described) -> list[tuple[str, list[str]]]:
    """Return the rows about loss and schedule of a player."""
    rows = [("loss", _loss(player["loss"]["formula"]))]
    if gammas := _gammas(player["loss"]["terms"]):
        rows.append(("gamma", gammas))
    limit = f"gradient norm clipped at {player['grad_clip']:g}"
    rows.append(("schedule", joined([player["schedule"]["text"], limit])))
    return rows


def _groups(player: Described) -> Table:
    """Return the table of a player's parameter groups with their learning rates."""
    groups = player["groups"]
    return _rates(groups, _stages(part for group in groups for part in group["parts"]))


def _details(phase: Described) -> list[tuple[str, list[str]]]:
    """Return the rows about the data, validation and gate of a phase: labels and phrases."""
    rows = [("augment", joined(phase["text"]["augment"]))]
    rows.append(("balance", [*joined(phase["text"]["balance"]), *_tiles(phase["minority_tiles"])]))
    if mosaic := phase["mosaic"]:
        shares = f"{mosaic['two']:.0%} in halves, {mosaic['four']:.0%} in quarters"
        rows.append(("mosaic", [f"of {', '.join(mosaic['sources'])} ", shares]))
    if (new := phase["drawn_anew"]) is not None:
        inputs = dict.fromkeys(channel.rpartition(".")[0] for channel in new["channels"])
        rows.append(("initialise", joined([*(f"input {name}" for name in inputs), *new["tensors"]])))
    rows.append(("validation", joined(_validation(phase))))
    if (gate := phase["gate"]) is not None:
        limits = joined([f"{source} at most {ratio:g} x" for source, ratio in gate["ratios"].items()])
        over = f"; mean error of the last {gate['window']} validations"
        rows.append(("gate", [f"against {gate['against']}: ", *limits, over]))
    if phase["left_out"]:
        rows.append(("left out", joined([f"{n} with {why}" for why, n in phase["left_out"].items()])))
    rows += [("departures" if number == 0 else "", [text]) for number, text in enumerate(phase["departures"])]
    return rows


def _loss(formula: str) -> list[str]:
    first, *others = formula.split(" + ")
    return [first, *(f" + {other}" for other in others)]


def _gammas(terms: Mapping[str, Mapping[str, object]]) -> list[str]:
    gamma = terms.get("focal", {}).get("gamma")
    return joined([f"{name} {value:g}" for name, value in gamma.items()]) if isinstance(gamma, dict) else []


def _tiles(found: Mapping[str, int] | None) -> list[str]:
    if found is None:
        return []
    counts = (f"{grouped(count) if count else 'none'} in {name}" for name, count in found.items())
    return [f" (minority tiles: {', '.join(counts)})"]


def _validation(phase: Described) -> list[str]:
    select, steps = phase["select"], phase["segment_steps"]
    interval = "every epoch" if steps in (None, phase["steps_per_epoch"]) else f"every {grouped(steps)} steps"
    kept = f"{interval}, keeps the {'highest' if select['mode'] == 'max' else 'lowest'} {select['metric']}"
    if phase["plateau"] is None:
        return [kept]
    return [kept, f"ends after {phase['plateau']} epochs without improvement"]


def _mix(data: Mapping[str, float]) -> str:
    if len(data) == 1:
        return next(iter(data))
    return ", ".join(f"{name} {part:.0%}" for name, part in data.items())


def _stages(parts: Iterable[str]) -> list[str]:
    return sorted({part for part in parts if part.startswith("encoder.stages.")})


def _group_parts(parts: Sequence[str], *, stages: Sequence[str]) -> str:
    """Return the parts of a group as text; encoder stages are listed unless all are in the group."""
    own = _stages(parts)
    numbers = " ".join(stage.rpartition(".")[2] for stage in own)
    encoder = [] if not own else ["encoder" if len(own) == len(stages) else f"encoder {numbers}"]
    return ", ".join([*encoder, *(part for part in parts if part not in own)])


def _rank(members: Sequence[Described], *, stages: Sequence[str]) -> int:
    """Return the position of a group in the forward pass."""
    order = [*stages, "film", "decoder", "head"]
    return min(order.index(part) for member in members for part in member["parts"])


def _rates(groups: Sequence[Described], stages: Sequence[str]) -> Table:
    """Build a table with one row per group; parameters without weight decay are in the row of the group."""
    table = plain_table()
    table.add_column("group", min_width=16, no_wrap=True)
    table.add_column("parts", min_width=22, no_wrap=True)
    for column in ("first rate", "peak", "last", "layer factor", "weight decay", "tensors"):
        table.add_column(column, justify="right", no_wrap=True)
    lines: dict[str, list[Described]] = {}
    for group in groups:
        lines.setdefault(group["name"].removesuffix("/no_decay"), []).append(group)
    for name, members in sorted(lines.items(), key=lambda line: _rank(line[1], stages=stages)):
        parts = _group_parts(
            list(dict.fromkeys(part for member in members for part in member["parts"])), stages=stages
        )
        tensors = str(sum(member["tensors"] for member in members))
        rates = members[0]["rates"]
        if rates is None:
            table.add_row(Text(name), parts, "frozen", "", "", "", "", tensors)
            continue
        decay = max(member["weight_decay"] for member in members)
        factor = members[0]["layer_factor"]
        shown = [f"{rates[key]:.2e}" for key in ("first", "peak", "last")]
        table.add_row(
            Text(name), parts, *shown, "" if factor == 1 else f"{factor:.4g}", f"{decay:g}", tensors
        )
    return table
