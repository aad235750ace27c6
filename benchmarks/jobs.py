"""Measure the overhead of a job: in one process, on Ray, and as a plain Ray task without a record.

    python benchmarks/jobs.py [--rounds 10] [--jobs 300] [--quick]

Every way writes the same small files with one Ray; their bytes must be equal. Plain tasks are all submitted
at once and write no records, so a second run repeats them. The second run of the jobs, in which all of them
are already done, is timed separately.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from timing import EQUAL_PRIORITY, Line, Spread, interleaved, show

from pbrlib.jobs.inorder import run_in_order
from pbrlib.jobs.job import Job, JobOutput
from ray_jobs.cluster.session import ray_session


def write(root: Path, number: int) -> JobOutput:
    """Write a file of a few kilobytes, as the work of a job."""
    data = hashlib.sha256(str(number).encode()).digest() * 256
    (root / f"{number}.bin").write_bytes(data)
    return JobOutput((f"{number}.bin",), {"bytes": len(data)})


def in_order(root: Path, jobs: list[Job]) -> None:
    """Run the jobs in this process."""
    for _ in run_in_order(jobs, root=root):
        pass


def on_ray(root: Path, jobs: list[Job]) -> None:
    """Run the jobs as Ray tasks with records."""
    from ray_jobs.jobtasks import run_on_ray

    for _ in run_on_ray(jobs, root=root):
        pass


def plain_tasks(root: Path, jobs: list[Job]) -> None:
    """Run the jobs as plain Ray tasks without records."""
    import ray

    task = ray.remote(call)
    ray.get([task.remote(job) for job in jobs])


def call(job: Job) -> JobOutput:
    """Call the function of a job."""
    return job.run()


def timed(way: Callable[[Path, list[Job]], None], *, count: int) -> tuple[float, float, str]:
    """Return the seconds of a first and a second run in an empty folder, and the SHA-256 of all its files."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        jobs = [Job(str(number), "1", partial(write, root, number)) for number in range(count)]
        seconds = []
        for _ in range(2):
            begin = time.perf_counter()
            way(root, jobs)
            seconds.append(time.perf_counter() - begin)
        found = hashlib.sha256()
        for file in sorted(root.glob("*.bin")):
            found.update(file.name.encode() + file.read_bytes())
    return seconds[0], seconds[1], found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="run two short rounds, as a test")
    given = parser.parse_args()
    rounds, count = (2, 40) if given.quick else (given.rounds, given.jobs)
    os.environ.update(EQUAL_PRIORITY)
    ways = {"in order": in_order, "on Ray": on_ray, "plain Ray tasks": plain_tasks}
    with ray_session():
        runs = {name: partial(timed, way, count=count) for name, way in ways.items()}
        found = interleaved(runs, rounds=rounds, dropped=1)
    assert len({digest for results in found.values() for _, _, digest in results}) == 1, "files differ"
    first = {name: [1e3 * result[0] / count for result in results] for name, results in found.items()}
    again = {name: [1e3 * result[1] / count for result in results] for name, results in found.items()}
    lines = [Line(name, Spread.of(values), "ms a job") for name, values in first.items()]
    lines += [Line(f"{name}, all done before", Spread.of(again[name]), "ms a job") for name in list(ways)[:2]]
    lines.append(
        Line("on Ray / plain tasks", Spread.of_ratios(first["on Ray"], first["plain Ray tasks"]), "")
    )
    show(f"{count} jobs that write 8 KiB each", lines)


if __name__ == "__main__":
    main()
