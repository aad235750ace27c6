from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.run import launch_local
from pbrlib.data.shards.reader import ShardSet
from pbrlib.losses.base import Term
from pbrlib.losses.lossspec import LossSpec, NormalReprojSpec
from pbrlib.losses.reprojection import NormalReproj
from pbrlib.losses.target import LossContext
from tests.conftest import METALLIC
from tests.train.phases import job_of

P2 = (
    METALLIC.replace("metallic", "height")
    .replace("M0", "P2")
    .replace("steps_per_epoch: 6", "steps_per_epoch: 5")
)


def weight(spec: NormalReprojSpec, progress: float) -> float:
    return NormalReproj(spec, LossContext(), name="normal_reproj").weight(progress)


@given(st.floats(1e-3, 10.0), st.floats(0.0, 10.0))
def test_a_moving_weight_is_exact_at_both_ends(first: float, last: float) -> None:
    spec = NormalReprojSpec(weight=first, final_weight=last)
    assert weight(spec, 0.0) == first
    assert weight(spec, 1.0) == last
    assert min(first, last) <= weight(spec, 0.5) <= max(first, last)


def test_a_weight_without_an_end_stays() -> None:
    assert {weight(NormalReprojSpec(weight=0.1), progress) for progress in (0.0, 0.3, 1.0)} == {0.1}


def test_the_first_step_of_a_phase_has_the_first_weight_and_the_last_step_the_last(
    shard_set: ShardSet, trained_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curriculum = parse_curriculum(P2)
    loss = LossSpec.model_validate({"l1": 1.0, "normal_reproj": {"weight": 0.15, "final_weight": 0.10}})
    phase = curriculum.phases["P2"].model_copy(update={"loss": loss})
    curriculum = curriculum.model_copy(update={"phases": {"P2": phase}})
    used: list[float] = []
    whole = NormalReproj.weight

    def noted(self: Term, progress: float) -> float:
        weight: float = whole(self, progress)  # type: ignore[arg-type]
        if torch.is_grad_enabled():  # a validation measures the loss with the last weight
            used.append(weight)
        return weight

    monkeypatch.setattr(NormalReproj, "weight", noted)
    given = {"shards": shard_set, "donors": trained_runs, "runs": tmp_path}
    # Two micro-batches a step share its weight.
    launch_local(job_of(curriculum, "P2", batch_per_device=3, **given))
    assert used[::2] == used[1::2]
    assert (used[0], used[-1]) == (0.15, 0.10)
    assert used[::2] == pytest.approx([0.15, 0.1375, 0.125, 0.1125, 0.10])
