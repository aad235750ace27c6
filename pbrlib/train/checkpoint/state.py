"""What a checkpoint holds: a readable state, the weights, the optimizer.

A folder counts as a checkpoint once its ``state.json`` stands, which is written last and names the sums of
the other files, and its own: whoever reads one of them compares first.
Two verbs read one: ``restore`` continues the same phase and is strict; ``load_weights`` begins from the
network alone, and is as strict about it. What learned something else is the matter of
`pbrlib.train.checkpoint.warmstart`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pbrlib import storage
from pbrlib.errors import CheckpointError, DamagedCheckpointError, outage_or
from pbrlib.train.checkpoint.optimizerfile import put_optimizer, read_optimizer
from pbrlib.train.checkpoint.sums import OWN_SUM, FileSum, compared, sum_of, sum_of_fields, unreadable

FORMAT_VERSION = 3
_WITHOUT_SUMS = (1, 2)
"""Of these the first knew no history either."""

READABLE = (*_WITHOUT_SUMS, FORMAT_VERSION)

STATE, WEIGHTS, OPTIMIZER = "state.json", "model.safetensors", "optimizer.pt"
SET_ASIDE = "state.damaged.json"
"""What ``state.json`` is called in a folder that is no checkpoint any more; its other files stay."""

UNFINISHED = ".checkpoint-"
"""How the name of a checkpoint begins while it is being written."""


@dataclass(frozen=True)
class Validated:
    """One validation: after how many steps, and what it measured."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class State:
    """The readable part of a checkpoint.

    ``step`` is the cursor: the number of finished steps. ``network`` declares the network, so that it can
    be rebuilt from the checkpoint alone; ``frozen`` are the fingerprints of the networks before it.
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
    network: Mapping[str, Any]
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


def save(folder: Path, *, state: State, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Writes a checkpoint; raises CheckpointError, and leaves nothing, when it cannot be written."""
    weights = {name: tensor.detach().contiguous().cpu() for name, tensor in network.state_dict().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, folder / WEIGHTS)
        torch.save(optimizer.state_dict(), folder / OPTIMIZER)
        # Both files were just written, so this reads them from memory.
        sums = {name: sum_of(folder / name) for name in (WEIGHTS, OPTIMIZER)}
        write_state(folder, replace(state, files=sums))
    except (OSError, RuntimeError, SafetensorError) as error:
        # Each writer has its own error for a full disk: OSError, torch's RuntimeError, SafetensorError.
        shutil.rmtree(folder, ignore_errors=True)
        raise outage_or(CheckpointError, error)(
            f"{folder}: the checkpoint of step {state.step} could not be written ({error}). "
            "Free space there or choose another --runs; the same command resumes."
        ) from error


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
    except (ValueError, RecursionError) as error:
        found = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, found['loc']))}: {found['msg']}" if found else str(error)
        raise DamagedCheckpointError(
            f"{file}: not a readable state ({reason}). Remove this checkpoint."
        ) from error


def checked(folder: Path, name: str, *, state: State | None = None) -> AbstractContextManager[Path]:
    """A file of a checkpoint on this machine, for a block, once its sum is right; old formats have none.

    ``state`` is that of the checkpoint, for callers that have read it. Raises DamagedCheckpointError.
    """
    return compared(folder / name, wanted=(state or read_state(folder)).files.get(name))


def read_weights(folder: Path, *, state: State | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint's network by name; raises CheckpointError when they cannot be read."""
    with checked(folder, WEIGHTS, state=state) as here:
        try:
            weights: dict[str, Tensor] = load_file(here)
        except (OSError, SafetensorError) as error:
            raise unreadable(folder / WEIGHTS, error) from error
    return weights


def _read_optimizer(folder: Path, *, state: State) -> dict[str, Any]:
    with checked(folder, OPTIMIZER, state=state) as here:
        try:
            kept: dict[str, Any] = read_optimizer(here)
        except (OSError, ValueError) as error:
            raise unreadable(folder / OPTIMIZER, error) from error
    return kept


def verify(folder: Path) -> None:
    """Reads a whole checkpoint; raises DamagedCheckpointError naming the first file that is not right."""
    state = read_state(folder)
    read_weights(folder, state=state)
    _read_optimizer(folder, state=state)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; raises CheckpointError when they cannot be read."""
    try:
        with storage.fetched(file) as here:
            weights: dict[str, Tensor] = load_file(here)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}). Use another checkpoint.") from error
    return weights


def load_weights(folder: Path, network: nn.Module) -> None:
    """Loads a checkpoint's network, every tensor of it; raises CheckpointError for another architecture."""
    put_weights(read_weights(folder), network, place=folder)


def put_weights(weights: Mapping[str, Tensor], network: nn.Module, *, place: Path) -> None:
    """Puts tensors into a network, every one; raises CheckpointError where they are another architecture's.

    ``place`` is where they come from.
    """
    check_weights(weights, network, place=place)
    network.load_state_dict(weights)


def check_weights(weights: Mapping[str, Tensor], network: nn.Module, *, place: Path) -> None:
    """Raises CheckpointError unless tensors are those of a network, which may lie on the meta device."""
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted.keys() - weights.keys()]
    problems += [f"{name} is not part of the network" for name in weights.keys() - wanted.keys()]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, the network's is {tuple(wanted[name].shape)}"
        for name in wanted.keys() & weights.keys()
        if weights[name].shape != wanted[name].shape
    ]
    problems += [
        f"{name} is of {weights[name].dtype}, the network's of {wanted[name].dtype}"
        for name in wanted.keys() & weights.keys()
        if weights[name].is_floating_point() != wanted[name].is_floating_point()
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:3])
        raise CheckpointError(
            f"{place}: a checkpoint of another architecture ({len(problems)} differences: {shown}). "
            "Give the model the sizes it was trained with, or start from another checkpoint."
        )


def restore(folder: Path, *, fingerprint: str, network: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Continues a phase: network, optimizer and cursor; strict about everything."""
    state = read_state(folder)
    if state.fingerprint != fingerprint:
        raise CheckpointError(
            f"{folder}: belongs to fingerprint {state.fingerprint[:8]}, this phase is {fingerprint[:8]}. "
            "Use another --runs, or remove the folder."
        )
    weights, kept = read_weights(folder, state=state), _read_optimizer(folder, state=state)
    put_weights(weights, network, place=folder)
    try:
        put_optimizer(kept, optimizer)
    except ValueError as error:
        raise CheckpointError(
            f"{folder / OPTIMIZER}: not the state of this optimizer ({error}). Remove this checkpoint."
        ) from error
    return state
