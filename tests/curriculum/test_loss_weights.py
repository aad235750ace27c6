from __future__ import annotations

from dataclasses import replace

import pytest

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.lossweights import capped_weights, loss_weights
from pbrlib.data.draws.balance import merge_classes
from pbrlib.data.shards.index import IndexRow
from pbrlib.maps import CLASSES
from tests.curriculum.conftest import SEGFORMER, row


def of_class(name: str, label: str, **changes: object) -> IndexRow:
    pixels = tuple(64 * 64 * (label == known) for known in CLASSES)
    return replace(row(name, side=64), label=label, class_pixels=pixels, **changes)


def test_class_weights_are_switched_phase_by_phase() -> None:
    text = SEGFORMER.replace("batch: 4", "batch: 4\n    balance: {class_weights: false}")
    phases = parse_curriculum(text).phases
    rows = [of_class("a", "stone"), of_class("b", "wood")]
    assert loss_weights(phases["S0"], rows) is not None
    assert loss_weights(phases["S1"], rows) is None


def test_class_weights_come_from_the_training_textures_of_the_phase_s_sources() -> None:
    phase = parse_curriculum(SEGFORMER).phases["S0"]
    rows = [of_class(f"s{n}", "stone") for n in range(4)] + [of_class("w", "wood")]
    rows += [of_class(f"v{n}", "wood", split="val") for n in range(9)]
    rows += [of_class(f"o{n}", "metal", source="other") for n in range(9)]
    found = loss_weights(phase, rows)
    assert found is not None
    weights = dict(zip(CLASSES, found.tolist(), strict=True))
    assert weights["wood"] / weights["stone"] == pytest.approx(2.0)
    assert weights["wood"] + weights["stone"] == pytest.approx(2.0)
    assert {weights[name] for name in CLASSES if name not in ("stone", "wood")} == {1.0}


def test_a_merged_class_weighs_one_and_adds_to_the_other() -> None:
    phase = parse_curriculum(SEGFORMER).phases["S0"]
    rows = [of_class("s", "stone"), of_class("w", "wood")] + [of_class(f"c{n}", "ceramic") for n in range(3)]
    weights = loss_weights(phase, merge_classes(rows, {"ceramic": "stone"}))
    assert weights is not None
    by_name = dict(zip(CLASSES, weights.tolist(), strict=True))
    assert by_name["ceramic"] == 1.0
    assert by_name["wood"] / by_name["stone"] == pytest.approx(2.0)


def test_a_class_whose_weight_is_capped_is_named_with_its_share_where_weights_count() -> None:
    curriculum = parse_curriculum(
        SEGFORMER.replace("batch: 4", "batch: 4\n    balance: {class_weights: false}")
    )
    phases, task = curriculum.phases, curriculum.task
    few = replace(of_class("w", "wood"), class_pixels=tuple(int(name == "wood") for name in CLASSES))
    rows = [of_class("a", "stone"), few]
    message = capped_weights(phases["S0"], task, rows)
    assert message is not None
    assert "wood 0.00024" in message
    assert capped_weights(phases["S1"], task, rows) is None
    assert capped_weights(phases["S0"], task, rows[:1]) is None
