"""The readable part of a checkpoint, and where its parts lie.

A folder counts as a checkpoint once its ``state.json`` stands, which is written last and names the sums of
the other files, and its own: whoever reads one of them compares first. Weights and optimizers are the matter
of `pbrlib.train.checkpoint.players`.
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
from pbrlib.train.checkpoint.sums import OWN_SUM, FileSum, sum_of_fields, unreadable

FORMAT_VERSION = 4
_WITHOUT_SUMS = (1, 2)
"""Of these the first knew no history either."""

_OF_ONE_PLAYER = (*_WITHOUT_SUMS, 3)
"""These hold one player, whose declaration is called ``network`` and whose files lie beside the state."""

READABLE = (*_OF_ONE_PLAYER, FORMAT_VERSION)

STATE, WEIGHTS, OPTIMIZER, PLAYERS = "state.json", "model.safetensors", "optimizer.pt", "players"
SET_ASIDE = "state.damaged.json"
"""What ``state.json`` is called in a folder that is no checkpoint any more; its other files stay."""

UNFINISHED = ".checkpoint-"
"""How the name of a checkpoint begins while it is being written."""


_PLAYER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Validated:
    """One validation: after how many steps, and what it measured."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class State:
    """The readable part of a checkpoint.

    ``step`` is the cursor: the number of finished steps. ``players`` declare the network of each player by
    name, so that it can be rebuilt from the checkpoint alone; ``frozen`` are the fingerprints of the
    networks before them.
    ``history`` are all validations of the phase until then. The last of them is this one, whose ``metrics``
    these are; a checkpoint that was written because a node was to be taken away has none.
    ``stopped`` says what ended the phase before its last step; None where nothing did. ``files`` are the sums
    of the others by name, ``threads`` torch's threads of each worker; old formats have neither.
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
        """Whether the phase is over."""
        return self.step >= self.total_steps or self.stopped is not None

    def file_of(self, player: str, name: str) -> str:
        """Where a player's file lies in the folder of the checkpoint, as ``files`` calls it."""
        return name if self.format_version in _OF_ONE_PLAYER else f"{PLAYERS}/{player}/{name}"


def is_complete(folder: Path) -> bool:
    """Whether a folder is a checkpoint, not the beginning of one."""
    return (folder / STATE).is_file()


def name_of_checkpoint(step: int) -> str:
    """The name of its folder; names sort as steps do."""
    return f"checkpoint_{step:08d}"


def step_of_checkpoint(folder: Path) -> int:
    """The step in the name of its folder."""
    return int(folder.name.rpartition("_")[2])


def checkpoints(directory: Path) -> list[Path]:
    """The complete checkpoints in the folder of a phase, the oldest first."""
    return sorted(folder for folder in directory.glob("checkpoint_*") if is_complete(folder))


def write_state(folder: Path, state: State) -> None:
    """Writes the readable part with its own sum; raises OSError."""
    content = asdict(state)
    (folder / STATE).write_text(json.dumps({**content, OWN_SUM: sum_of_fields(content)}, indent=1))


def read_state(folder: Path) -> State:
    """The readable part of a checkpoint.

    Raises DamagedCheckpointError when it is missing or not what was written, CheckpointError for another
    format.
    """
    try:
        fields = json.loads((folder / STATE).read_text())
        own, version = fields.pop(OWN_SUM, None), fields["format_version"]
        if (own is not None or version not in _WITHOUT_SUMS) and own != sum_of_fields(fields):
            raise ValueError("another SHA-256 than it names itself")
        if version not in READABLE:
            raise CheckpointError(
                f"{folder / STATE}: format version {version}, this program reads "
                f"{', '.join(map(str, READABLE))}. Use the version of pbr that wrote it."
            )
        history = tuple(Validated(**entry) for entry in fields.pop("history", ()))
        files = {name: FileSum(**entry) for name, entry in fields.pop("files", {}).items()}
        if version in _OF_ONE_PLAYER:
            network = fields.pop("network")
            fields["players"] = {str(network.get("role", "network")): network}
        state = State(**fields, history=history, files=files)
    except OSError as error:
        raise unreadable(folder / STATE, error) from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise DamagedCheckpointError(
            f"{folder / STATE}: not a readable state ({error}). Remove this checkpoint."
        ) from error
    _check_fields(state, file=folder / STATE)
    return state


def _check_fields(state: State, *, file: Path) -> None:
    """Raises DamagedCheckpointError where a field is not what ``State`` declares: readers trust it."""
    try:
        TypeAdapter(State).validate_json(json.dumps(asdict(state)), strict=True)
        if state.step < 0:
            raise ValueError(f"step: {state.step} is before the first")
        if state.format_version not in _OF_ONE_PLAYER and not all(map(_PLAYER.fullmatch, state.players)):
            raise ValueError(f"players: {', '.join(state.players)} are no names of folders")
    except (ValueError, RecursionError) as error:
        found = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, found['loc']))}: {found['msg']}" if found else str(error)
        raise DamagedCheckpointError(
            f"{file}: not a readable state ({reason}). Remove this checkpoint."
        ) from error
