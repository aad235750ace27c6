from __future__ import annotations

from pathlib import Path

import pytest

from pbrlib.curriculum.load import load_runtime
from pbrlib.errors import ConfigError
from pbrlib.train.spec import RuntimeSpec


def test_elastic_training_accumulates_for_the_fewest_workers() -> None:
    fixed, elastic = (RuntimeSpec(workers=4, min_workers=fewest, batch_per_device=2) for fewest in (None, 2))
    assert fixed.micro_batches(16) == 2
    assert elastic.micro_batches(16) == 4
    assert elastic.at_fewest().workers == 2
    assert elastic.at_fewest().micro_batches(16) == 4


def test_more_workers_at_least_than_at_most_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "runtime.yaml"
    file.write_text("workers: 2\nmin_workers: 3\n")
    with pytest.raises(ConfigError, match=r"min_workers: 3 is more than the 2 workers.*Use 2 or less"):
        load_runtime(file)
