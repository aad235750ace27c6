"""The model card, ``README.md`` of a model folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, assert_never

from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import printable
from pbrlib.evaluate.compare import MIN_TEXTURES, Comparison, compare
from pbrlib.evaluate.evaluationreport import Evaluation
from pbrlib.evaluate.scores import NET
from pbrlib.inference.modelfile import SUMS, ModelFile
from pbrlib.maps import CLASSES, MAPS, TARGETS
from pbrlib.models.roles import MapDeclaration, SegmentationDeclaration
from pbrlib.release.facts import licences
from pbrlib.train.record.rundirectory import FinishedPhase

_INTRODUCTION = """\
# PBR maps from old game textures

Networks that turn an old texture, a diffuse with the light painted in and a normal map, into {roles}.
They run one behind the other: the segmentation says the material of each pixel and conditions all others, and
the albedo is predicted next.

## In and out

{networks}

- `colour` is the diffuse for the segmentation and the albedo, and the predicted albedo for all others;
  `classes` are the predicted probabilities; `relief` follows from the normal.
- Diffuse: sRGB in [0, 1]. Normal: unit vectors, OpenGL (Y up, image rows point down); turn the green channel
  of a DirectX one first. Gloss, the alpha of old normal maps, where a network was trained with it.
- Classes, in the order of the channels: {classes}.{merged}
- `model.json` says all this as data, with the declaration of every network.
"""

_USE = """\
## Use

```
pbr convert MODEL INPUT OUTPUT          # a folder of old textures to True PBR
pbr evaluate MODEL --data SHARDS        # beside trivial answers; writes into MODEL-evaluation
```

The segmentation alone, without pbrlib; `mean` and `std` are in `model.json`, `conventions.segmentation`:

```python
from transformers import SegformerForSemanticSegmentation

network = SegformerForSemanticSegmentation.from_pretrained("MODEL/segformer").eval()
logits = network((torch.cat([diffuse, normal], dim=1) - mean) / std).logits  # (N, {num}, H / 4, W / 4)
```

