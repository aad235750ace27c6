"""Jobs as Ray tasks: bounded in flight, outcomes as they come, and what kills its process costs one job."""

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
"""Of a job whose process or node is lost. What its function raises is an outcome, and is not retried."""

MAX_DEMAND = 2.0
"""Jobs in flight ask for at most this many times what the cluster has: no worker waits for the driver, and an
autoscaler sees that more is wanted."""

MIN_IN_FLIGHT = 8
"""However small the cluster is now: one that scales from nothing has to see a demand."""

REFRESH_S = 5.0
"""The size of the cluster is asked for this often at most; it changes when nodes come and go."""

CANCEL_TIMEOUT_S = 30.0

IDLE_TIMEOUT_S = 3600.0
"""Of all jobs together: those of today take seconds, and minutes where textures are large."""

_LOST = (WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError)


def run_on_ray(
    jobs: Iterable[Job], *, root: Path, idle_timeout_s: float = IDLE_TIMEOUT_S
) -> Generator[Outcome, None, None]:
    """Carries out what does not stand as Ray tasks, and yields the outcome of every job as it ends.

    `pbrlib.jobs.inorder.run_in_order` does the same in one process, to the same bytes. Close the iterator,
    as with ``contextlib.closing``, where it may be left before its end: tasks that still write are then
    ended, and have ended when the call returns.

    Args:
        jobs: With names that differ; taken from as there is room, so that there may be any number.
        root: The folder that their files and records lie below; on a cluster, one that every node sees.
        idle_timeout_s: How long to wait for the next of the jobs in flight to end.

    Raises:
        DataError: No job has ended for ``idle_timeout_s``, or S3 refuses the reading of a record.
    """
    flight = _Flight(root, idle_timeout_s=idle_timeout_s)
    try:
        for job in jobs:
            stands = finished_outcome(job, root=root)
            if stands is not None:
                yield stands
                continue
            while not flight.can_start(job.resources):
                yield flight.next_outcome()
            flight.start(job)
        while flight.jobs:
            yield flight.next_outcome()
    finally:
        flight.cancel()


class _Flight:
    """The tasks that were given to Ray and have not ended; ``jobs`` by the reference of their outcome."""

    def __init__(self, root: Path, *, idle_timeout_s: float) -> None:
        self.jobs: dict[ray.ObjectRef[Any], Job] = {}
        self._root, self._idle_timeout_s = root, idle_timeout_s
        self._task = ray.remote(_run_task)
        self._asked: Counter[str] = Counter()
        self._cluster: dict[str, float] = {}
        self._cluster_known_at = -REFRESH_S

    def can_start(self, resources: Resources) -> bool:
        """Whether a job that asks for ``resources`` may be given to Ray now."""
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
        """Gives a job to Ray."""
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
        """Waits until a job ends; raises DataError after ``idle_timeout_s``."""
        ended, _ = ray.wait(list(self.jobs), num_returns=1, timeout=self._idle_timeout_s)
        if not ended:
            raise DataError(
                f"none of {len(self.jobs)} jobs has ended within {self._idle_timeout_s:.0f} s. Look with "
                "`ray status` whether the cluster has what they ask for, and at the storage."
            )
        job = self.jobs.pop(ended[0])
        self._asked.subtract(_as_ray_names(job.resources))
        try:
            outcome: Outcome = ray.get(ended[0])
        except _LOST as error:
            return _killed(job, 1 + RETRIES, first_line(error))
        return outcome

    def cancel(self) -> None:
        """Ends what is in flight, and waits for its processes to be gone."""
        for reference in self.jobs:
            ray.cancel(reference, force=True)
        if self.jobs:
            ray.wait(list(self.jobs), num_returns=len(self.jobs), timeout=CANCEL_TIMEOUT_S)


def _run_task(job: Job, root: Path) -> Outcome:
    """The task."""
    attempt = _lost_attempts()
    if attempt > RETRIES:
        return _killed(job, attempt, "out of memory, or its node was taken away")
    return run_job(job, root=root)


def _lost_attempts() -> int:
    """How many processes the running task has lost.

    As soon as a task has a retry, Ray 2.60 repeats it without end when its memory monitor kills it
    (``task_oom_retries`` is -1), and when its node is preempted. Private, and listed in
    `ray_jobs.rayinternals`, which is not imported here since it imports Ray Train.
    """
    context: Any = ray.get_runtime_context()
    attempt: int = context.worker.core_worker.get_current_task_attempt_number()
    return attempt


def _killed(job: Job, times: int, reason: str) -> Failure:
    return Failure(job.name, "killed", f"it lost its process {times} times ({reason})")


def _as_ray_names(resources: Resources) -> dict[str, float]:
    named = {"CPU": resources.num_cpus, "GPU": resources.num_gpus, "memory": float(resources.memory)}
    return {name: amount for name, amount in named.items() if amount}
