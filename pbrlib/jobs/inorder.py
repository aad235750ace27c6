"""Run jobs one after another in this process; `ray_jobs.jobtasks` runs them on Ray with equal results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pbrlib.jobs.job import Job, Outcome
from pbrlib.jobs.record import finished_outcome, run_job


def run_in_order(jobs: Iterable[Job], *, root: Path) -> Iterator[Outcome]:
    """Run the jobs that are not finished, and yield the outcome of every job in order.

    Args:
        jobs: Jobs with unique names; the iterable is read one job at a time.
        root: The folder that contains their files and records, local or on S3.

    Raises:
        DataError: S3 refuses to read a record.
    """
    for job in jobs:
        yield finished_outcome(job, root=root) or run_job(job, root=root)
