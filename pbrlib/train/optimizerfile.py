"""The optimizer of a checkpoint, read as if anyone had written it: no code, bounded memory."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read_optimizer(file: Path) -> Any:
    """What ``torch.save`` wrote; raises ValueError where it is damaged or declares more than it holds."""
    try:
        return _read(file)
    except OSError:
        raise
    except Exception as error:  # torch's reader raises what it likes: KeyError, IndexError, EOFError ...
        raise _in_a_line(error) from error


def put_optimizer(saved: Any, optimizer: torch.optim.Optimizer) -> None:
    """Puts what was read into an optimizer of the same parameters; raises ValueError if it is another's."""
    try:
        _check(saved, optimizer)
        wanted = [group.keys() for group in optimizer.state_dict()["param_groups"]]
        optimizer.load_state_dict(saved)
    except Exception as error:  # whatever another form leads to
        raise _in_a_line(error) from error
    for group, names in zip(optimizer.param_groups, wanted, strict=True):
        if missing := names - group.keys():
            raise ValueError(f"a group without {min(missing)}")


def _in_a_line(error: Exception) -> ValueError:
    return ValueError(str(error).partition("\n")[0] or type(error).__name__)


def _read(file: Path) -> Any:
    num_bytes = file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    if any(entry.compress_type for entry in entries) or sum(entry.file_size for entry in entries) > num_bytes:
        raise ValueError("its parts are larger than the file")
    return torch.load(file, weights_only=True, map_location="cpu")


def _check(saved: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError, or whatever another form leads to, unless stepping with this can be trusted."""
    own = optimizer.state_dict()["param_groups"]
    for ours, theirs in zip(own, saved["param_groups"], strict=True):
        wrong = [name for name in ours.keys() & theirs.keys() if not _is_alike(theirs[name], ours[name])]
        if ours["params"] != theirs["params"] or wrong:
            raise ValueError(f"{', '.join(sorted(wrong)) or 'params'} of a group cannot be so")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, held in saved["state"].items():
        for name, value in held.items():
            if not _fits(value, parameters[number]):
                raise ValueError(f"{name} of parameter {number} does not fit it")


def _is_alike(came: Any, ours: Any) -> bool:
    match ours:
        case bool() | str():
            return isinstance(came, type(ours))
        case int() | float():
            return isinstance(came, int | float) and math.isfinite(came)
        case tuple() | list():
            return (
                isinstance(came, tuple | list) and all(map(_is_alike, came, ours)) and len(came) == len(ours)
            )
        case _:
            return True


def _fits(value: Any, parameter: Tensor) -> bool:
    """Whether a value is one number, or one for each of the parameter, all in memory that the file filled."""
    if not isinstance(value, Tensor):
        return isinstance(value, int | float) and math.isfinite(value)
    if value.layout != torch.strided or value.is_meta or not value.is_floating_point():
        return False
    if value.shape == ():
        return math.isfinite(value.item())
    is_dense = value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    return value.shape == parameter.shape and is_dense
