from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pbrlib.curriculum.check.curriculum import check
from pbrlib.curriculum.check.metricnames import metric_names
from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import ConfigError
from pbrlib.maps import CLASSES
from pbrlib.metrics.images import map_metrics
from pbrlib.metrics.sums import Sums
from pbrlib.train.runtimespec import RuntimeSpec
from tests.curriculum.conftest import ROUGHNESS, SEGFORMER, row


def complaint(text: str, **context: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check(parse_curriculum(text), place="file.yaml", **context)
    return str(caught.value)


@pytest.mark.parametrize("text", [SEGFORMER, ROUGHNESS])
def test_sound_curriculum_is_accepted(text: str, rows: list[IndexRow]) -> None:
    check(parse_curriculum(text), place="file.yaml", runtime=RuntimeSpec(), rows=rows)


def test_an_invalid_crop_is_reported_with_two_valid_ones() -> None:
    message = complaint(SEGFORMER.replace("crop: 96", "crop: 500"))
    assert (
        "phases.S1.crop: got 500; expected a multiple of 32, the stride of segformer. Use 480 or 512."
        in message
    )


def test_crop_of_a_map_network_also_fits_the_frozen_segformer_and_a_deeper_unet() -> None:
    assert "got 16; expected a multiple of 32, the stride of segformer. Use 32." in complaint(
        ROUGHNESS.replace("crop: 64", "crop: 16")
    )
    assert "got 96; expected a multiple of 64, the stride of unet. Use 64 or 128." in complaint(
        ROUGHNESS.replace("crop: 64", "crop: 96").replace("depth: 2", "depth: 6")
    )


def test_term_of_another_task_is_refused_with_those_that_apply() -> None:
    message = complaint(SEGFORMER.replace("dice: 0.4", "l1: 0.4"))
    assert (
        "phases.S1.loss.l1: got l1 for segmentation; expected one of cross_entropy, dice, focal." in message
    )
    message = complaint(ROUGHNESS.replace("sobel: 0.02", "normal_reproj: 0.02"))
    assert "phases.M0.loss.normal_reproj: got normal_reproj for roughness; expected" in message


def test_minority_that_is_no_class_is_refused() -> None:
    text = SEGFORMER.replace("batch: 4", "batch: 4\n    balance: {minority: [ceramics, wood]}")
    message = complaint(text)
    assert "phases.S1.balance.minority: got 'ceramics'; expected a class. Did you mean `ceramic`?" in message
    assert message.startswith("1 mistake ")


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        (
            "mask_dropout: {stones: 0.2}",
            "mask_dropout: got 'stones'; expected a class. Did you mean `stone`?",
        ),
        ("mask_dropout: {ceramic: 0.2}", "mask_dropout: got ceramic, which is merged into stone;"),
        ("minority: [ceramic]", "minority: got ceramic, which is merged into stone;"),
    ],
)
def test_balance_names_classes_that_there_are(balance: str, expected: str) -> None:
    text = SEGFORMER.replace("batch: 4", f"batch: 4\n    balance: {{{balance}}}")
    text = text.replace("kind: segmentation", "kind: segmentation\n  merge: {ceramic: stone}")
    message = complaint(text)
    assert f"phases.S1.balance.{expected}" in message
    assert message.startswith("1 mistake ")


def test_merging_names_classes_that_there_are() -> None:
    text = SEGFORMER.replace(
        "kind: segmentation", "kind: segmentation\n  merge: {ceramics: stone, wood: ston}"
    )
    message = complaint(text)
    assert "task.merge: got 'ceramics'; expected a class. Did you mean `ceramic`?" in message
    assert "task.merge.wood: got 'ston'; expected a class. Did you mean `stone`?" in message


def test_mask_dropout_of_a_map_is_refused() -> None:
    text = ROUGHNESS.replace("batch: 4", "batch: 4\n    balance: {mask_dropout: {stone: 0.2}}")
    assert (
        "phases.M0.balance.mask_dropout: got mask_dropout for roughness; expected segmentation"
        in complaint(text)
    )


@pytest.mark.parametrize(
    ("mosaic", "expected"),
    [
        (
            "{sources: [generatd], two: 0.3, four: 0.1}",
            "mosaic.sources: got 'generatd'; expected a source in the data of the phase. Did you mean",
        ),
        (
            "{sources: [generated], two: 0.5, four: 0.4}",
            "mosaic: got 1.1 for two, four and balance.minority_tiles together; expected at most 1",
        ),
    ],
)
def test_mosaics_that_cannot_be_drawn_are_refused(mosaic: str, expected: str) -> None:
    added = f"batch: 4\n    balance: {{minority_tiles: 0.2}}\n    mosaic: {mosaic}"
    message = complaint(SEGFORMER.replace("batch: 4", added))
    assert f"phases.S1.{expected}" in message
    assert message.startswith("1 mistake ")


def test_optimizer_rule_without_a_match_is_refused_with_the_names_there_are() -> None:
    message = complaint(SEGFORMER.replace("encoder.stages.0.*", "encoder.block.0.*"))
    assert "phases.S1.optimizer.groups.stem.match: 'encoder.block.0.*' matches no parameter." in message
    assert "The network has encoder.*, decoder.*, head.*." in message


def test_every_wrong_optimizer_rule_is_named() -> None:
    rules = 'groups: {a: {match: "stem.*"}, b: {match: "neck.*"}, c: {match: "head.*"}, d: {match: "head.*"}}'
    text = SEGFORMER.replace('groups: {stem: {match: "encoder.stages.0.*", freeze: true}}', rules)
    message = complaint(text)
    assert message.startswith("3 mistakes")
    for rule in "abd":
        assert f"phases.S1.optimizer.groups.{rule}.match: " in message


