"""The resources of fits in a cluster: how many run at once, and how long one searches for resources."""

from __future__ import annotations

import logging

import ray
import ray.train

from pbrlib.curriculum.waves import phases_on_nodes
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.cluster.session import is_local
from ray_jobs.fit.currentphase import CurrentPhase
from ray_jobs.fit.starting import StartWatch

IN_USE_TIMEOUT_S, AUTOSCALING_TIMEOUT_S, LOCAL_TIMEOUT_S = 24 * 3600.0, 20 * 60.0, 3 * 60.0
"""Time limits of a fit's search for resources: if the nodes that are up could hold it but may be in use; if
they could not, but an autoscaler may add some; and in a local cluster, which does not grow."""

_log = logging.getLogger(__name__)


def phases_in_cluster(runtime: RuntimeSpec) -> int:
    """Return how many fits the nodes that are up could hold at once if they were free; at least one."""
    return max(1, _num_fits(runtime))


def _num_fits(runtime: RuntimeSpec) -> int:
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return phases_on_nodes([node["Resources"] for node in nodes if node["Alive"]], runtime)


def start_watch(runtime: RuntimeSpec, *, current: CurrentPhase) -> StartWatch:
    """Return the callback that limits a fit's search; warn if the nodes that are up could not hold it."""
    workers = _describe_workers(runtime)
    return StartWatch(
        patience_s=_patience_s(runtime, title=current.title, workers=workers),
        current=current,
        complaint=f"got no free resources for {workers}; expected nodes that have them. Add nodes, or set "
        "fewer workers or data_cpus in the runtime file; `ray status` shows what is used. The same command "
        "resumes.",
    )


def _patience_s(runtime: RuntimeSpec, *, title: str, workers: str) -> float:
    if _num_fits(runtime.at_fewest()):
        return IN_USE_TIMEOUT_S
    if is_local():
        return LOCAL_TIMEOUT_S
    _log.warning(
        "%s: the nodes that are up cannot hold %s; waiting for other nodes for %g minutes",
        title,
        workers,
        AUTOSCALING_TIMEOUT_S / 60,
    )
    return AUTOSCALING_TIMEOUT_S


def _describe_workers(runtime: RuntimeSpec) -> str:
    fewest = runtime.at_fewest()
    workers = "a worker" if fewest.workers == 1 else f"{fewest.workers} workers, each"
    gpu = " and a GPU" if fewest.device == "cuda" else ""
    return f"{workers} with {fewest.cpus_of_worker:g} CPUs{gpu}"


def scaling_of(runtime: RuntimeSpec) -> ray.train.ScalingConfig:
    """Return the number of a fit's workers and the resources of each."""
    gpu = {"GPU": 1.0} if runtime.device == "cuda" else {}
    return ray.train.ScalingConfig(
        # Ray types the class of its first version, which had no elastic training.
        num_workers=_num_workers(runtime),  # type: ignore[arg-type]
        elastic_resize_monitor_interval_s=runtime.resize_check_s,  # type: ignore[call-arg]
        use_gpu=runtime.device == "cuda",
        resources_per_worker={"CPU": runtime.cpus_of_worker, **gpu},
    )


def _num_workers(runtime: RuntimeSpec) -> int | tuple[int, int]:
    if runtime.min_workers is None:
        return runtime.workers
    return runtime.min_workers, runtime.workers
