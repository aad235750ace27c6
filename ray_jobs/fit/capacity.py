"""The room that fits take in a cluster: how many it holds, and how long one looks for its place."""

from __future__ import annotations

import logging

import ray
import ray.train

from pbrlib.curriculum.climb import phases_on_nodes
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.cluster.session import is_local
from ray_jobs.fit.currentphase import CurrentPhase
from ray_jobs.fit.starting import StartWatch

WHERE_IN_USE_S, WHERE_NODES_MAY_COME_S, WHERE_NONE_COME_S = 24 * 3600.0, 20 * 60.0, 3 * 60.0
"""How long a fit looks for its place where the nodes that are up could hold it, but others may be there;
where they could not, but an autoscaler may bring some; and in a local cluster, which stays as it is."""

_log = logging.getLogger(__name__)


def phases_in_cluster(runtime: RuntimeSpec) -> int:
    """How many fits the nodes that are up hold at once, whoever uses them now; at least one."""
    return max(1, _room(runtime))


def _room(runtime: RuntimeSpec) -> int:
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return phases_on_nodes([node["Resources"] for node in nodes if node["Alive"]], runtime)


def start_watch(runtime: RuntimeSpec, *, current: CurrentPhase) -> StartWatch:
    """Limits the search of a fit for its place; warns where none of the nodes that are up could be it."""
    place = _place(runtime)
    return StartWatch(
        patience_s=_patience_s(runtime, title=current.title, place=place),
        current=current,
        complaint=f"the cluster had no place for {place}. Add nodes, or set fewer workers or "
        "data_cpus in the runtime file; `ray status` says what is taken. The same command resumes.",
    )


def _patience_s(runtime: RuntimeSpec, *, title: str, place: str) -> float:
    if _room(runtime.at_fewest()):
        return WHERE_IN_USE_S
    if is_local():
        return WHERE_NONE_COME_S
    _log.warning(
        "%s: the nodes that are up have no place for %s; it looks for one for %g minutes",
        title,
        place,
        WHERE_NODES_MAY_COME_S / 60,
    )
    return WHERE_NODES_MAY_COME_S


def _place(runtime: RuntimeSpec) -> str:
    fewest = runtime.at_fewest()
    workers = "a worker" if fewest.workers == 1 else f"{fewest.workers} workers, each"
    gpu = " and a GPU" if fewest.device == "cuda" else ""
    return f"{workers} with {fewest.cpus_of_worker:g} CPUs{gpu}"


def scaling_of(runtime: RuntimeSpec) -> ray.train.ScalingConfig:
    """The places of a fit's workers."""
    gpu = {"GPU": 1.0} if runtime.device == "cuda" else {}
    return ray.train.ScalingConfig(
        # Ray types it as that of its first version, which knew no elastic training.
        num_workers=_num_workers(runtime),  # type: ignore[arg-type]
        elastic_resize_monitor_interval_s=runtime.resize_check_s,  # type: ignore[call-arg]
        use_gpu=runtime.device == "cuda",
        resources_per_worker={"CPU": runtime.cpus_of_worker, **gpu},
    )


def _num_workers(runtime: RuntimeSpec) -> int | tuple[int, int]:
    if runtime.min_workers is None:
        return runtime.workers
    return runtime.min_workers, runtime.workers
