"""The trained networks of a folder, a runs directory or a model, and what is known of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

import torch
from torch import Tensor

from pbrlib import storage
from pbrlib.errors import CheckpointError
from pbrlib.inference.modelfile import Layout, is_model, layout_of, read_model
from pbrlib.inference.opened import Opened, frozen_network, read_declaration
from pbrlib.models.roles import NetworkDeclaration
from pbrlib.models.segformer import read_pretrained
from pbrlib.train.checkpoint.players import read_tensors, read_weights
from pbrlib.train.checkpoint.state import read_state
from pbrlib.train.record.rundirectory import RECORD, RunDirectory


@dataclass(frozen=True)
class Trained:
    """A trained network: the best checkpoint of a curriculum's last finished phase.

    ``frozen`` are the fingerprints of the networks that it was trained behind. ``place`` holds the weights:
    a checkpoint, a safetensors file, or a folder in transformers' layout, as ``layout`` says.
    """

    curriculum: str
    phase: str
    fingerprint: str
    step: int
    metrics: Mapping[str, float]
    frozen: Mapping[str, str]
    declared: NetworkDeclaration
    place: Path
    layout: Literal["checkpoint"] | Layout

    @property
    def role(self) -> str:
        """What it answers: ``segmentation`` or the name of a map."""
        return self.declared.role

    def open(self, *, device: torch.device) -> Opened:
        """The network, frozen and in eval mode; raises CheckpointError when its weights do not fit."""
        return frozen_network(self.declared, self._weights(), place=self.place, device=device)

    def _weights(self) -> Mapping[str, Tensor]:
        match self.layout:
            case "checkpoint":
                return read_weights(self.place)
            case "file":
                return read_tensors(self.place)
            case "transformers":
                with storage.fetched_folder(self.place) as here:
                    return read_pretrained(here)
            case _:
                assert_never(self.layout)


def trained_in(folder: Path, *, names: Collection[str] | None = None) -> list[Trained]:
    """The networks of a runs directory, or of a model folder, that were trained behind each other.

    Args:
        folder: What ``pbr train --runs`` filled, or the model that it left there.
        names: Of a runs directory only these curricula; None is all that are finished.

    Raises:
        CheckpointError: No segmentation among them, which conditions all others, two for one role, one that
            was trained behind others than these, or a file that is damaged or missing.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: there is no such folder. Name the directory given to pbr train --runs, or a "
            "model folder."
        )
    found = _released(folder) if is_model(folder) else _of_runs(folder, names)
    _check_roles(folder, found)
    _check_lineage(found)
    return found


def _of_runs(runs: Path, names: Collection[str] | None) -> list[Trained]:
    found = []
    for record in sorted(runs.glob(f"*/{RECORD}")):
        run = RunDirectory(runs, name=record.parent.name)
        if names is not None and run.name not in names:
            continue
        folder, done = run.best()
        state = read_state(folder)
        found.append(
            Trained(
                curriculum=run.name,
                phase=state.phase,
                fingerprint=done.fingerprint,
                step=done.step,
                metrics=done.metrics,
                frozen=state.frozen,
                declared=read_declaration(folder),
                place=folder,
                layout="checkpoint",
            )
        )
    return found


def _released(folder: Path) -> list[Trained]:
    return [
        Trained(
            curriculum=one.curriculum,
            phase=one.phase,
            fingerprint=one.fingerprint,
            step=one.step,
            metrics=one.metrics,
            frozen=one.frozen,
            declared=one.network,
            place=folder / one.file,
            layout=layout_of(one.network),
        )
        for one in read_model(folder).networks.values()
    ]


def _check_roles(folder: Path, found: Sequence[Trained]) -> None:
    by_role: dict[str, str] = {}
    for one in found:
        if one.role in by_role:
            raise CheckpointError(
                f"{folder}: both {by_role[one.role]} and {one.curriculum} hold a network for "
                f"{one.role}. Move one of them to another runs directory."
            )
        by_role[one.role] = one.curriculum
    if "segmentation" not in by_role:
        raise CheckpointError(
            f"{folder}: no trained network for segmentation (found: {', '.join(by_role) or 'none'}). "
            "Train it into this directory first, or name the directory given to pbr train --runs, or a model "
            "folder."
        )


def _check_lineage(found: Sequence[Trained]) -> None:
    """Raises CheckpointError when a network was trained behind others than those it would now run behind."""
    here = {one.fingerprint for one in found}
    for one in found:
        for role, fingerprint in one.frozen.items():
            if fingerprint not in here:
                raise CheckpointError(
                    f"{one.place}: was trained behind another {role} ({fingerprint[:8]}) than the newest "
                    "here. Train it again, or keep that one's phase the last of its curriculum."
                )
