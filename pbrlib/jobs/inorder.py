"""Jobs one after another in this process; `ray_jobs.many` spreads them over a cluster, to the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pbrlib.jobs.job import Job, Outcome
from pbrlib.jobs.record import carry_out, standing


def run_in_order(jobs: Iterable[Job], *, root: Path) -> Iterator[Outcome]:
    """Carries out what does not stand, and yields the outcome of every job in order.

    Args:
        jobs: With names that differ; taken from one at a time.
        root: The folder that their files and records lie below, local or on S3.

    Raises:
        DataError: S3 refuses the reading of a record.
    """
    for job in jobs:
        yield standing(job, root=root) or carry_out(job, root=root)
