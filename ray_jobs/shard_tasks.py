"""The Ray tasks that write shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from pbrlib.data.materials.audit import Finding
from pbrlib.data.materials.prepare import Group, Written, write_group
from pbrlib.errors import DataError, PbrError, first_line

CANCEL_TIMEOUT_S = 30.0

SILENCE_S = 3600.0
"""Of all tasks together: a few materials are written in seconds, those of the largest in minutes."""


def write_groups(
    groups: Sequence[Group], out: str, *, alone: Callable[[Group], list[Group]]
) -> Iterator[tuple[Group, Written]]:
    """Runs the groups as tasks and yields each as it ends; what kills its task costs its material only."""
    write = ray.remote(num_cpus=1, max_retries=0)(_write)
    pending = {write.remote(group, out): group for group in groups}
    try:
        while pending:
            ended, _ = ray.wait(list(pending), num_returns=1, timeout=SILENCE_S)
            if not ended:
                raise DataError(
                    f"none of {len(pending)} tasks that write shards has ended within {SILENCE_S:.0f} s. "
                    "Look with `ray status` whether the cluster has a free CPU, and at the storage."
                )
            (done,) = ended
            group, result = pending.pop(done), _result(done)
            if isinstance(result, RayError) and len(group.members) > 1:
                pending |= {write.remote(one, out): one for one in alone(group)}
                continue
            if isinstance(result, str):
                raise DataError(result)
            yield group, _killed(group, result) if isinstance(result, RayError) else result
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        if pending:  # a task that is still writing would outlive the removal of its files
            ray.wait(list(pending), num_returns=len(pending), timeout=CANCEL_TIMEOUT_S)


def _write(group: Group, out: str) -> Written | str:
    """The task; an error of the user's travels as text, since Ray would wrap it in a traceback."""
    try:
        return write_group(group, out=out)
    except PbrError as error:
        return str(error)


def _result(done: ray.ObjectRef[Any]) -> Written | str | RayError:
    """What a task returned, or why it died; an error that it raised is our bug, whose traceback is wanted."""
    try:
        result: Written | str = ray.get(done)
    except RayTaskError:
        raise
    except RayError as error:
        return error
    return result


def _killed(group: Group, error: Exception) -> Written:
    message = f"reading it killed its process ({first_line(error)}). Save its files again, or reduce them."
    return Written(None, (), (Finding(group.members[0].entry.id, "", "killed", "error", message),))
