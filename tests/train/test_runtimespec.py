from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Literal

import pytest

from pbrlib.curriculum.config.load import load_runtime
from pbrlib.errors import ConfigError
from pbrlib.train.runtimespec import RuntimeSpec, Selection


def test_elastic_training_accumulates_for_the_fewest_workers() -> None:
    fixed, elastic = (RuntimeSpec(workers=4, min_workers=fewest, batch_per_device=2) for fewest in (None, 2))
    assert fixed.micro_batches(16) == 2
    assert elastic.micro_batches(16) == 4
    assert elastic.at_fewest().workers == 2
    assert elastic.at_fewest().micro_batches(16) == 4


def test_min_workers_above_workers_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "runtime.yaml"
    file.write_text("workers: 2\nmin_workers: 3\n")
    with pytest.raises(ConfigError, match=r"min_workers: got 3; expected at most workers, 2.*Use 2 or less"):
        load_runtime(file)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_metric_that_is_nan_is_the_worst(mode: Literal["min", "max"]) -> None:
    select = Selection(metric="l1", mode=mode)
    scores = [select.score({"l1": value}) for value in (1.0, math.inf, -math.inf)]
    assert select.score({"l1": math.nan}) == min(scores)
    worst = sys.float_info.max * (1 if mode == "min" else -1)
    assert select.comparable({}) == select.comparable({"l1": math.nan}) == worst
    assert select.comparable({"l1": 0.5}) == 0.5
