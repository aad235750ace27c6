"""Finds the trained networks of a runs directory or a model folder, with their metadata."""

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
    """A trained network: metadata and weights of the best checkpoint of a curriculum's last finished phase.

    ``frozen`` are the fingerprints of the frozen networks that produced its inputs in training. ``place`` is
    the path of the weights; ``layout`` tells whether it is a checkpoint, a safetensors file, or a folder in
    transformers' layout.
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
        """What the network predicts: ``segmentation`` or the name of a map."""
        return self.declared.role

    def open(self, *, device: torch.device) -> Opened:
        """Open the network, frozen and in eval mode; raises CheckpointError if its weights do not fit."""
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
    """Find the networks of a runs directory or a model folder, and check that they belong together.

    Args:
        folder: The directory given to ``pbr train --runs``, or a model folder.
        names: The curricula of a runs directory to use; None uses all that are finished.

    Raises:
        CheckpointError: The segmentation, which conditions all others, is missing; two networks have one
            role; a network was trained with other frozen networks than these; or a file is damaged or
            missing.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: there is no such folder. Use the directory given to pbr train --runs, or a "
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
            curriculum=released.curriculum,
            phase=released.phase,
            fingerprint=released.fingerprint,
            step=released.step,
            metrics=released.metrics,
            frozen=released.frozen,
            declared=released.network,
            place=folder / released.file,
            layout=layout_of(released.network),
        )
        for released in read_model(folder).networks.values()
    ]


def _check_roles(folder: Path, found: Sequence[Trained]) -> None:
    by_role: dict[str, str] = {}
    for network in found:
        if network.role in by_role:
            raise CheckpointError(
                f"{folder}: got two networks for {network.role}, of {by_role[network.role]} and "
                f"{network.curriculum}; expected one. Move one of them to another runs directory."
            )
        by_role[network.role] = network.curriculum
    if "segmentation" not in by_role:
        raise CheckpointError(
            f"{folder}: got {', '.join(by_role) or 'no trained network'}; expected a segmentation network. "
            "Train it in this directory first, or use the directory given to pbr train --runs "
            "or a model folder."
        )


def _check_lineage(found: Sequence[Trained]) -> None:
    """Raise CheckpointError if a network was trained with other frozen networks than those found here."""
    here = {network.fingerprint for network in found}
    for network in found:
        for role, fingerprint in network.frozen.items():
            if fingerprint not in here:
                raise CheckpointError(
                    f"{network.place}: got a network trained with another {role} ({fingerprint[:8]}); "
                    f"expected the newest {role} here. Train {network.role} again, or keep the phase of "
                    f"that {role} the last of its curriculum."
                )
