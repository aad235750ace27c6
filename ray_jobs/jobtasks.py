"""Run jobs as Ray tasks, a bounded number at once; a job that kills its process costs only itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    WorkerCrashedError,
)

from pbrlib.errors import DataError, first_line
from pbrlib.jobs.job import Failure, Job, Outcome, Resources
from pbrlib.jobs.record import finished_outcome, run_job

RETRIES = 2
"""Retries of a job whose process or node is lost. An error of its function is an outcome, without retry."""

MAX_DEMAND = 2.0
"""Limit of the resources that running jobs request, relative to those of the cluster. Above 1, so that no
worker waits for the driver and an autoscaler sees the demand."""

MIN_IN_FLIGHT = 8
"""Jobs in flight on any cluster: one that scales from zero nodes has to see a demand."""

REFRESH_S = 5.0
"""Shortest interval between two queries of the size of the cluster, which changes with its nodes."""

CANCEL_TIMEOUT_S = 30.0

IDLE_TIMEOUT_S = 3600.0
"""Longest time in which no job ends. Jobs take seconds, with large textures minutes."""

_LOST = (WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError)


def run_on_ray(
    jobs: Iterable[Job], *, root: Path, idle_timeout_s: float = IDLE_TIMEOUT_S
) -> Generator[Outcome, None, None]:
    """Run the unfinished jobs as Ray tasks, and yield the outcome of every job when it ends.

    `pbrlib.jobs.inorder.run_in_order` does the same in one process and writes the same bytes. Where the
    iterator may be left before its end, close it, for example with ``contextlib.closing``: this ends the
    running tasks and waits until their processes have ended.

    Args:
        jobs: Jobs with different names; read on demand, so their number is not limited.
        root: Folder of their files and records; on a cluster, every node must see it.
        idle_timeout_s: Longest wait for the next of the running jobs to end.

    Raises:
        DataError: No job has ended for ``idle_timeout_s``, or a record on S3 cannot be read.
    """
    flight = _Flight(root, idle_timeout_s=idle_timeout_s)
    try:
        for job in jobs:
            earlier = finished_outcome(job, root=root)
            if earlier is not None:
                yield earlier
                continue
            while not flight.can_start(job.resources):
                yield flight.next_outcome()
            flight.start(job)
        while flight.jobs:
            yield flight.next_outcome()
    finally:
        flight.cancel()


class _Flight:
    """The running tasks; ``jobs`` has the job by the reference of its outcome."""

    def __init__(self, root: Path, *, idle_timeout_s: float) -> None:
        self.jobs: dict[ray.ObjectRef[Any], Job] = {}
        self._root, self._idle_timeout_s = root, idle_timeout_s
        self._task = ray.remote(_run_task)
        self._asked: Counter[str] = Counter()
        self._cluster: dict[str, float] = {}
        self._cluster_known_at = -REFRESH_S

    def can_start(self, resources: Resources) -> bool:
        """Whether a job that requests ``resources`` may be submitted now."""
        if len(self.jobs) < MIN_IN_FLIGHT:
            return True
        now = time.monotonic()
        if now - self._cluster_known_at >= REFRESH_S:
            self._cluster = ray.cluster_resources()  # type: ignore[no-untyped-call]
            self._cluster_known_at = now
        asked = _as_ray_names(resources)
        return all(
            self._asked[name] + amount <= MAX_DEMAND * self._cluster.get(name, 0.0)
            for name, amount in asked.items()
        )

    def start(self, job: Job) -> None:
        """Submit a job to Ray."""
        asked = job.resources
        task = self._task.options(
            name=f"job {job.name}",
            num_cpus=asked.num_cpus,
            num_gpus=asked.num_gpus,
            memory=asked.memory or None,
            max_retries=RETRIES,
        )
        self.jobs[task.remote(job, self._root)] = job
        self._asked.update(_as_ray_names(asked))

    def next_outcome(self) -> Outcome:
        """Wait until a job ends and return its outcome; raises DataError after ``idle_timeout_s``."""
        ended, _ = ray.wait(list(self.jobs), num_returns=1, timeout=self._idle_timeout_s)
        if not ended:
            raise DataError(
                f"jobs: got no end of {len(self.jobs)} jobs within {self._idle_timeout_s:.0f} s; expected "
                "one. Check with `ray status` whether the cluster has the resources they request, and check "
                "the storage."
            )
        job = self.jobs.pop(ended[0])
        self._asked.subtract(_as_ray_names(job.resources))
        try:
            outcome: Outcome = ray.get(ended[0])
        except _LOST as error:
            return _killed(job, 1 + RETRIES, first_line(error))
        return outcome

    def cancel(self) -> None:
        """Cancel the running tasks, and wait until their processes have ended."""
        for reference in self.jobs:
            ray.cancel(reference, force=True)
        if self.jobs:
            ray.wait(list(self.jobs), num_returns=len(self.jobs), timeout=CANCEL_TIMEOUT_S)


def _run_task(job: Job, root: Path) -> Outcome:
    """Run a job in the process of its Ray task."""
    attempt = _lost_attempts()
    if attempt > RETRIES:
        return _killed(job, attempt, "out of memory, or its node was preempted")
    return run_job(job, root=root)


def _lost_attempts() -> int:
    """Return the number of processes that the running task has lost.

    As soon as a task has a retry, Ray 2.60 repeats it without end when its memory monitor kills it
    (``task_oom_retries`` is -1), and when its node is preempted. This uses a private attribute of Ray, which
    `ray_jobs.rayinternals` lists; it is not imported here because it imports Ray Train.
    """
    context: Any = ray.get_runtime_context()
    attempt: int = context.worker.core_worker.get_current_task_attempt_number()
    return attempt


def _killed(job: Job, times: int, reason: str) -> Failure:
    return Failure(job.name, "killed", f"it lost its process {times} times ({reason})")


def _as_ray_names(resources: Resources) -> dict[str, float]:
    named = {"CPU": resources.num_cpus, "GPU": resources.num_gpus, "memory": float(resources.memory)}
    return {name: amount for name, amount in named.items() if amount}
