"""The ``--device`` of commands that run in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbrlib.errors import ConfigError

if TYPE_CHECKING:
    import torch


def parse_device(name: str) -> torch.device:
    """``auto`` (the GPU where there is one), ``cpu`` or ``cuda``; ConfigError for what is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name}: no such device. Use auto, cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: this machine has no CUDA device. Use auto or cpu.")
    return device
