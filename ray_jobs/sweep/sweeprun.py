"""Run a sweep: open its file, start or resume its study, train its trials, write its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ray_jobs.sweep.sweepjobs import Sweep

if TYPE_CHECKING:
    from pbrlib.data.shards.dataspec import DataSpec
    from pbrlib.sweep.study import Configuration, SweepStudy


def open_sweep(
    file: Path, *, data: DataSpec, runs: Path, out: Path, runtime_file: Path | None, overrides: Sequence[str]
) -> Sweep:
    """Read and check everything; raises an error with all mistakes before a worker starts."""
    from pbrlib.curriculum.config.load import load_runtime
    from pbrlib.sweep.searchfile import check_search, load_search
    from pbrlib.train.record.trackers import require
    from pbrlib.train.runtimespec import RuntimeSpec

    runtime = RuntimeSpec() if runtime_file is None else load_runtime(runtime_file)
    require(runtime.trackers)
    search = load_search(file, overrides=overrides, renamed=data.renamed)
    from pbrlib.data.shards.union import open_data

    shards = open_data(data, on_bad_sample=runtime.on_bad_sample)
    # Mistakes in files and data are reported before torch is imported, which takes seconds.
    from pbrlib.curriculum.check.donors import require_lpips_weights
    from pbrlib.curriculum.run import resolve
    from pbrlib.curriculum.sources import require_sources

    require_sources(data.renamed, shards.rows)
    check_search(search, runtime=runtime, rows=shards.rows)
    require_lpips_weights(search.curriculum, place=str(search.curriculum_file), running=[search.spec.phase])
    resolve(search.curriculum, search.spec.phase, shards=shards, runs=runs.resolve(), runtime=runtime)
    return Sweep(search, data.resolved(), runs.resolve(), out.resolve(), runtime)


def begin_sweep(work: Sweep) -> SweepStudy:
    """Return the study of a sweep: the existing one, or a new one."""
    from pbrlib.data.shards.union import open_data
    from pbrlib.sweep.study import SweepStudy

    shards = open_data(work.data, on_bad_sample=work.runtime.on_bad_sample)
    provenance = {"shards": shards.fingerprint, "precision": work.runtime.precision}
    return SweepStudy.begin(work.out, work.search, about=provenance)


def train_sweep(study: SweepStudy, work: Sweep, *, address: str | None) -> None:
    """Train the remaining trials of a sweep in its own Ray session."""
    from ray_jobs.cluster.session import describe_start, local_cpus, ray_session
    from ray_jobs.cluster.stopping import interrupt_advice

    def advice() -> str:
        ended = len(study.configurations()) - len(study.unfinished())
        return f"resume with the same command ({ended} of {study.spec.size} configurations have ended)"

    click.echo(describe_start(address))
    with (
        interrupt_advice(advice),
        ray_session(
            address=address,
            num_cpus=local_cpus(work.runtime.logical_cpus),
            dashboard=True,
            worker_output=work.runtime.ray_logs,
        ),
    ):
        # Ray reads its environment, which the session sets, when it is imported.
        from ray_jobs.fit.capacity import phases_in_cluster
        from ray_jobs.sweep.trials import run_trials

        room = phases_in_cluster(work.runtime)
        room = min(room, study.spec.limits.parallel or room)
        click.echo(f"{work.title}: {study.spec.size} configurations, {room} at once, into {work.out}")
        run_trials(study, work, room=room, announce=lambda one: click.echo(_line(one, study)))


def _line(one: Configuration, study: SweepStudy) -> str:
    """Return number, state, values and reason of a configuration in one line."""
    values = " ".join(
        f"{sum(found) / len(found):.4g}"
        for place in range(len(study.spec.objectives))
        if (found := one.values(place))
    )
    counted = f" {len(one.outcomes)}/{study.spec.repeats}" if study.spec.repeats > 1 else ""
    parts = [f"trial {one.number}{counted}: {one.state}", values, one.reason, "baseline" * one.is_baseline]
    return ", ".join(part for part in parts if part)


def conclude_sweep(study: SweepStudy, work: Sweep) -> None:
    """Print the ranked table and write the results."""
    from pbrlib.sweep.ranking import table, title_of
    from pbrlib.sweep.results import write_results
    from ray_jobs.bar import Console

    files = write_results(study, work.search)
    console = Console(highlight=False)
    console.print(table(study, title=title_of(work.search)))
    for file in files:
        console.print(f"{file}", soft_wrap=True)
    if study.unfinished() or len(study.configurations()) < study.spec.size:
        console.print("The time limit of the sweep was reached. Run the same command again to resume.")
