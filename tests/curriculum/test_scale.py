from __future__ import annotations

import pytest

from pbrlib.curriculum.check.curriculum import check
from pbrlib.curriculum.config.load import dump_yaml, parse_curriculum
from pbrlib.curriculum.describe.description import describe
from pbrlib.curriculum.scale import scaled
from pbrlib.errors import ConfigError
from pbrlib.train.runtimespec import RuntimeSpec
from tests.curriculum.conftest import ROUGHNESS, SEGFORMER
from tests.curriculum.test_fingerprint import prints


def with_scale(text: str, factor: int, rule: str) -> str:
    return f"batch_scale: {{factor: {factor}, learning_rate: {rule}}}\n{text}"


@pytest.mark.parametrize(("rule", "times"), [("none", 1.0), ("sqrt", 2.0), ("linear", 4.0)])
def test_batches_grow_by_the_factor_and_rates_by_the_rule(rule: str, times: float) -> None:
    text = ROUGHNESS.replace("layer_decay: 0.9}", "layer_decay: 0.9, final: 1e-6}")
    plain, large = parse_curriculum(text).phases["M0"], scaled(parse_curriculum(with_scale(text, 4, rule)))
    phase = large.phases["M0"]
    assert phase.batch == 4 * plain.batch
    assert phase.optimizer.lr == pytest.approx(times * 2e-4)
    assert phase.optimizer.groups["encoder"].lr == pytest.approx(times * 5e-5)
    assert phase.optimizer.groups["encoder"].final == pytest.approx(times * 1e-6)
    assert phase.schedule.final == pytest.approx(times * 5e-6)  # type: ignore[union-attr]
    assert phase.optimizer.weight_decay == plain.optimizer.weight_decay
    assert phase.optimizer.groups["encoder"].layer_decay == 0.9
    assert phase.epochs == plain.epochs


def test_a_rate_that_nobody_gave_stays_so() -> None:
    stem = scaled(parse_curriculum(with_scale(SEGFORMER, 4, "sqrt"))).phases["S1"].optimizer.groups["stem"]
    assert stem.lr is None
    assert stem.final is None


def test_scaling_twice_is_scaling_once() -> None:
    once = scaled(parse_curriculum(with_scale(SEGFORMER, 2, "linear")))
    assert scaled(once) == once
    assert scaled(parse_curriculum(SEGFORMER)) == parse_curriculum(SEGFORMER)


def test_every_kind_of_schedule_scales_its_rates_and_not_its_shape() -> None:
    warm = SEGFORMER.replace(
        "{kind: cosine, final: 8e-6}",
        "{kind: warmup_cosine, warmup_epochs: 0.01, start_factor: 0.3, final_factor: 0.05}",
    )
    phases = scaled(parse_curriculum(with_scale(warm, 4, "sqrt"))).phases
    assert phases["S0"].schedule.div_factor == 4  # type: ignore[union-attr]
    assert phases["S0"].schedule.final == pytest.approx(2e-5)  # type: ignore[union-attr]
    assert phases["S1"].schedule == parse_curriculum(warm).phases["S1"].schedule


def test_the_scale_belongs_to_the_fingerprint_by_what_it_makes() -> None:
    assert prints(with_scale(SEGFORMER, 2, "none"))["S0"] != prints(SEGFORMER)["S0"]
    assert prints(with_scale(SEGFORMER, 1, "linear")) == prints(SEGFORMER)
    by_hand = SEGFORMER.replace("batch: 8", "batch: 16").replace("batch: 4", "batch: 8")
    assert prints(with_scale(SEGFORMER, 2, "none")) == prints(by_hand)


def test_the_file_keeps_what_was_written() -> None:
    curriculum = parse_curriculum(with_scale(SEGFORMER, 2, "sqrt"))
    assert parse_curriculum(dump_yaml(curriculum)) == curriculum
    assert curriculum.phases["S0"].batch == 8
    assert "batch_scale" not in dump_yaml(parse_curriculum(SEGFORMER))


def test_the_rule_is_never_assumed() -> None:
    with pytest.raises(ConfigError, match=r"batch_scale\.learning_rate: missing"):
        parse_curriculum(f"batch_scale: {{factor: 2}}\n{SEGFORMER}")


def test_a_plan_shows_scaled_figures_and_the_scale() -> None:
    described = describe(parse_curriculum(with_scale(SEGFORMER, 4, "sqrt")), runtime=RuntimeSpec(workers=2))
    assert described["batch_scale"] == {"factor": 4, "learning_rate": "sqrt"}
    assert described["phases"]["S0"]["batch"] == 32
    assert described["phases"]["S0"]["batch_of_workers"] == [16, 16]
    assert described["phases"]["S0"]["groups"][0]["rates"]["peak"] == pytest.approx(8e-4)


def test_workers_share_the_scaled_batch() -> None:
    runtime = RuntimeSpec(workers=8)
    with pytest.raises(ConfigError, match="got 4 for 8 workers"):
        check(parse_curriculum(SEGFORMER), place="file.yaml", runtime=runtime)
    check(parse_curriculum(with_scale(SEGFORMER, 2, "none")), place="file.yaml", runtime=runtime)
