"""Records the libraries, machine and runtime of a phase in ``environment.json`` beside its journal."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from pbrlib import storage
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.train.record.codestate import COMMAND, note_code
from pbrlib.train.runtimespec import RuntimeSpec

if TYPE_CHECKING:
    import torch

ENVIRONMENT = "environment.json"

_LIBRARIES = (
    "pbrlib",
    "torch",
    "ray",
    "transformers",
    "numpy",
    "pyarrow",
    "kornia",
    "segmentation-models-pytorch",
)


def note_environment(
    directory: Path, *, device: torch.device, world_size: int, runtime: RuntimeSpec, data: DataSpec
) -> None:
    """Write versions, the machine of rank 0, the runtime, and the locations and names of the shards.

    Environment variables and user names are not recorded.
    """
    import torch

    cuda = device.type == "cuda"
    known = {
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "cuda": torch.version.cuda if cuda else None,
        "workers": world_size,
        "data": data.record(),
        **({"sources": dict(data.renamed)} if data.renamed else {}),
        "runtime": runtime.model_dump(mode="json"),
    }
    if code := note_code(directory):
        known["code"] = code
    if (directory / COMMAND).is_file():
        known["command"] = " ".join(
            map(shlex.quote, json.loads((directory / COMMAND).read_text())["command"])
        )
    storage.write_atomic(directory / ENVIRONMENT, json.dumps(known, indent=1))


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
