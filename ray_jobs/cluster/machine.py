"""Check within a second what this machine needs before Ray starts on it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pbrlib.errors import ConfigError

if TYPE_CHECKING:
    from pbrlib.train.runtimespec import RuntimeSpec

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the memory of Ray's object store, no file of ours
MIN_STORE_BYTES = 2**28
"""Least size of an object store; it is in shared memory if that is at least as large."""

_TEST_BYTES = 2**20
"""Bytes that are written as a test whether a disk is full."""

_TRAIN_VERSION = "RAY_TRAIN_V2_ENABLED"
_SOCKET_PATH_BYTES = len("/ray/session_2027-01-02_03-04-05_678901_1234567/sockets/plasma_store")
_MAX_SOCKET_PATH_BYTES = 107
"""The kernel's limit for the path of a Unix socket, in bytes."""

_GPU_DEVICES = ("nvidia[0-9]*", "dxg", "kfd", "nvmap")
"""Device files of NVIDIA GPUs, GPUs under WSL, AMD GPUs, and Jetson boards."""


def check_environment() -> None:
    """Raise ConfigError for environment variables that prevent this product from using Ray."""
    given = os.environ.get(_TRAIN_VERSION, "1")
    if given.lower() not in ("1", "true"):
        raise ConfigError(
            f"{_TRAIN_VERSION}: got {given}; expected 1, since training uses Ray Train's second version. "
            f"Unset it: `unset {_TRAIN_VERSION}`."
        )


def check_temporary_folder() -> None:
    """Raise ConfigError if Ray cannot make its session folder: the path is too long, or cannot be written.

    Warns if the shared memory is too small for an object store.
    """
    name = next((one for one in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(one)), "RAY_TMPDIR")
    folder = os.environ.get(name) or "/tmp"  # noqa: S108  # Ray's own choice
    most = _MAX_SOCKET_PATH_BYTES - _SOCKET_PATH_BYTES
    if (length := len(os.fsencode(folder))) > most:
        raise ConfigError(
            f"{name}: got {folder}, {length} bytes; expected at most {most}, since Ray's sockets lie below "
            "it. Set RAY_TMPDIR=/tmp, or another short folder; TMPDIR may stay as it is."
        )
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        # Ray makes its folder with permissions for all users, so the innermost existing folder is tested.
        of_ray = Path(folder) / "ray"
        with tempfile.TemporaryFile(dir=of_ray if of_ray.is_dir() else folder) as file:
            file.write(bytes(_TEST_BYTES))
    except OSError as error:
        raise ConfigError(
            f"{name}: got {folder}, where Ray cannot make its session ({error.strerror}). Set RAY_TMPDIR to "
            "a short folder of this user on a disk."
        ) from error
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else MIN_STORE_BYTES
    if free < MIN_STORE_BYTES:
        click.echo(
            f"pbr: {SHARED_MEMORY} has {free >> 20} MiB free; expected {MIN_STORE_BYTES >> 20}. Ray keeps "
            f"objects in {folder}/ray, which is slower. In Docker use --shm-size=2g.",
            err=True,
        )


def check_runtime_file(file: Path | None, *, address: str | None, processes: int | None = None) -> None:
    """Call `check_machine` for a runtime file, before curricula and data are read; None is the default."""
    from pbrlib.curriculum.config.load import load_runtime
    from pbrlib.train.runtimespec import RuntimeSpec

    runtime = RuntimeSpec() if file is None else load_runtime(file)
    check_machine(runtime, address=address, processes=processes)


def check_machine(runtime: RuntimeSpec, *, address: str | None, processes: int | None = None) -> None:
    """Raise ConfigError for a runtime that this machine alone cannot offer; warn if workers share CPUs.

    Args:
        runtime: The runtime of the training.
        address: Address of a cluster to join; then nothing is checked here.
        processes: Number of processes without Ray, in place of the runtime's workers.
    """
    if processes is None and (address or os.environ.get("RAY_ADDRESS")):
        return
    workers = runtime.fewest_workers if processes is None else processes
    if runtime.device == "cuda" and (found := count_gpus()) < workers:
        raise ConfigError(
            f"device: got cuda with {_count(workers, 'worker')}; expected a GPU for each, and this machine "
            f"has {found or 'none'}. Use a --runtime file with device: cpu or fewer workers, or name a "
            "cluster with --address."
        )
    cpus = len(os.sched_getaffinity(0))
    if runtime.device == "cpu" and workers > cpus:
        click.echo(
            f"pbr: {workers} workers share {_count(cpus, 'CPU')} of this machine, which is slower than "
            f"{cpus} would be: set workers in the --runtime file.",
            err=True,
        )


def count_gpus() -> int:
    """Return how many GPUs torch can use; imports torch only where the machine has any."""
    if not any(next(Path("/dev").glob(pattern), None) for pattern in _GPU_DEVICES):
        return 0
    import torch

    return torch.cuda.device_count()


def _count(number: int, thing: str) -> str:
    return f"1 {thing}" if number == 1 else f"{number} {thing}s"