`sha256sum --check {sums}` tells whether the folder is whole. `segformer/` is in transformers' layout; the
other `.safetensors` files use pbrlib's names.
"""


Phases: TypeAlias = Mapping[str, Mapping[str, FinishedPhase]]
"""The finished phases by curriculum."""

_SPLITS = {"train": "to train on", "val": "for validation"}


def card(
    model: ModelFile,
    *,
    curricula: Sequence[Curriculum],
    phases: Phases,
    evaluation: Evaluation,
    rows: Sequence[IndexRow],
) -> str:
    """The whole card as Markdown.

    Args:
        model: What the folder holds.
        curricula: What trained it, as resolved.
        phases: The finished phases by curriculum.
        evaluation: How good it is.
        rows: Every texture of the shard set.
    """
    comparisons = compare(evaluation.scores)
    segmentation = model.networks["segmentation"].network
    merge = (segmentation.merge or {}) if isinstance(segmentation, SegmentationDeclaration) else {}
    merged = "".join(f" {one} is never answered: {other} stands for it." for one, other in merge.items())
    introduction = _INTRODUCTION.format(
        roles=_listed(role for role in model.networks if role != "segmentation"),
        networks=_networks(model),
        classes=", ".join(CLASSES),
        merged=merged,
    )
    parts = [
        introduction,
        _USE.format(num=len(CLASSES), sums=SUMS),
        _training(model, phases),
        _figures(evaluation, comparisons),
        _limits(model, phases, comparisons=comparisons, rows=rows, evaluation=evaluation),
        _rights(curricula, rows),
    ]
    return "\n".join(parts)


def _networks(model: ModelFile) -> str:
    """Build a table of the inputs and outputs of each network."""
    rows = []
    for role, one in model.networks.items():
        match one.network:
            case SegmentationDeclaration() as declared:
                answer = "class logits"
            case MapDeclaration() as declared:
                answer = MAPS[declared.role].encoding.range
            case _:
                assert_never(one.network)
        rows.append((role, ", ".join(declared.inputs), answer))
    return "\n".join(_table(("network", "reads", "answers"), rows))


def _training(model: ModelFile, phases: Phases) -> str:
    textures = "; ".join(
        f"{_plain(source)}: {_counts(splits)}" for source, splits in model.data.textures.items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in model.versions.items())
    rows, seconds = [], 0.0
    for network in model.networks.values():
        for name, done in phases[network.curriculum].items():
            last = max((one.step for one in done.history), default=done.step)
            steps = f"{last}, ended at a {done.stopped}" if done.stopped else str(last)
            rows.append((network.curriculum, name, steps, str(done.step), _time(done.seconds)))
            seconds += done.seconds
    lines = [
        "## Training",
        "",
        f"On the shard set `{model.data.fingerprint[:8]}`; {textures}. Every option is in `curricula/`. "
        f"Written with {versions}.",
        "",
        *_table(("network", "phase", "steps", "best at", "time"), rows),
        "",
        f"Together {_time(seconds)}; a phase that was interrupted counts from when it was resumed.",
        "",
    ]
    return "\n".join(lines)


def _figures(evaluation: Evaluation, comparisons: Sequence[Comparison]) -> str:
    heads = ("map", "metric", "textures", "networks [95 %]", "strongest baseline", "its mean", "networks are")
    lines = ["## Figures", "", *_table(heads, [_figure(found) for found in comparisons]), ""]
    lines += [*evaluation.notes, "", "Every figure, interval and texture: `evaluation/evaluation.json`.", ""]
    return "\n".join(lines)


def _figure(found: Comparison) -> tuple[str, ...]:
    net = found.methods[NET]
    arrow = "↑" if found.higher_is_better else "↓"
    name = found.best_baseline
    return (
        found.map,
        f"{found.metric} {arrow}",
        str(found.num_textures),
        f"{net.mean:.3f} [{net.low:.3f}, {net.high:.3f}]",
        name or "-",
        "" if name is None else f"{found.methods[name].mean:.3f}",
        found.verdict.value,
    )


def _limits(
    model: ModelFile,
    phases: Phases,
    *,
    comparisons: Sequence[Comparison],
    rows: Sequence[IndexRow],
    evaluation: Evaluation,
) -> str:
    limits = [
        "The validation split also chose the checkpoints. On textures of other kinds than those of the "
        "sources above expect less."
    ]
    if (num := len(evaluation.about["textures"])) < MIN_TEXTURES:
        limits.append(f"Only {num} textures were measured: too few for any figure to be certain.")
    for split, words in _SPLITS.items():
        pixels = [row.class_pixels for row in rows if row.split == split]
        if absent := [name for n, name in enumerate(CLASSES) if not any(counts[n] for counts in pixels)]:
            limits.append(f"No texture {words} shows {_listed(absent)}.")
    if behind := dict.fromkeys(found.map for found in comparisons if found.beaten_by):
        limits.append(f"In some figure of {_listed(behind)} a trivial answer is as good or better.")
    for name, finished in phases.items():
        for phase, done in finished.items():
            if done.gate is not None and not done.gate["passed"]:
                reason = " ".join(str(done.gate["forced"]).split())
                limits.append(f"{name}/{phase} did not pass its gate; it was forced: {reason}.")
    if untrained := [role for role in TARGETS if role not in model.networks]:
        limits.append(f"There is no network for {_listed(untrained)}.")
    return "\n".join(["## Limits", "", *(f"- {limit}" for limit in limits), ""])


def _rights(curricula: Sequence[Curriculum], rows: Sequence[IndexRow]) -> str:
    named = {curriculum.name: curriculum.task.model.pretrained for curriculum in curricula}
    lines = [
        "## Licences",
        "",
        "Of the textures that it was trained and measured on, one by one in `attributions.csv`:",
        "",
        *(f"- {_plain(licence)}: {_textures(num)}" for licence, num in licences(rows).items()),
        "",
        *(
            f"`{name}` began from the weights `{donor}`, which have terms of their own.\n"
            for name, donor in named.items()
            if donor not in (None, "none")
        ),
        "pbrlib itself is under Apache-2.0. What these licences ask of the model is for whoever passes it on",
        "to judge.",
        "",
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A text of somebody else's as Markdown that shows it: no tag, link, code or cell."""
    return re.sub(r"[\\<>\[\]|`]", r"\\\g<0>", printable(text))


def _counts(splits: Mapping[str, int]) -> str:
    return ", ".join(f"{num} {_SPLITS[split]}" for split, num in splits.items())


def _textures(num: int) -> str:
    return "1 texture" if num == 1 else f"{num} textures"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(seconds / 60, 0.1):.1f} min"


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
