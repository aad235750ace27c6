"""Evaluates the trained chain on a shard set's validation textures, with trivial baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from pbrlib.data.shards.dataset import DataSet
from pbrlib.errors import DataError
from pbrlib.evaluate.baselines import (
    TrainingStatistics,
    class_baselines,
    map_baselines,
    training_statistics,
)
from pbrlib.evaluate.evaluationreport import Evaluation
from pbrlib.evaluate.picture import Row, choose_textures, sheet_rows, sheets
from pbrlib.evaluate.samples import Texture, validation_rows, validation_textures
from pbrlib.evaluate.scores import NET, SEGMENTATION, Lpips, Scores
from pbrlib.inference.chain import TextureInput
from pbrlib.inference.trained import trained_in
from pbrlib.maps import IGNORE, TARGETS
from pbrlib.tasks.segmentation import merge_labels
from pbrlib.train.validation import MULTIPLE, SIDE

_PROTOCOL = (
    "validation figures, not test figures: the validation split also chose each phase's best checkpoint; "
    f"validation split, whole textures to {SIDE} px, sides cut to multiples of {MULTIPLE}, one bake per id; "
    "baselines fitted on the training split; 'true class' baselines use the true class of each pixel; "
    "the nearest class colour is computed for each pixel; "
    "fitted height: after least-squares scale (at least 0) and shift per texture"
)


class Predictor(Protocol):
    """The protocol of the evaluated model, which `pbrlib.inference.chain.Chain` implements."""

    def predict(self, texture: TextureInput) -> dict[str, Tensor]:
        """Predict maps (C, H, W) in [0, 1] and class probabilities at the size of the texture."""
        ...


def evaluate(
    predictor: Predictor,
    *,
    shards: DataSet,
    lpips: Lpips | None = None,
    checkpoints: Mapping[str, Any] | None = None,
    merge: Mapping[str, str] | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Evaluate every validation texture; maps that are not predicted are left out and listed.

    Args:
        predictor: The trained networks.
        shards: A shard set with a validation split; the training split is used for the baselines.
        lpips: LPIPS for the albedo, if its weights are available.
        checkpoints: Metadata of the networks for the report.
        merge: Merged classes of the segmentation, with the class that replaces each.
        watch: Called with the number of finished and the number of all textures.

    Raises:
        DataError: There is no validation texture to evaluate, or a shard is damaged.
    """
    rows = validation_rows(shards)
    if not rows:
        raise DataError(
            f"{shards.location}: got no validation texture with a normal and a diffuse or albedo; expected "
            f"at least one of {MULTIPLE} px or more. Prepare the set with --val-share or --hold-out."
        )
    statistics = training_statistics(shards)
    scores = Scores(lpips=lpips)
    pictures: list[list[Row]] = []
    chosen = choose_textures(rows)
    missing = dict.fromkeys((*TARGETS, SEGMENTATION))
    for number, texture in enumerate(validation_textures(shards)):
        predicted = {name: x.detach().cpu() for name, x in predictor.predict(texture.given).items()}
        for name in predicted:
            missing.pop(name, None)
        score_texture(scores, texture, predicted=predicted, statistics=statistics, merge=merge or {})
        if texture.id in chosen:
            pictures.append(sheet_rows(texture, predicted))
        watch(number + 1, len(rows))
    notes = [_PROTOCOL[0].upper() + _PROTOCOL[1:] + "."]
    if missing:
        notes.append(f"Left out, since no network predicts them: {', '.join(missing)}.")
    return Evaluation(
        title=f"{len(rows)} validation textures of {shards.location}",
        scores=scores,
        about={
            "data": {"location": shards.location, "fingerprint": shards.fingerprint},
            "textures": [
                {"id": row.id, "source": row.source, "class": row.label, "size": [row.height, row.width]}
                for row in rows
            ],
            "checkpoints": dict(checkpoints or {}),
            "protocol": _PROTOCOL,
            "not_measured": list(missing),
            "training_statistics": statistics.as_dict(),
        },
        notes=notes,
        sheets=sheets(pictures),
    )


def score_texture(
    scores: Scores,
    texture: Texture,
    *,
    predicted: Mapping[str, Tensor],
    statistics: TrainingStatistics,
    merge: Mapping[str, str],
) -> None:
    """Score the networks and all baselines on one texture, for the maps that were predicted."""
    baselines = map_baselines(texture, statistics)
    for name in TARGETS:
        if name not in predicted:
            continue
        if name not in texture.truth:
            scores.leave_out([name], sample=texture.id)
            continue
        methods = {NET: predicted[name], **baselines[name]}
        scores.add_map(name, methods, sample=texture.id, truth=texture.truth[name], valid=texture.valid)
    if SEGMENTATION in predicted:
        classes = {NET: predicted[SEGMENTATION].argmax(dim=0), **class_baselines(texture, statistics)}
        known = texture.mask.masked_fill(~texture.valid[0], IGNORE)
        merged = {name: merge_labels(labels, merge) for name, labels in classes.items()}
        scores.add_classes(merged, sample=texture.id, truth=merge_labels(known, merge))


def checkpoints_of(folder: Path) -> dict[str, Any]:
    """Return metadata of the networks that ``Chain.open`` uses, by curriculum."""
    return {
        network.curriculum: {
            "checkpoint": str(network.place),
            "fingerprint": network.fingerprint,
            "step": network.step,
            "metrics": dict(network.metrics),
        }
        for network in trained_in(folder)
    }
