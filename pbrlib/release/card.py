"""Writes the model card, the ``README.md`` of a model folder."""

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

Networks that predict {roles} from an old texture: a diffuse with painted light, and a normal map.
They run in order: the segmentation predicts the class of each pixel and conditions all other networks. The
albedo is predicted next, then the other maps.

## Inputs and outputs

{networks}

- `colour` is the diffuse for the segmentation and the albedo, and the predicted albedo for all others.
  `classes` are the predicted class probabilities. `relief` is computed from the normal.
- Diffuse: sRGB in [0, 1]. Normal: unit vectors, OpenGL (Y up, image rows point down). Invert the green
  channel of a DirectX normal map first. Gloss: the alpha of old normal maps, if the network uses it.
- Classes, in the order of the channels: {classes}.{merged}
- `model.json` has this information as data, with the declaration of every network.
"""

_USE = """\
## Use

```
pbr convert MODEL INPUT OUTPUT          # convert a folder of old textures to True PBR
pbr evaluate MODEL --data SHARDS        # compare with trivial baselines; writes MODEL-evaluation
```

To use the segmentation without pbrlib (`mean` and `std` are in `model.json`, `conventions.segmentation`):

```python
from transformers import SegformerForSemanticSegmentation

network = SegformerForSemanticSegmentation.from_pretrained("MODEL/segformer").eval()
logits = network((torch.cat([diffuse, normal], dim=1) - mean) / std).logits  # (N, {num}, H / 4, W / 4)
```

`sha256sum --check {sums}` checks that all files are complete. `segformer/` has the layout of transformers;
the other `.safetensors` files have the parameter names of pbrlib.
"""


Phases: TypeAlias = Mapping[str, Mapping[str, FinishedPhase]]
"""The finished phases by curriculum."""

_SPLITS = {"train": "for training", "val": "for validation"}


def card(
    model: ModelFile,
    *,
    curricula: Sequence[Curriculum],
    phases: Phases,
    evaluation: Evaluation,
    rows: Sequence[IndexRow],
) -> str:
    """Return the model card as Markdown.

    Args:
        model: The content of ``model.json``.
        curricula: The resolved curricula that trained the networks.
        phases: The finished phases by curriculum.
        evaluation: The evaluation of the networks.
        rows: The index of the shard set.
    """
    comparisons = compare(evaluation.scores)
    segmentation = model.networks["segmentation"].network
    merge = (segmentation.merge or {}) if isinstance(segmentation, SegmentationDeclaration) else {}
    merged = "".join(
        f" {name} is never predicted; it is merged into {target}." for name, target in merge.items()
    )
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
    for role, released in model.networks.items():
        match released.network:
            case SegmentationDeclaration() as declared:
                output = "class logits"
            case MapDeclaration() as declared:
                output = MAPS[declared.role].encoding.range
            case _:
                assert_never(released.network)
        rows.append((role, ", ".join(declared.inputs), output))
    return "\n".join(_table(("network", "inputs", "output"), rows))


def _training(model: ModelFile, phases: Phases) -> str:
    textures = "; ".join(
        f"{_plain(source)}: {_counts(splits)}" for source, splits in model.data.textures.items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in model.versions.items())
    rows, seconds = [], 0.0
    for network in model.networks.values():
        for name, done in phases[network.curriculum].items():
            last = max((validation.step for validation in done.history), default=done.step)
            steps = f"{last}, ended at a {done.stopped}" if done.stopped else str(last)
            rows.append((network.curriculum, name, steps, str(done.step), _time(done.seconds)))
            seconds += done.seconds
    lines = [
        "## Training",
        "",
        f"Data: shard set `{model.data.fingerprint[:8]}`; {textures}. All settings are in `curricula/`. "
        f"Written with {versions}.",
        "",
        *_table(("network", "phase", "steps", "best at", "time"), rows),
        "",
        f"Total: {_time(seconds)}; the time before the last interruption of a phase is not included.",
        "",
    ]
    return "\n".join(lines)


def _figures(evaluation: Evaluation, comparisons: Sequence[Comparison]) -> str:
    heads = ("map", "metric", "textures", "networks [95 %]", "strongest baseline", "its mean", "networks are")
    lines = ["## Metrics", "", *_table(heads, [_figure(found) for found in comparisons]), ""]
    lines += [
        *evaluation.notes,
        "",
        "All metrics, intervals and textures are in `evaluation/evaluation.json`.",
        "",
    ]
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
        "The validation split was also used to select the checkpoints. Expect larger errors on textures that "
        "differ from those of the sources above."
    ]
    if (num := len(evaluation.about["textures"])) < MIN_TEXTURES:
        limits.append(f"Only {num} textures were evaluated, which is too few for reliable metrics.")
    for split, words in _SPLITS.items():
        pixels = [row.class_pixels for row in rows if row.split == split]
        if absent := [name for n, name in enumerate(CLASSES) if not any(counts[n] for counts in pixels)]:
            limits.append(f"No texture {words} contains {_listed(absent)}.")
    if behind := dict.fromkeys(found.map for found in comparisons if found.beaten_by):
        limits.append(f"In some metrics of {_listed(behind)}, a trivial baseline is as good or better.")
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
        "Licences of the textures for training and validation; `attributions.csv` lists every texture:",
        "",
        *(f"- {_plain(licence)}: {_textures(num)}" for licence, num in licences(rows).items()),
        "",
        *(
            f"`{name}` was trained from the weights `{donor}`, which have their own licence.\n"
            for name, donor in named.items()
            if donor not in (None, "none")
        ),
        "pbrlib is licensed under Apache-2.0. Whoever distributes the model must check what these licences",
        "require.",
        "",
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Escape a text for Markdown, so that it contains no tag, link, code or table cell."""
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
    """Return the lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
