"""Examine this machine for training, without importing torch or starting Ray."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from ctypes.util import find_library
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from typing import Literal

from pbrlib.errors import PbrError
from ray_jobs.cluster.machine import SHARED_MEMORY, check_environment, check_temporary_folder
from ray_jobs.safepath import CODE

State = Literal["good", "warning", "error"]

OLDEST_PYTHON = (3, 11)
ENOUGH_DISK_BYTES, ENOUGH_SHARED_BYTES = 20 * 2**30, 2 * 2**30
DASHBOARD_PORT, HEAD_PORT = 8265, 6379

CREDENTIALS = {
    "AWS (S3)": (("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN"), (".aws/credentials", ".aws/config")),
    "Ray cluster": (("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"), (".ray/auth_token",)),
    "Weights & Biases": (("WANDB_API_KEY",), (".netrc",)),
    "MLflow": (("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"), ()),
}
"""Environment variables and files of the home folder that hold credentials. No value is read."""


@dataclass(frozen=True)
class Finding:
    """The result of one check as a sentence; a warning or an error includes its remedy."""

    thing: str
    state: State
    sentence: str


def examine() -> Iterator[Finding]:
    """Yield what each check found."""
    yield _python()
    yield from _packages()
    yield _gpu()
    yield _compiler()
    yield _llvm()
    yield from _disks()
    yield _shared_memory()
    yield from _ray()
    yield from _ports()
    yield from _credentials()


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        return Finding("Python", "error", f"got {found}; expected {wanted} or newer. Install one.")
    return Finding("Python", "good", found)


def _packages() -> Iterator[Finding]:
    """Check that all required packages are installed, in the pinned versions."""
    pinned = pinned_versions(Path(CODE) / "constraints.txt")
    missing, other = [], []
    for name in _required():
        try:
            found = version(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        if name in pinned and found not in pinned[name]:
            other.append(f"{name} {found} for {' or '.join(pinned[name])}")
    for name in ("torch", "ray"):
        if name not in missing:
            yield Finding(name, "good", version(name))
    if missing:
        yield Finding("packages", "error", f"not installed: {', '.join(missing)}. Run `make install`.")
    elif other:
        text = f"other versions than those that are tested: {', '.join(other)}. Run `make install`."
        yield Finding("packages", "warning", text)
    else:
        against = "as pinned in constraints.txt" if pinned else "constraints.txt is not here to compare with"
        yield Finding("packages", "good", f"all {len(_required())} are installed, {against}")


def pinned_versions(file: Path) -> dict[str, list[str]]:
    """Return the versions in a constraints file by name; empty without a file, as in an installed package.

    A library can have several, for different versions of Python.
    """
    if not file.is_file():
        return {}
    pinned: dict[str, list[str]] = {}
    for name, found in re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", file.read_text(), re.MULTILINE):
        pinned.setdefault(name, []).append(found)
    return pinned


def _required() -> list[str]:
    """Return the names of the required packages, without extras."""
    try:
        lines = requires("pbrlib") or []
    except PackageNotFoundError:
        return ["torch", "ray"]
    own = [line for line in lines if "extra ==" not in line]
    return [re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0].lower() for line in own]


def _gpu() -> Finding:
    devices = sorted(Path("/dev").glob("nvidia[0-9]*"))
    built, count = _cuda_of_torch(), "1 GPU" if len(devices) == 1 else f"{len(devices)} GPUs"
    if not devices:
        return Finding("CUDA", "good", "no NVIDIA GPU here: train with configs/runtime/cpu.yaml")
    if built is None:
        text = f"{count}, and this torch is built for CPUs. Install one with CUDA."
        return Finding("CUDA", "error", text)
    return Finding("CUDA", "good", f"{count}, torch is built with CUDA {built}")


def _cuda_of_torch() -> str | None:
    """Return torch's CUDA version, read from its file, since an import would take two seconds."""
    try:
        file = distribution("torch").locate_file("torch/version.py")
        text = Path(str(file)).read_text()
    except (PackageNotFoundError, OSError):
        return None
    match = re.search(r"^cuda[^=]*= '([^']+)'", text, re.MULTILINE)
    return None if match is None else match[1]


def _compiler() -> Finding:
    wanted = [os.environ.get("CXX"), "g++", "clang++"]
    found = next((path for name in wanted if name and (path := shutil.which(name))), None)
    if found is None:
        text = "no C++ compiler, which `compile: true` of a runtime file needs. Install g++ or clang."
        return Finding("compiler", "warning", text)
    return Finding("compiler", "good", found)


def _llvm() -> Finding:
    found = os.environ.get("DRJIT_LIBLLVM_PATH") or find_library("LLVM")
    if found is None:
        return Finding("LLVM", "good", "none; rendering objects on CPUs needs it, planes do not")
    return Finding("LLVM", "good", found)


def _disks() -> Iterator[Finding]:
    for thing, folder in (("current folder", Path.cwd()), ("temporary folder", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free
        text = f"{folder}: {free / 2**30:.1f} GiB free"
        if free < ENOUGH_DISK_BYTES:
            wanted = ENOUGH_DISK_BYTES // 2**30
            yield Finding(thing, "warning", f"{text}; expected {wanted}. Free space, or use another disk.")
        else:
            yield Finding(thing, "good", text)


def _shared_memory() -> Finding:
    if not SHARED_MEMORY.is_dir():
        return Finding("shared memory", "warning", f"no {SHARED_MEMORY}; Ray keeps objects on disk, slower.")
    free = shutil.disk_usage(SHARED_MEMORY).free
    text = f"{SHARED_MEMORY}: {free / 2**30:.1f} GiB free"
    if free < ENOUGH_SHARED_BYTES:
        return Finding("shared memory", "warning", f"{text}; expected 2. In Docker use --shm-size=2g.")
    return Finding("shared memory", "good", text)


def _ray() -> Iterator[Finding]:
    """Check what would prevent a start of Ray on this machine."""
    for thing, check in (("environment", check_environment), ("Ray's folder", check_temporary_folder)):
        try:
            check()
        except PbrError as error:
            yield Finding(thing, "error", str(error))
        else:
            yield Finding(thing, "good", "nothing prevents a start of Ray")


def _ports() -> Iterator[Finding]:
    for thing, port in (("dashboard", DASHBOARD_PORT), ("head", HEAD_PORT)):
        with socket.socket() as probe:
            probe.settimeout(0.2)
            taken = probe.connect_ex(("127.0.0.1", port)) == 0
        text = f"port {port} is taken, by a Ray or another program; a local Ray takes another port by itself"
        yield Finding(f"port of the {thing}", "good", text if taken else f"port {port} is free")


def _credentials() -> Iterator[Finding]:
    for thing, (variables, files) in CREDENTIALS.items():
        found = [name for name in variables if os.environ.get(name)]
        found += [f"~/{name}" for name in files if (Path.home() / name).is_file()]
        yield Finding(f"credentials: {thing}", "good", f"in {', '.join(found)}" if found else "none")
