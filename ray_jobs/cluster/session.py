"""Connect a command to Ray: join a running cluster, or start a local one."""

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
    MIN_STORE_BYTES,
    SHARED_MEMORY,
    check_environment,
    check_temporary_folder,
)
from ray_jobs.cluster.stopping import handle_sigterm

MIN_LOGICAL_CPUS = 4
"""With fewer, two workers and a data stream on a two-core machine would deadlock."""

_GIB = 2**30
_LAST_PORT = 2**16 - 1
_ON_THIS_MACHINE = (
    "Ray does not start on this machine. Its logs are in ray/session_latest/logs below TMPDIR or /tmp; on a "
    "slow machine RAY_raylet_start_wait_time_s=120 gives it more time"
)

MALLOC_SETTINGS = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""Settings with which glibc keeps memory that torch frees: otherwise every step maps it again, and a step of
a small network on a CPU costs an eighth more. They are read when a process starts."""

BARRIER_TIMEOUT = {"RAY_TRAIN_COLLECTIVE_TIMEOUT_S": "900"}
"""Time limit of a rank in ``ray.train.report`` for another one that hangs; Ray's default has no limit."""

_INHERITED_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    **BARRIER_TIMEOUT,
}
"""Environment variables that the processes of a local cluster inherit.

A controller polls its workers every two seconds by default, and ``ray.train.report`` can wait that long. The
machine of a local cluster is not preempted; a watcher would cost two seconds of CPU per start of a fit.

They are set only while the local cluster starts. If they were set when a fit begins, Ray would set them for
each worker, and would start new processes in place of idle ones.
"""

_DASHBOARD_ENVIRONMENT = {"RAY_TRAIN_ENABLE_STATE_TRACKING": "1", **BARRIER_TIMEOUT}
"""Environment variables of a fit if there is a dashboard, which shows the record of Ray's state actor.

That actor costs a process with torch, and the variables cost new worker processes for each fit.
``BARRIER_TIMEOUT`` is set here too, since the processes of a joined cluster do not inherit from this one.
"""

_LOCAL_MARKER = {"PBR_LOCAL_CLUSTER": "1"}
"""Environment variable that marks the processes of a local cluster."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    # Ray hides GPUs from tasks that request none, and warns that a later version will not.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # Ray Train's workers would change their directory, and relative paths in a curriculum would be wrong.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Under `uv run` Ray would upload the current folder, and workers would import from it.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Ray ends idle processes beyond the number of free CPUs after a second, and training holds all CPUs:
    # where a fetch comes every few seconds each would begin a process (benchmarks/idle_workers.py).
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    **MALLOC_SETTINGS,
}
"""Defaults of environment variables for every Ray that a command starts or joins."""


@contextmanager
def ray_session(
    *,
    num_cpus: int | None = None,
    address: str | None = None,
    dashboard: bool = False,
    worker_output: bool = False,
) -> Iterator[None]:
    """Run the block inside a Ray cluster, and stop the cluster if the block started it.

    If this process has already initialised Ray, nothing changes. Otherwise ``address``, or ``RAY_ADDRESS``
    (which ``ray job submit`` sets), is joined. Otherwise a local cluster starts, with token authentication,
    because Ray's ports listen on every interface.

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
    watched = _DASHBOARD_ENVIRONMENT if dashboard or address is not None else {}
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
    with _default_environment(_LOCAL_MARKER if address is None else {}):
        if address is None:
            check_temporary_folder()
            with _default_environment(_INHERITED_ENVIRONMENT), _start_errors_as_outage(_ON_THIS_MACHINE):
                ray.init(**_local_options(num_cpus=num_cpus), include_dashboard=dashboard, **quiet)
        else:
            _join(address, **quiet)
        try:
            # After ray.init, which sets a handler of its own: one that ends the process where it stands.
            with handle_sigterm():
                yield
        finally:
            ray.shutdown()


def describe_start(address: str | None) -> str:
    """Return a line that says what ``ray_session`` does next, which can take minutes on a busy machine."""
    joined = address or os.environ.get("RAY_ADDRESS")
    return "starting Ray on this machine" if joined is None else f"joining the Ray cluster at {joined}"


def local_cpus(wanted: float = 0.0) -> int:
    """Return the logical CPUs of a local cluster: the machine's, the wanted ones, or the least number."""
    return max(math.ceil(wanted), len(os.sched_getaffinity(0)), MIN_LOGICAL_CPUS)


def is_local() -> bool:
    """Return whether this process belongs to a local cluster, which ends with its command."""
    return _LOCAL_MARKER.items() <= os.environ.items()


def _join(address: str, **options: Any) -> None:
    import ray

    try:
        if address != "auto":
            _check_reachable(address)
        with _start_errors_as_outage(
            f"{address}: the cluster cannot be joined. Its Ray, Python and token must be ours"
        ):
            ray.init(address=address, **options)
    except OSError as error:
        raise ConfigError(
            f"{address}: no Ray cluster answers there ({error}). Start one with `ray start --head`, "
            "or leave the address and RAY_ADDRESS out to run on this machine."
        ) from error


@contextmanager
def _start_errors_as_outage(sentence: str) -> Iterator[None]:
    """Turn errors of Ray's start into an OutageError, but not those that a bug in the call would raise."""
    try:
        yield
    except (PbrError, ConnectionError, TypeError, AttributeError, NameError, ImportError):
        raise
    except Exception as error:  # Ray raises that very class when a node takes too long
        raise OutageError(f"{sentence} ({first_line(error)}).") from error


@contextmanager
def _default_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that are not set, for the duration of the block."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _check_reachable(address: str, *, timeout_s: float = 10.0) -> None:
    """Open and close a connection, because Ray itself retries a dead address for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--address: got {address}; expected host:port of a Ray cluster, or auto.")
    if int(port) > _LAST_PORT:
        raise ConfigError(f"{address}: got port {port}; expected at most {_LAST_PORT}. Ray's own is 6379.")
    socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()


def _local_options(*, num_cpus: int | None) -> dict[str, Any]:
    """Return the arguments of ``ray.init`` for a local cluster."""
    if num_cpus is not None and num_cpus < 1:
        raise ConfigError(f"num_cpus: got {num_cpus}; expected 1 or more. Use {MIN_LOGICAL_CPUS} or more.")
    _ensure_token()
    return {
        "address": "local",
        "num_cpus": num_cpus or local_cpus(),
        "object_store_memory": _object_store_bytes(),
        "dashboard_host": "127.0.0.1",
    }


def _ensure_token() -> None:
    """Give the local cluster a token of its own, unless the user has one.

    Ray would write a new token to ``~/.ray/auth_token``, readable by others and lasting; one in the
    environment reaches exactly this process and its children.
    """
    named = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if not named and not has_token_at_home():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def has_token_at_home() -> bool:
    """Return whether Ray would find a token in the user's home; False without a readable home."""
    try:
        return (Path.home() / ".ray" / "auth_token").exists()
    except (OSError, RuntimeError):  # Python raises the latter for a user whom the system does not know
        return False


def _object_store_bytes() -> int:
    """Return an eighth of the memory, limited to 4 GiB and 80 % of free shared memory; at least 256 MiB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [memory // 8, 4 * _GIB]
    if SHARED_MEMORY.is_dir():
        limits.append(shutil.disk_usage(SHARED_MEMORY).free * 4 // 5)
    return max(min(limits), MIN_STORE_BYTES)
