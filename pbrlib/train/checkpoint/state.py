"""The metadata of a checkpoint, ``state.json``, and the layout of its folder.

A folder counts as a checkpoint once it has a ``state.json``, which is written last. The file holds the
checksums of the other files and of its own content, which readers verify. Weights and optimizers are read and
written by `pbrlib.train.checkpoint.players`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pbrlib.errors import CheckpointError, DamagedCheckpointError
from pbrlib.train.checkpoint.sums import OWN_SUM, FileSum, read_error, sum_of_fields

FORMAT_VERSION = 4
_WITHOUT_SUMS = (1, 2)
"""Format versions without checksums; version 1 also has no history."""

_OF_ONE_PLAYER = (*_WITHOUT_SUMS, 3)
"""Versions with one player, whose declaration is ``network`` and whose files are beside ``state.json``."""

READABLE = (*_OF_ONE_PLAYER, FORMAT_VERSION)

STATE, WEIGHTS, OPTIMIZER, PLAYERS = "state.json", "model.safetensors", "optimizer.pt", "players"
SET_ASIDE = "state.damaged.json"
"""Name to which ``state.json`` of a damaged checkpoint is changed; the other files are kept."""

UNFINISHED = ".checkpoint-"
"""Prefix of the folder of a checkpoint while it is being written."""


_PLAYER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Validated:
    """One validation: the number of finished steps, and the metrics."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class State:
    """The metadata of a checkpoint.

    ``step`` is the number of finished steps. ``players`` holds the declaration of each player's network by
    name, so that it can be rebuilt from the checkpoint alone; ``frozen`` holds the fingerprints of the frozen
    networks. ``history`` holds all validations of the phase so far, and ``metrics`` the last of them; a
    checkpoint written before a preemption has no ``metrics``. ``stopped`` is the reason why the phase ended
    before its last step, or None. ``files`` holds the checksums of the other files by name, ``threads`` the
    number of torch's threads of each worker; old formats have neither.
    """

    phase: str
    fingerprint: str
    step: int
    total_steps: int
    metrics: Mapping[str, float]
    players: Mapping[str, Mapping[str, Any]]
    frozen: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Validated, ...] = ()
    stopped: str | None = None
    threads: int | None = None
    files: Mapping[str, FileSum] = field(default_factory=dict, compare=False)
    format_version: int = FORMAT_VERSION

    @property
    def is_finished(self) -> bool:
        """Whether the phase has reached its last step or was stopped."""
        return self.step >= self.total_steps or self.stopped is not None

    def file_of(self, player: str, name: str) -> str:
        """Return the path of a player's file relative to the checkpoint's folder; a key of ``files``."""
        return name if self.format_version in _OF_ONE_PLAYER else f"{PLAYERS}/{player}/{name}"


def is_complete(folder: Path) -> bool:
    """Return whether a folder is a complete checkpoint."""
    return (folder / STATE).is_file()


def name_of_checkpoint(step: int) -> str:
    """Return the folder name of a checkpoint; names sort in the order of steps."""
    return f"checkpoint_{step:08d}"


def step_of_checkpoint(folder: Path) -> int:
    """Return the step in the folder name of a checkpoint."""
    return int(folder.name.rpartition("_")[2])


def checkpoints(directory: Path) -> list[Path]:
    """List the complete checkpoints in the folder of a phase, the oldest first."""
    return sorted(folder for folder in directory.glob("checkpoint_*") if is_complete(folder))


def newest_step(directory: Path) -> int:
    """Return the step of the newest complete checkpoint in the folder of a phase; 0 without one."""
    return max(map(step_of_checkpoint, checkpoints(directory)), default=0)


def write_state(folder: Path, state: State) -> None:
    """Write ``state.json`` with its own checksum; raises OSError."""
    content = asdict(state)
    (folder / STATE).write_text(json.dumps({**content, OWN_SUM: sum_of_fields(content)}, indent=1))


def read_state(folder: Path) -> State:
    """Read and verify ``state.json`` of a checkpoint.

    Raises DamagedCheckpointError if it is missing or damaged, CheckpointError for another format.
    """
    try:
        fields = json.loads((folder / STATE).read_text())
        own, version = fields.pop(OWN_SUM, None), fields["format_version"]
        if (own is not None or version not in _WITHOUT_SUMS) and own != sum_of_fields(fields):
            raise ValueError("its SHA-256 differs from the one that it contains")
        if version not in READABLE:
            raise CheckpointError(
                f"{folder / STATE}: format version {version}, this version of pbr reads "
                f"{', '.join(map(str, READABLE))}. Use the version of pbr that wrote it."
            )
        history = tuple(Validated(**entry) for entry in fields.pop("history", ()))
        files = {name: FileSum(**entry) for name, entry in fields.pop("files", {}).items()}
        if version in _OF_ONE_PLAYER:
            network = fields.pop("network")
            fields["players"] = {str(network.get("role", "network")): network}
        state = State(**fields, history=history, files=files)
    except OSError as error:
        raise read_error(folder / STATE, error) from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise DamagedCheckpointError(
            f"{folder / STATE}: not a readable state ({error}). Remove this checkpoint."
        ) from error
    _check_fields(state, file=folder / STATE)
    return state


def _check_fields(state: State, *, file: Path) -> None:
    """Raise DamagedCheckpointError if a field does not have the type that ``State`` declares."""
    try:
        TypeAdapter(State).validate_json(json.dumps(asdict(state)), strict=True)
        if state.step < 0:
            raise ValueError(f"step: got {state.step}; expected 0 or more")
        if state.format_version not in _OF_ONE_PLAYER and not all(map(_PLAYER.fullmatch, state.players)):
            raise ValueError(f"players: {', '.join(state.players)} are not valid as folder names")
    except (ValueError, RecursionError) as error:
        found = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, found['loc']))}: {found['msg']}" if found else str(error)
        raise DamagedCheckpointError(
            f"{file}: not a readable state ({reason}). Remove this checkpoint."
        ) from error
