"""The relay between a command and the workers of a shared fit, as an object of its own loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from ray_jobs.fit.relay import Relay


async def is_waiting(task: asyncio.Task[object]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


def test_a_job_is_finished_once_every_rank_has_finished_it() -> None:
    async def scenario() -> None:
        relay = Relay()
        assert await relay.add(b"S0") == 0
        command = asyncio.create_task(relay.wait_until_finished(0))
        assert await is_waiting(command), "before the workers have started"
        assert await relay.begin_attempt(num_ranks=2) == 0
        await relay.finish(0, rank=1)
        assert await is_waiting(command)
        await relay.finish(0, rank=0)
        await command

    asyncio.run(scenario())


def test_workers_wait_for_the_next_job_and_end_when_none_follows() -> None:
    async def scenario() -> None:
        relay = Relay()
        await relay.add(b"S0")
        assert await relay.job(0) == b"S0"
        workers = [asyncio.create_task(relay.job(1)) for _ in range(2)]
        assert await is_waiting(workers[0])
        await relay.add(b"S1")
        assert await asyncio.gather(*workers) == [b"S1", b"S1"]
        last = asyncio.create_task(relay.job(2))
        assert await is_waiting(last)
        await relay.close()
        assert await last is None

    asyncio.run(scenario())


@pytest.mark.parametrize("next_comes", ["before", "after"])
def test_workers_that_start_anew_between_two_jobs_do_not_finish_the_next_one(next_comes: str) -> None:
    """They finish the old job again, which is at its end; the next one may have come in between."""

    async def scenario() -> None:
        relay = Relay()
        await relay.add(b"S0")
        await relay.begin_attempt(num_ranks=1)
        await relay.finish(0, rank=0)
        assert await relay.begin_attempt(num_ranks=1) == 0
        if next_comes == "before":
            await relay.add(b"S1")
        await relay.finish(0, rank=0)
        if next_comes == "after":
            await relay.add(b"S1")
        command = asyncio.create_task(relay.wait_until_finished(1))
        assert await is_waiting(command)
        assert await relay.job(1) == b"S1"
        await relay.finish(1, rank=0)
        await command

    asyncio.run(scenario())


def test_the_process_of_the_relay_imports_neither_torch_nor_ray_train() -> None:
    code = "import sys, ray_jobs.fit.relay; print({'torch', 'ray.train', 'pandas'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
