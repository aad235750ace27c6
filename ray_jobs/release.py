"""The end of a finished ladder: evaluates its networks and leaves them as the folder ``RUNS/model``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pbrlib.errors import DataError, PbrError

if TYPE_CHECKING:
    from pbrlib.curriculum.spec import Curriculum
    from pbrlib.data.shards.dataset import DataSet
    from pbrlib.data.shards.dataspec import DataSpec
    from pbrlib.release.write import Release
    from pbrlib.train.runtimespec import RuntimeSpec

WRITING_S = 24 * 3600.0
"""For a device to become free, and the evaluation of a whole validation split."""


def release(
    runs: Path, *, curricula: Sequence[Curriculum], data: DataSpec, runtime: RuntimeSpec, local: bool
) -> Path:
    """Writes ``RUNS/model``, prints its evaluation and says where it is.

    A cluster's head has no GPU: on a runtime with GPUs it is one task, which needs the Ray session of the
    training. Raises the PbrErrors of ``pbrlib.release.write.write_model``.
    """
    from pbrlib.data.shards.union import open_data
    from pbrlib.evaluate.evaluationreport import FILE
    from pbrlib.train.record.rundirectory import MODEL
    from ray_jobs.bar import show_progress
    from ray_jobs.output import print_evaluation

    shards = open_data(data, on_bad_sample=runtime.on_bad_sample)
    click.echo(f"writing the model and its evaluation into {runs / MODEL}")
    if runtime.device == "cuda" and not local:
        done = write_as_task(runs, curricula=curricula, shards=shards, device="cuda", num_gpus=1)
    else:
        with show_progress("evaluate") as watch:
            done = _write(runs, curricula, shards, runtime.device, watch)
    if done.evaluation is None:
        click.echo(f"Model: {done.folder}, of these very networks and data already")
        return done.folder
    folder = done.folder / "evaluation"
    print_evaluation(done.evaluation, [folder / FILE, *sorted(folder.glob("contact-*.png"))])
    click.echo(f"Model: {done.folder}")
    return done.folder


def write_as_task(
    runs: Path, *, curricula: Sequence[Curriculum], shards: DataSet, device: str, num_gpus: int
) -> Release:
    """Writes the model as one Ray task; an error of the user's comes back as what it was."""
    import ray

    task = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=1)(_write_or_error)
    try:
        done: Release | PbrError = ray.get(task.remote(runs, curricula, shards, device), timeout=WRITING_S)
    except ray.exceptions.GetTimeoutError as error:
        raise DataError(
            f"{runs}: the model was not written within {WRITING_S / 3600:.0f} h. Check with `ray status` "
            "whether the cluster has a free device; the same command writes it."
        ) from error
    if isinstance(done, PbrError):
        raise done
    return done


def _write_or_error(
    runs: Path, curricula: Sequence[Curriculum], shards: DataSet, device: str
) -> Release | PbrError:
    """The task; a raised error Ray would wrap in a traceback."""
    try:
        return _write(runs, curricula, shards, device, lambda done, total: None)
    except PbrError as error:
        return error


def _write(
    runs: Path,
    curricula: Sequence[Curriculum],
    shards: DataSet,
    device: str,
    watch: Callable[[int, int], None],
) -> Release:
    import torch

    from pbrlib.release.write import write_model

    return write_model(runs, curricula=curricula, shards=shards, device=torch.device(device), watch=watch)
