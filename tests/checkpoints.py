"""Writes and reads checkpoints of one player for tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from pbrlib.train.checkpoint.players import Learned
from pbrlib.train.checkpoint.state import (
    FORMAT_VERSION,
    OPTIMIZER,
    PLAYERS,
    STATE,
    WEIGHTS,
)
from pbrlib.train.checkpoint.sums import OWN_SUM, sum_of_fields

FORMATS = Path(__file__).parent / "formats"

NET = "net"
"""The name of the player."""

DECLARED: dict[str, dict[str, object]] = {NET: {}}
"""The declaration of the player in the state, for tests that do not rebuild the network."""


def learned(network: nn.Module, optimizer: Optimizer) -> dict[str, Learned]:
    """Return the learned state of the player, to save or to restore into."""
    return {NET: Learned(network, optimizer)}


def files_of(player: str) -> tuple[str, str]:
    """Return the files of the weights and the optimizer of a player in a checkpoint."""
    return f"{PLAYERS}/{player}/{WEIGHTS}", f"{PLAYERS}/{player}/{OPTIMIZER}"


def as_written_by(version: int, folder: Path) -> None:
    """Convert a checkpoint of one player to an earlier format."""
    if version == FORMAT_VERSION:
        return
    fields = json.loads((folder / STATE).read_text())
    ((player, network),) = fields["players"].items()
    sums = {Path(name).name: one for name, one in fields["files"].items()}
    fields |= {"network": network, "files": sums, "format_version": version}
    fixture = json.loads((FORMATS / f"checkpoint-v{version}" / STATE).read_text())
    known = {name: fields[name] for name in fixture.keys() - {OWN_SUM}}
    for name in files_of(player):
        (folder / name).rename(folder / Path(name).name)
    shutil.rmtree(folder / PLAYERS)
    (folder / STATE).write_text(
        json.dumps(known | ({OWN_SUM: sum_of_fields(known)} if OWN_SUM in fixture else {}))
    )
