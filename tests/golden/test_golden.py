"""A few steps of every kind of phase train what they trained when ``golden.json`` was recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.golden import record
from tests.golden.record import Trained

GOLDEN: dict[str, Any] = json.loads(record.GOLDEN.read_text())
TOLERANCE = 1e-5
"""Of weights, losses and rates on another kind of machine than the figures are from."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    return record.train_cases(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def is_same_machine() -> bool:
    return bool(record.this_machine() == GOLDEN["machine"])


def test_every_case_is_recorded(trained: dict[str, Trained]) -> None:
    assert list(trained) == list(GOLDEN["trained"])


@pytest.mark.parametrize("phase", GOLDEN["trained"])
def test_ranks_are_given_the_same_batches(trained: dict[str, Trained], phase: str) -> None:
    assert trained[phase].figures["raw"] == GOLDEN["trained"][phase]["raw"]


@pytest.mark.parametrize("phase", GOLDEN["trained"])
def test_training_gives_the_recorded_results(
    trained: dict[str, Trained], phase: str, is_same_machine: bool
) -> None:
    found, golden = trained[phase], GOLDEN["trained"][phase]
    if is_same_machine:
        for what in ("augmented", "logged", "weights"):  # in the order in which one follows from another
            assert found.figures[what] == golden[what], what
        return
    assert [_learning(line) for line in found.figures["logged"]] == [
        pytest.approx(_learning(line), rel=TOLERANCE, abs=TOLERANCE) for line in golden["logged"]
    ]
    assert list(found.figures["weights"]) == list(golden["weights"])
    torch.testing.assert_close(found.weights, load_file(record.WEIGHTS)[phase], rtol=0.0, atol=TOLERANCE)


def test_curricula_that_are_shipped_keep_their_fingerprints() -> None:
    assert record.shipped_curricula() == GOLDEN["curricula"]


def _learning(line: dict[str, Any]) -> dict[str, float]:
    """Losses and rates; a validation may count pixels, of which one may fall to another class."""
    return {name: value for name, value in line.items() if not name.startswith("val/")}
