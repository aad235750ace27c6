"""Reads the optimizer state of an untrusted checkpoint: executes no code, uses bounded memory."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pbrlib.errors import first_line

_KEPT = {"step", "exp_avg", "exp_avg_sq"}
"""The keys of AdamW's state of one parameter."""


def read_optimizer(file: Path) -> Any:
    """Read a file of ``torch.save``; raises ValueError if it is damaged or declares more than its size."""
    try:
        return _read(file)
    except OSError:
        raise
    except Exception as error:  # torch.load raises KeyError, IndexError, EOFError and others
        raise ValueError(first_line(error)) from error


def load_optimizer_state(saved: Any, optimizer: torch.optim.Optimizer) -> None:
    """Load a saved state into an optimizer; raises ValueError if it belongs to another optimizer."""
    try:
        _check(saved, optimizer)
        wanted = [group.keys() for group in optimizer.state_dict()["param_groups"]]
        optimizer.load_state_dict(saved)
    except Exception as error:  # a state of another form raises many exception types
        raise ValueError(first_line(error)) from error
    for group, names in zip(optimizer.param_groups, wanted, strict=True):
        if missing := names - group.keys():
            raise ValueError(f"a group without {min(missing)}")


def _read(file: Path) -> Any:
    num_bytes = file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    if any(entry.compress_type for entry in entries) or sum(entry.file_size for entry in entries) > num_bytes:
        raise ValueError("the declared parts are larger than the file")
    return torch.load(file, weights_only=True, map_location="cpu")


def _check(saved: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError, or another error for another form, unless the state fits the optimizer."""
    own = optimizer.state_dict()["param_groups"]
    for ours, theirs in zip(own, saved["param_groups"], strict=True):
        both = ours.keys() & theirs.keys()
        if wrong := [name for name in both if not _is_valid_option(theirs[name], ours[name], name=name)]:
            raise ValueError(
                f"{', '.join(sorted(wrong))} of a group has a value that is not valid for this optimizer"
            )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in saved["state"].items():
        if values.keys() != _KEPT:
            found = ", ".join(map(str, values)) or "no state"
            raise ValueError(f"parameter {number}: got {found}; expected {', '.join(sorted(_KEPT))}")
        for name, value in values.items():
            if not _fits(value, parameters[number], name=name):
                raise ValueError(f"{name} of parameter {number} does not fit its shape or type")


def _is_valid_option(saved_value: Any, ours: Any, *, name: str) -> bool:
    """Return whether a saved option is valid: equal to ours, except for ``lr`` and ``fused``."""
    match name:
        case "lr":
            return isinstance(saved_value, int | float) and math.isfinite(saved_value)
        case "fused":
            return saved_value is None or isinstance(saved_value, bool)
        case _:
            return bool(saved_value == ours)


def _fits(value: Any, parameter: Tensor, *, name: str) -> bool:
    """Return whether ``step`` is a count, or another state is dense with the parameter's shape and dtype."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
        return False
    if name == "step":
        return value.shape == () and value.dtype == torch.float32 and 0 <= value.item() < math.inf
    return value.shape == parameter.shape and value.dtype == parameter.dtype and _is_dense(value)


def _is_dense(value: Tensor) -> bool:
    """Return whether every element has its own memory, for any order of the dimensions."""
    wanted = 1
    for stride, size in sorted(zip(value.stride(), value.shape, strict=True)):
        if size > 1 and stride != wanted:
            return False
        wanted *= size
    return True
