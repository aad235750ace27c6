"""One way into Ray for every command: joins the cluster that is there, or starts a quiet local one."""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pbrlib.errors import ConfigError, OutageError, PbrError, first_line
from ray_jobs.cluster.machine import (
    LEAST_STORE_BYTES,
    SHARED_MEMORY,
    check_environment,
    check_temporary_folder,
)
from ray_jobs.cluster.stopping import answering_sigterm

MIN_LOGICAL_CPUS = 4
"""With fewer, two workers and a data stream on a two-core machine wait for each other for ever."""

_GIB = 2**30
_LAST_PORT = 2**16 - 1
_ON_THIS_MACHINE = (
    "Ray does not start on this machine. Its logs are in ray/session_latest/logs below TMPDIR or /tmp; on a "
    "slow machine RAY_raylet_start_wait_time_s=120 gives it more time"
)

KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""glibc gives what torch frees back to the kernel, and every step faults it in again: kept, a step of a small
network on a CPU costs an eighth less. It has to stand in the environment before a process starts."""

BARRIER = {"RAY_TRAIN_COLLECTIVE_TIMEOUT_S": "900"}
"""So long a rank waits in ``ray.train.report`` for another that hangs; Ray's default is for ever."""

_INHERITED = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    **BARRIER,
}
"""``ray.train.report`` returns when the controller has looked, by default every two seconds. Nobody takes the
machine of a local cluster away, so no fit needs a process that watches for it: two seconds of CPU a start.

Only while a local cluster starts: its processes inherit it. Where it stands in the driver's environment when
a fit begins, it is set for each worker apart, and Ray starts new processes in place of those that wait.
"""

_WATCHED = {"RAY_TRAIN_ENABLE_STATE_TRACKING": "1", **BARRIER}
"""What the dashboard says of fits comes from this record.

Only where there is a dashboard: it takes a process with torch in it, and, like ``_INHERITED``, new workers
for each fit. ``BARRIER`` too: the processes of a joined cluster do not inherit from this one.
"""

