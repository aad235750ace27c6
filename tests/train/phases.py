"""Short phases that start from the session's trained networks, and helpers that stop them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.run import PhaseJob, resolve
from pbrlib.curriculum.spec import Curriculum, PhaseSpec
from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.plan import DrawPlan
from pbrlib.data.shards.reader import ShardSet
from pbrlib.optim.schedules import ConstantSpec
from pbrlib.train.checkpoint.players import read_weights
from pbrlib.train.runtime import LocalRuntime
from pbrlib.train.runtimespec import RuntimeSpec
from tests.conftest import ALBEDO, SEGFORMER

FREEZING = {
    "S1 stage 0": (
        "segformer",
        "layer_decay: 0.9, groups: {stem: {match: 'encoder.stages.0.*', freeze: true}}",
    ),
    "S4 encoder": ("segformer", "groups: {encoder: {match: 'encoder.*', freeze: true}}"),
    "decoder with its batch norm": ("segformer", "groups: {decoder: {match: 'decoder.*', freeze: true}}"),
    "A4 encoder and FiLM": (
        "albedo",
        "groups: {fixed: {match: ['encoder.*', 'film.*'], freeze: true}, head: {match: 'head.*', lr: 3e-3}}",
    ),
    "nothing": ("albedo", ""),
}
"""What is frozen -> the curriculum, and the rest of its optimizer."""

FROZEN = {
    "S1 stage 0": ("encoder.stages.0.",),
    "S4 encoder": ("encoder.",),
    "decoder with its batch norm": ("decoder.",),
    "A4 encoder and FiLM": ("encoder.", "film."),
    "nothing": (),
}
"""What is frozen -> how the names of its tensors begin."""


class Killed(BaseException):
    """Raised instead of a kill; no code catches it."""


def _killed() -> None:
    raise Killed


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch, *, error: Callable[[], object] = _killed) -> None:
    """Raise ``error`` when the run requests the batch of a step."""
    whole = LocalRuntime.batches

    def batches(
        self: LocalRuntime, plan: DrawPlan, *, maps: Sequence[str], first_step: int
    ) -> Iterator[RawBatch]:
        for number, batch in enumerate(whole(self, plan, maps=maps, first_step=first_step)):
            if first_step + number == step:
                error()
            yield batch

    monkeypatch.setattr(LocalRuntime, "batches", batches)


def job_of(
    curriculum: Curriculum, phase: str, *, shards: ShardSet, donors: Path, runs: Path, **runtime: Any
) -> PhaseJob:
    """Return a phase that uses the networks of one runs directory and trains into another."""
    spec = RuntimeSpec.model_validate({"workers": 1, **runtime})
    return replace(resolve(curriculum, phase, shards=shards, runs=donors, runtime=spec), runs=runs)


def still(phase: PhaseSpec, **changes: Any) -> PhaseSpec:
    """Return a phase with a learning rate of 0, whose weights do not change."""
    optimizer = phase.optimizer.model_copy(update={"lr": 1e-30, "weight_decay": 0.0})
    return phase.model_copy(update={"optimizer": optimizer, "schedule": ConstantSpec(), **changes})


def difference(first: Path, second: Path) -> float:
    """Return the root mean square difference of the weights of two checkpoints."""
    ours, theirs = read_weights(first), read_weights(second)
    assert ours.keys() == theirs.keys()
    return float(torch.cat([(ours[name] - theirs[name]).flatten() for name in ours]).square().mean().sqrt())


def job_freezing(
    what: str,
    *,
    shards: ShardSet,
    donors: Path,
    runs: Path,
    workers: int = 1,
    steps: int = 1,
    film_dropout: float = 0.0,
) -> PhaseJob:
    """Return a phase that starts from a trained network of the same role."""
    kind, groups = FREEZING[what]
    text = {"segformer": SEGFORMER, "albedo": ALBEDO}[kind]
    text = text.replace(f"name: {kind}", "name: other").replace("batch: 6", "batch: 4")
    text = text.replace("epochs: 2", "epochs: 1").replace(
        "    epochs: 1", f"    starts_from: {kind}\n    epochs: 1"
    )
    for given in ("steps_per_epoch: 2", "steps_per_epoch: 4"):
        text = text.replace(given, f"steps_per_epoch: {steps}")
    text = text.replace("{lr: 1.0e-3}", f"{{lr: 1.0e-3, {groups}}}").replace(
        "film_dropout: 0.0", f"film_dropout: {film_dropout}"
    )
    curriculum = parse_curriculum(text)
    (phase,) = curriculum.phases
    return job_of(curriculum, phase, shards=shards, donors=donors, runs=runs, workers=workers)
