"""The private parts of Ray that the product uses, each with its reason; no other module imports one.

`tests/fit/test_rayinternals.py` fails where one of them is gone or has changed its shape: after an upgrade of
Ray it is the list of what to look at. This module imports no torch, since the controller of a fit, a process
of its own, imports it.
"""

from __future__ import annotations

from typing import Any

from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller.state import (
    InitializingState,
    PreemptingState,
    ReschedulingState,
    ResizingState,
    RestartingState,
    RunningState,
    SchedulingState,
)
from ray.train.v2.api.callback import RayTrainCallback
from ray.train.v2.api.config import FailureConfig

__all__ = [
    "ControllerCallback",
    "ExecutionCallback",
    "FailureConfig",
    "InitializingState",
    "PlacementGroupCleanerCallback",
    "PreemptingState",
    "RayTrainCallback",
    "ReschedulingState",
    "ResizingState",
    "RestartingState",
    "RunningState",
    "SchedulingState",
    "WorkerGroupCallback",
    "WorkerGroupStartupFailedError",
    "torch_backend",
]

REASONS = {
    "ExecutionCallback": "Ray Data's scheduler spins while nothing is to be done; a callback slows it down.",
    "PlacementGroupCleanerCallback": "In a local cluster it asks another cluster, and delays each fit's end.",
    "ControllerCallback": "A search for resources has no limit in Ray; the controller's states time it.",
    "WorkerGroupStartupFailedError": "Deaths in a start are counted with the searches; this error is theirs.",
    "WorkerGroupCallback": "Resources of workers that are lost before they train are not given back.",
    "RayTrainCallback": "The type of the callbacks of a fit, which Ray does not export.",
    "FailureConfig": "Ray types the one that it exports as its first version, which had fewer limits.",
    "torch_backend": "It takes a worker that the memory monitor has ended for an error of its own.",
}
"""Why each part is used; the controller's states go with ``ControllerCallback``."""

NODE_LABEL = "ray.io/node-id"
"""Ray's own label of every node."""

VERSION = "2.60.0"
"""The version of Ray in which every part was read and tried."""

ATTRIBUTES = {
    # Ctrl-C waits for the controller without a limit, and the controller does not answer while it searches.
    "ray.train.torch:TorchTrainer": ("_register_sigint_handler", "_create_default_callbacks"),
    # The number of tasks at work tells what a late batch waits for.
    "ray.data._internal.execution.streaming_executor:StreamingExecutor": ("_topology",),
    "ray.data._internal.execution.interfaces:PhysicalOperator": ("num_active_tasks",),
    # The placement group of a worker group, to give its resources back.
    "ray.train.v2._internal.execution.worker_group:WorkerGroup": ("get_worker_group_state",),
    "ray.train.v2._internal.execution.worker_group.state:WorkerGroupState": ("placement_group_handle",),
    # Kills by the memory monitor are retried without end, so a job counts its own attempts.
    "ray.runtime_context:RuntimeContext": ("worker",),
    "ray._raylet:CoreWorker": ("get_current_task_attempt_number",),
    # The driver's current folder would come first on the workers' module search path.
    "ray.job_config:JobConfig": ("_get_proto_job_config", "_py_driver_sys_path"),
    # Requests to a dashboard have no limit.
    "ray.job_submission:JobSubmissionClient": ("_do_request",),
}
"""Private attributes that are overridden or read: class -> names."""

CHATTY_LOGGERS = (
    "ray._private.runtime_env.packaging",
    "ray._private.runtime_env.working_dir",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
"""Loggers, called as their modules, that write into the output of ``pbr submit``."""


def torch_backend() -> Any:
    """Return the class that begins and ends torch's process group on the workers; imports torch."""
    from ray.train.torch.config import _TorchBackend

    return _TorchBackend