_LOCAL = {"PBR_LOCAL_CLUSTER": "1"}
"""Stands in every process of a local cluster while it is up."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    # Ray hides the GPUs from tasks that ask for none, and warns that it will stop doing so.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # Train's workers would change their directory, and relative paths in a curriculum would point elsewhere.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Under `uv run` Ray would upload the current folder, and workers would import from it.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Ray ends idle processes beyond the number of free CPUs after a second, and training holds all CPUs:
    # where a fetch comes every few seconds each would begin a process (benchmarks/idle_workers.py).
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    **KEPT_MEMORY,
}
"""What a Ray of ours starts with, where the environment does not say otherwise."""


@contextmanager
def ray_session(
    *,
    num_cpus: int | None = None,
    address: str | None = None,
    dashboard: bool = False,
    worker_output: bool = False,
) -> Iterator[None]:
    """Runs the block inside a Ray cluster, and stops what it has started.

    A Ray that this process has already initialised is used as it is. Else ``address``, or
    ``RAY_ADDRESS``, is joined (``ray job submit`` sets it). Else a local cluster starts, with token
    authentication: Ray's own ports listen on every interface.

    Args:
        num_cpus: Logical CPUs of a local cluster; None: the machine's, at least ``MIN_LOGICAL_CPUS``.
        address: Address of a running cluster.
        dashboard: Whether a local cluster shows its dashboard, on loopback.
        worker_output: Whether the standard output of tasks and actors appears in this terminal.

    Raises:
        ConfigError: Nothing answers at the address, ``num_cpus`` is not positive, or this machine lacks what
            Ray needs.
        OutageError: Ray does not start, or the cluster cannot be joined.
    """
    check_environment()
    address = address or os.environ.get("RAY_ADDRESS")
    watched = _WATCHED if dashboard or address is not None else {}
    for name, value in (ENVIRONMENT | watched).items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    from ray_jobs.cluster.jobconfig import SafeJobConfig, refuse_shadows

    refuse_shadows()
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": worker_output}
    if address is None or "://" not in address:  # a Ray client has no current folder on the cluster
        quiet["job_config"] = SafeJobConfig()
    with _also_in_environment(_LOCAL if address is None else {}):
        if address is None:
            check_temporary_folder()
            with _also_in_environment(_INHERITED), _starting(_ON_THIS_MACHINE):
                ray.init(**_local(num_cpus=num_cpus), include_dashboard=dashboard, **quiet)
        else:
            _join(address, **quiet)
        try:
            # After ray.init, which sets a handler of its own: one that ends the process where it stands.
            with answering_sigterm():
                yield
        finally:
            ray.shutdown()


def describe_start(address: str | None) -> str:
    """Return what ``ray_session`` is about to do: it takes seconds, and minutes on a busy machine."""
    joined = address or os.environ.get("RAY_ADDRESS")
    return "starting Ray on this machine" if joined is None else f"joining the Ray cluster at {joined}"


def local_cpus(wanted: float = 0.0) -> int:
    """Logical CPUs of a local cluster: those of the machine, or as many as are wanted; a few at least."""
    return max(math.ceil(wanted), len(os.sched_getaffinity(0)), MIN_LOGICAL_CPUS)


def is_local() -> bool:
    """Whether this process belongs to a cluster that ends with its command."""
    return _LOCAL.items() <= os.environ.items()


def _join(address: str, **options: Any) -> None:
    import ray

    try:
        if address != "auto":
            _knock(address)
        with _starting(f"{address}: the cluster cannot be joined. Its Ray, Python and token must be ours"):
            ray.init(address=address, **options)
    except OSError as error:
        raise ConfigError(
            f"{address}: no Ray cluster answers there ({error}). Start one with `ray start --head`, "
            "or leave the address and RAY_ADDRESS out to run on this machine."
        ) from error


@contextmanager
def _starting(sentence: str) -> Iterator[None]:
    """Turns what Ray raises while it starts into an OutageError; slips in a call of ours stay as they are."""
    try:
        yield
    except (PbrError, ConnectionError, TypeError, AttributeError, NameError, ImportError):
        raise
    except Exception as error:  # Ray raises that very class when a node takes too long
        raise OutageError(f"{sentence} ({first_line(error)}).") from error


@contextmanager
def _also_in_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Adds what is not set already, for the time of the block."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _knock(address: str, *, timeout_s: float = 10.0) -> None:
    """Opens and closes a connection: Ray itself goes on knocking at a dead address for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{address}: not the address of a Ray cluster. Write host:port, or auto.")
    if int(port) > _LAST_PORT:
        raise ConfigError(f"{address}: got port {port}; expected at most {_LAST_PORT}. Ray's own is 6379.")
    socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()


def _local(*, num_cpus: int | None) -> dict[str, Any]:
    """The arguments of ``ray.init`` for a cluster of this machine alone."""
    if num_cpus is not None and num_cpus < 1:
        raise ConfigError(f"num_cpus: {num_cpus} is not a number of CPUs. Use {MIN_LOGICAL_CPUS} or more.")
    _ensure_token()
    return {
        "address": "local",
        "num_cpus": num_cpus or local_cpus(),
        "object_store_memory": _object_store_bytes(),
        "dashboard_host": "127.0.0.1",
    }


def _ensure_token() -> None:
    """Gives this process's cluster a token of its own, unless the user has one.

    Ray would write a new token to ``~/.ray/auth_token``, readable by others and lasting; one in the
    environment reaches exactly this process and its children.
    """
    named = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if not named and not has_token_at_home():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def has_token_at_home() -> bool:
    """Whether Ray would find a token in the user's home; False too for a user without a home to read."""
    try:
        return (Path.home() / ".ray" / "auth_token").exists()
    except (OSError, RuntimeError):  # Python raises the latter for a user whom the system does not know
        return False


def _object_store_bytes() -> int:
    """An eighth of the memory, at most 4 GiB and four fifths of the free shared memory, at least 256 MiB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [memory // 8, 4 * _GIB]
    if SHARED_MEMORY.is_dir():
        limits.append(shutil.disk_usage(SHARED_MEMORY).free * 4 // 5)
    return max(min(limits), LEAST_STORE_BYTES)