def test_schedule_that_would_rise_is_refused() -> None:
    message = complaint(SEGFORMER.replace("final: 8e-6", "final: 8e-3"))
    assert (
        "phases.S1.schedule: got an end rate of 0.00648 for group base.stages.1; expected at most" in message
    )


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("S1", "got S1; expected an earlier phase (S0). Set an earlier phase"),
        ("S7", "got 'S7'; expected an earlier phase, a curriculum or the folder of a checkpoint. "),
        ("runs/none", "got 'runs/none'; expected an earlier phase, a curriculum or the folder"),
        (
            "segformer.S0",
            "got 'segformer.S0', the curriculum itself; expected a phase without its name. Write S0.",
        ),
    ],
)
def test_donor_that_does_not_exist_is_refused(reference: str, expected: str) -> None:
    message = complaint(SEGFORMER.replace("starts_from: S0", f"starts_from: {reference}"))
    assert f"phases.S1.starts_from: {expected}" in message


def test_donor_in_a_curriculum_that_runs_beside_is_checked() -> None:
    segformer = parse_curriculum(SEGFORMER)
    text = ROUGHNESS.replace("segformer: segformer", "segformer: segformer.S4")
    message = complaint(text, curricula=[segformer])
    assert "task.segformer: got 'segformer.S4'; expected a phase of segformer. " in message
    assert "Known: S0, S1." in message
    check(parse_curriculum(ROUGHNESS), place="file.yaml", curricula=[segformer])


def test_metric_that_the_task_does_not_measure_is_refused() -> None:
    select = "batch: 4\n    select: {metric: METRIC, mode: max}"
    text = SEGFORMER.replace("batch: 4", select)
    message = complaint(text.replace("METRIC", "val/all/segmentation/miuo"))
    assert (
        "phases.S1.select.metric: got 'val/all/segmentation/miuo'; expected a metric of segmentation."
        in message
    )
    assert "Did you mean `val/all/segmentation/miou`?" in message
    assert "expected a metric of segmentation" in complaint(text.replace("METRIC", "val/all/albedo/l1"))
    check(parse_curriculum(text.replace("METRIC", "val/all/segmentation/iou/metal")), place="file.yaml")


def test_metric_names_are_those_that_validation_reports() -> None:
    truth = torch.zeros(1, 1, 16, 16)
    figures = map_metrics(truth, truth, truth == 0, prefix="val/skyrim/roughness").results()
    assert metric_names(parse_curriculum(ROUGHNESS).task, source="skyrim") == tuple(figures)
    sums = Sums()
    sums.add_confusion("val/all/segmentation", torch.eye(len(CLASSES), dtype=torch.int64))
    assert metric_names(parse_curriculum(SEGFORMER).task, source="all") == tuple(sums.results())


def test_world_larger_than_the_batch_is_refused() -> None:
    message = complaint(SEGFORMER, runtime=RuntimeSpec(workers=5))
    assert (
        "phases.S1.batch: got 4 for 5 workers; expected at least one sample per worker. Set workers to"
        in message
    )
    assert "phases.S0.batch" not in message
    check(parse_curriculum(SEGFORMER), place="file.yaml", runtime=RuntimeSpec(workers=3))


def test_micro_batches_that_would_be_empty_are_refused() -> None:
    message = complaint(
        SEGFORMER.replace("batch: 4", "batch: 5"), runtime=RuntimeSpec(workers=2, batch_per_device=1)
    )
    assert "phases.S1.batch: got 5 for 2 workers with 3 micro-batches each; expected" in message


def test_source_that_the_shards_lack_is_refused_with_those_they_have(rows: list[IndexRow]) -> None:
    message = complaint(SEGFORMER.replace("{generated: 1.0}", "{generatd: 1.0}"), rows=rows)
    assert (
        "phases.S0.data.generatd: got no material of generatd; expected sources of the data: generated (4 mat"
        in message
    )
    assert "--source generatd=generated" in message


def test_missing_map_is_refused(rows: list[IndexRow]) -> None:
    without = [replace(one, maps=tuple(m for m in one.maps if m != "mask")) for one in rows]
    message = complaint(SEGFORMER, rows=without)
    assert "phases.S0.data.generated: got no usable training texture (3 with no mask);" in message
    assert "task: got no validation texture with normal, mask;" in message


def test_textures_smaller_than_the_crop_are_refused_unless_they_tile() -> None:
    small = [row("a", tileable=False, side=64), row("b", split="val")]
    message = complaint(SEGFORMER, rows=small)
    assert "phases.S1.data.generated: got no usable training texture (1 with smaller than 96 px" in message
    assert "phases.S0.data" not in message
    check(parse_curriculum(SEGFORMER), place="file.yaml", rows=[replace(small[0], tileable=True), small[1]])


def test_every_mistake_is_listed_at_once(rows: list[IndexRow]) -> None:
    text = SEGFORMER.replace("crop: 64", "crop: 65").replace("starts_from: S0", "starts_from: S1")
    text = text.replace("dice: 0.4", "tv: 0.4").replace("encoder.stages.0.*", "stem.*")
    message = complaint(text, runtime=RuntimeSpec(workers=6), rows=rows)
    assert message.startswith("5 mistakes in file.yaml:\n")
    for address in ("S0.crop", "S1.starts_from", "S1.loss.tv", "S1.optimizer.groups.stem.match", "S1.batch"):
        assert f"\n  phases.{address}: " in message
