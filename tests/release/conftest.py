"""A runs directory with three small networks, and the model that is made of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.run import carry_out, launch_local, resolve
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.maps import TRUE_PBR
from pbrlib.models.build import build_network
from pbrlib.models.modelspec import UNetSpec
from pbrlib.models.roles import MapDeclaration
from pbrlib.release.write import Release, write_model
from pbrlib.train.checkpoint.players import save
from pbrlib.train.checkpoint.state import State
from pbrlib.train.record.rundirectory import FinishedPhase, RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec
from tests.checkpoints import NET, learned
from tests.conftest import ALBEDO, METALLIC, SEGFORMER


@dataclass(frozen=True)
class Ladder:
    """The runs and shards of which a test writes a model."""

    runs: Path
    curricula: Sequence[Curriculum]
    shards: ShardSet

    @property
    def lacking(self) -> tuple[str, ...]:
        """The maps that True PBR needs and none of the curricula trains."""
        trained = {curriculum.task.kind for curriculum in self.curricula}
        return tuple(name for name in TRUE_PBR if name not in trained)

    def write(self) -> Release:
        return write_model(
            self.runs, curricula=self.curricula, shards=self.shards, device=torch.device("cpu")
        )


def train_again(ladder: Ladder, curriculum: Curriculum) -> None:
    for phase in curriculum.phases:
        job = resolve(
            curriculum, phase, shards=ladder.shards, runs=ladder.runs, runtime=RuntimeSpec(workers=1)
        )
        carry_out(job, launch_local)


@pytest.fixture(scope="session")
def released(trained_runs: Path, shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Ladder:
    """A trained ladder with its model; nobody changes it."""
    runs = tmp_path_factory.mktemp("released") / "runs"
    shutil.copytree(trained_runs, runs)
    curricula = [parse_curriculum(text) for text in (SEGFORMER, ALBEDO, METALLIC)]
    ladder = Ladder(runs, curricula, ShardSet.open(shard_folder))
    train_again(ladder, curricula[-1])
    ladder.write()
    return ladder


def add_fresh(ladder: Ladder, *roles: str) -> Ladder:
    """The ladder with map networks as they were built, entered as if they had been trained."""
    for role in roles:
        declared = MapDeclaration(role=role, model=UNetSpec(width=8, depth=2), condition_channels=16)
        network = build_network(declared)
        state = State("M0", role, 1, 1, metrics={}, players={NET: declared.model_dump(mode="json")})
        run = RunDirectory(ladder.runs, name=role)
        optimizer = torch.optim.AdamW(network.parameters())
        save(run.path / "M0" / "checkpoint_1", state=state, learned=learned(network, optimizer))
        run.finish("M0", FinishedPhase(role, "M0/checkpoint_1", 1, {}, 1.0), order=["M0"])
    more = [parse_curriculum(METALLIC.replace("metallic", role)) for role in roles]
    return Ladder(ladder.runs, [*ladder.curricula, *more], ladder.shards)


@pytest.fixture
def ladder(released: Ladder, tmp_path: Path) -> Ladder:
    """A copy to change."""
    runs = tmp_path / "runs"
    shutil.copytree(released.runs, runs)
    return Ladder(runs, released.curricula, released.shards)
