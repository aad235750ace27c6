from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import ray

from pbrlib.errors import DataError
from pbrlib.jobs.inorder import run_in_order
from pbrlib.jobs.job import Failure, Job, Resources, Success
from pbrlib.jobs.record import RECORDS
from ray_jobs.jobtasks import MAX_DEMAND, RETRIES, _run_task, run_on_ray
from tests.conftest import NUM_CPUS
from tests.jobs.work import (
    calls,
    die,
    divide,
    job,
    leave_nothing,
    leave_resources,
    refuse,
    write_slowly,
    writing,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def outcomes(root: Path, *jobs: Job) -> dict[str, Success | Failure]:
    """Return outcomes by name, and require that no name occurs twice."""
    found = list(run_on_ray(jobs, root=root))
    by_name = {outcome.name: outcome for outcome in found}
    assert len(by_name) == len(found)
    return by_name


def several(root: Path) -> list[Job]:
    return [
        *(writing(root, f"a{number}", text="x" * number) for number in range(20)),
        job("bad", partial(refuse, "bad.png: cut short")),
        job("odd", partial(divide, root, "odd")),
    ]


def told(outcome: Success | Failure) -> object:
    return outcome.result if isinstance(outcome, Success) else (outcome.kind, outcome.reason)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.txt")}


def test_one_process_and_ray_leave_the_same_files_outcomes_and_records(tmp_path: Path) -> None:
    roots = [tmp_path / "alone", tmp_path / "ray"]
    for root in roots:
        root.mkdir()
    alone = {outcome.name: outcome for outcome in run_in_order(several(roots[0]), root=roots[0])}
    spread = outcomes(roots[1], *several(roots[1]))
    assert {name: told(outcome) for name, outcome in alone.items()} == {
        name: told(outcome) for name, outcome in spread.items()
    }
    assert len(spread) == 22
    assert "in divide" in spread["odd"].traceback
    assert files(roots[0]) == files(roots[1])
    names = [sorted(path.name for path in (root / RECORDS).iterdir()) for root in roots]
    assert names[0] == names[1]
    assert calls(roots[1]).count("odd") == 1, "what a function raises is not retried"
    again = outcomes(roots[1], *several(roots[1]))
    assert sum(isinstance(outcome, Success) and outcome.reused for outcome in again.values()) == 20


@pytest.mark.parametrize("num_cpus", [1.0, 0.25])
def test_jobs_in_flight_are_bounded_by_the_cluster_and_by_what_they_ask_for(
    tmp_path: Path, num_cpus: float
) -> None:
    taken = 0

    def endless() -> Iterator[Job]:
        nonlocal taken
        while True:
            taken += 1
            yield Job(str(taken), "1", leave_nothing, Resources(num_cpus))

    in_flight = []
    with closing(run_on_ray(endless(), root=tmp_path)) as ended:
        for count in range(40):
            next(ended)
            in_flight.append(taken - count)
    most = MAX_DEMAND * NUM_CPUS / num_cpus
    # Beside them one job has just ended, and one waits for room.
    assert max(in_flight) == most + 1


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSEGV])
def test_a_job_whose_process_is_killed_is_retried(tmp_path: Path, by: int) -> None:
    found = outcomes(tmp_path, job("unlucky", partial(die, tmp_path, "unlucky", 1, by)))
    assert isinstance(found["unlucky"], Success)
    assert (tmp_path / "out/unlucky.txt").read_text() == "text"


def test_a_job_that_always_kills_its_process_fails_alone(tmp_path: Path) -> None:
    poison = job("poison", partial(die, tmp_path, "poison", 99))
    found = outcomes(tmp_path, *(writing(tmp_path, f"a{n}") for n in range(6)), poison)
    failure = found.pop("poison")
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.traceback) == ("killed", "")
    assert f"lost its process {1 + RETRIES} times" in failure.reason
    assert calls(tmp_path).count("poison") == 1 + RETRIES
    assert all(isinstance(outcome, Success) for outcome in found.values())
    assert len(found) == 6


def test_every_job_has_one_outcome_whatever_becomes_of_the_others(tmp_path: Path) -> None:
    kinds = {
        "stands": 6,
        "writes": 12,
        "refuses": 4,
        "divides": 4,
        "dies once": 3,
        "dies": 2,
    }
    makes = {
        "stands": lambda name: writing(tmp_path, name),
        "writes": lambda name: writing(tmp_path, name),
        "refuses": lambda name: job(name, partial(refuse, name)),
        "divides": lambda name: job(name, partial(divide, tmp_path, name)),
        "dies once": lambda name: job(name, partial(die, tmp_path, name, 1)),
        "dies": lambda name: job(name, partial(die, tmp_path, name, 99)),
    }
    jobs = [makes[kind](f"{kind} {number}") for kind, count in kinds.items() for number in range(count)]
    list(run_in_order((one for one in jobs if one.name.startswith("stands")), root=tmp_path))
    random.Random(1).shuffle(jobs)
    found = outcomes(tmp_path, *jobs)
    assert found.keys() == {one.name for one in jobs}
    expected = {"refuses": "refused", "divides": "defect", "dies": "killed", "stands": True}
    for name, outcome in found.items():
        how = outcome.reused if isinstance(outcome, Success) else outcome.kind
        assert how == expected.get(name.rpartition(" ")[0], False), name


def test_a_run_that_is_left_leaves_no_job_that_still_writes(tmp_path: Path) -> None:
    jobs = [
        writing(tmp_path, "first"),
        *(job(f"s{n}", partial(write_slowly, tmp_path, f"s{n}", 60)) for n in "ab"),
    ]

    def leave() -> None:
        with closing(run_on_ray(jobs, root=tmp_path)) as ended:
            next(ended)
            wait_for(tmp_path / "sa.txt")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    before = files(tmp_path)
    time.sleep(0.5)
    assert files(tmp_path) == before
    assert len(list((tmp_path / RECORDS).iterdir())) == 1


def wait_for(file: Path, *, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not file.exists():
        assert time.monotonic() < end, f"{file} never came"
        time.sleep(0.05)


def test_jobs_of_which_none_ends_are_an_error_that_says_where_to_look(tmp_path: Path) -> None:
    greedy = Job("greedy", "1", leave_nothing, Resources(num_cpus=1000))
    with pytest.raises(DataError, match=r"got no end of 1 jobs within 1 s; expected one\..*ray status"):
        list(run_on_ray([greedy], root=tmp_path, idle_timeout_s=1))


def test_a_job_runs_with_the_resources_that_it_asks_for(tmp_path: Path) -> None:
    asking = Job("asking", "1", leave_resources, Resources(num_cpus=2.0, memory=2**20))
    assert outcomes(tmp_path, asking)["asking"].result == {"CPU": 2.0, "memory": float(2**20)}


def test_a_job_that_ray_would_retry_without_end_ends_as_a_failure(tmp_path: Path) -> None:
    """Out-of-memory kills do not count as retries in Ray; here more retries than ours stand in for them."""
    poison = job("poison", partial(die, tmp_path, "poison", 99))
    failure = ray.get(ray.remote(_run_task).options(max_retries=50).remote(poison, tmp_path))
    assert isinstance(failure, Failure)
    assert "out of memory" in failure.reason
    assert calls(tmp_path).count("poison") == 1 + RETRIES
