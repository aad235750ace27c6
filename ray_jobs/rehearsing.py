"""Rehearse a ladder on the cluster: run checks and a few steps of every phase, and estimate the total."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pbrlib.errors import ConfigError

if TYPE_CHECKING:
    from pbrlib.curriculum.run import PhaseJob, RankWork
    from pbrlib.data.shards.dataset import DataSet
    from pbrlib.rehearsal.checks import Check
    from pbrlib.rehearsal.estimate import PhaseEstimate, TotalEstimate
    from pbrlib.rehearsal.ladder import PhaseRehearsal
    from pbrlib.rehearsal.node import NodeFacts
    from pbrlib.rehearsal.table import Rehearsal
    from ray_jobs.trainingrequest import TrainingRequest


def rehearse_request(work: TrainingRequest, *, scratch: Path) -> Rehearsal:
    """Run the checks of the cluster, then rehearse every phase; requires a Ray session."""
    from pbrlib.data.shards.union import open_data
    from pbrlib.rehearsal.checks import check_communication
    from pbrlib.rehearsal.ladder import rehearse_ladder
    from pbrlib.rehearsal.scratch import record_donors
    from pbrlib.rehearsal.table import Rehearsal
    from ray_jobs.fit.capacity import phases_in_cluster
    from ray_jobs.fit.preflight import check_collectives, storage_and_data

    began = time.monotonic()
    shards = open_data(work.data, on_bad_sample=work.runtime.on_bad_sample)
    # A rehearsal has to show failures, so nothing is retried; it is no run, so no tracker records it.
    runtime = work.runtime.model_copy(update={"max_failures": 0, "trackers": ()})
    communication = check_communication(
        check_collectives(runtime, scratch=scratch, gradient_bytes=_gradient_bytes(work))
    )
    nodes, seen = storage_and_data(scratch, runs=work.runs, data=work.data, fingerprint=shards.fingerprint)
    checks = [communication, *seen]
    for check in checks:
        click.echo(f"{check.check}: {check.verdict}, {check.found}")
    record_donors(work.ladder, phases=work.phases, runs=work.runs, scratch=scratch)
    phases = rehearse_ladder(
        work.ladder,
        phases=work.phases,
        shards=shards,
        scratch=scratch,
        runtime=runtime,
        launch=_launch,
        show=_print_phase,
    )
    room = phases_in_cluster(runtime)
    total = _total_estimate(work, phases, room=room)
    return Rehearsal(
        checks=(
            *checks,
            *_checks_after_phases(work, phases, nodes, most_bytes=total.most_bytes, shards=shards),
        ),
        phases=tuple(phases),
        whole=total,
        workers=runtime.workers,
        room=room,
        seconds=time.monotonic() - began,
        device=runtime.device,
        writes_model=work.writes_model,
    )


def _launch(job: PhaseJob, *, work: RankWork) -> Path:
    """Train a phase on Ray, and turn the failure of a worker into a ConfigError."""
    from ray.train import TrainingFailedError

    from ray_jobs.fit.fit import launch_on_ray
    from ray_jobs.fit.preflight import first_failure

    try:
        return launch_on_ray(job, work=work)
    except TrainingFailedError as error:
        raise ConfigError(
            f"phases.{job.phase}: a worker failed ({first_failure(error)}). A worker "
            "that ends without a message had mostly too little memory. Set a smaller "
            "batch_per_device, or fewer workers per node."
        ) from error


def _print_phase(one: PhaseRehearsal) -> None:
    """Print one line when a phase has ended, because the whole rehearsal takes minutes."""
    from pbrlib.curriculum.describe.phrases import size

    if one.figures is None:
        click.echo(f"{one.length.name}: {one.error}")
        return
    step, again = one.figures.step, "restored" if one.figures.restored else "NOT restored"
    click.echo(
        f"{one.length.name}: {step.median:.3g} s per step ({step.least:.3g} to {step.most:.3g}), "
        f"{size(one.figures.peak_bytes)} peak memory, {again} at step {one.figures.restored_at}"
    )


def _gradient_bytes(work: TrainingRequest) -> int:
    """Return the bytes of the gradient of the largest network, in fp32."""
    from pbrlib.curriculum.check.curriculum import networks_of

    networks = (one for curriculum in work.ladder.curricula for one in networks_of(curriculum.task).values())
    return max(sum(4 * parameter.numel() for parameter in network.parameters()) for network in networks)


def _total_estimate(work: TrainingRequest, phases: Sequence[PhaseRehearsal], *, room: int) -> TotalEstimate:
    """Return the estimate of time and storage of the whole training."""
    from pbrlib.rehearsal.estimate import total_estimate

    by_curriculum: dict[str, dict[str, PhaseEstimate | None]] = {name: {} for name in work.phases}
    for one in phases:
        by_curriculum[one.length.curriculum][one.length.phase] = one.estimate
    last = {one.length.curriculum: one.figures.weights_bytes for one in phases if one.figures is not None}
    return total_estimate(
        [[entry.curriculum.name for entry in wave] for wave in work.ladder.waves],
        by_curriculum,
        workers=work.runtime.workers,
        room=room,
        model_bytes=sum(last.values()) if work.writes_model else 0,
    )


def _checks_after_phases(
    work: TrainingRequest,
    phases: Sequence[PhaseRehearsal],
    nodes: Sequence[NodeFacts],
    *,
    most_bytes: int,
    shards: DataSet,
) -> list[Check]:
    """Return the checks that need the figures of the phases."""
    from pbrlib.rehearsal import checks
    from ray_jobs.fit.preflight import stores, workers_on

    own, workers = stores(), workers_on(work.runtime)
    need = max(_store_need(work, one, shards=shards) for one in phases)
    found = [
        *_space(work.runs, needed=most_bytes),
        checks.object_store(nodes, stores=own, workers=workers, per_worker=need),
        checks.shared_memory(nodes, stores=own),
        checks.processors(nodes, workers=workers, runtime=work.runtime),
    ]
    known = [one.figures for one in phases if one.figures is not None]
    if known:
        most = max(one.host_bytes for one in known)
        found.append(checks.memory(nodes, workers=workers, per_worker=most, stores=own))
    devices = [one for one in known if one.device_bytes is not None]
    if devices:
        fullest = max(devices, key=lambda one: one.reserved_bytes or 0)
        found.append(
            checks.device_memory(
                fullest.peak_bytes, reserved=fullest.reserved_bytes or 0, device=fullest.device_bytes or 0
            )
        )
    return found


def _space(runs: Path, *, needed: int) -> list[Check]:
    """Return the check of the free space, or nothing where the storage has no limit."""
    from pbrlib import storage
    from pbrlib.rehearsal.checks import space

    free = storage.free_bytes(runs)
    return [] if free is None else [space(free, needed=needed, place=str(runs))]


def _store_need(work: TrainingRequest, one: PhaseRehearsal, *, shards: DataSet) -> int:
    """Return the bytes that one worker's data stream keeps in the object store during a phase."""
    from pbrlib.rehearsal.checks import store_need
    from ray_jobs.fit.datasets import DRAWS_PER_BLOCK, STORE_BYTES

    listed = [shard.info for shard in shards.shards]
    return store_need(
        work.runtime,
        crop=one.crop,
        batch=-(-one.length.batch // work.runtime.workers),
        tile_bytes=sum(shard.bytes for shard in listed) / max(sum(shard.rows for shard in listed), 1),
        block=DRAWS_PER_BLOCK,
        limit=STORE_BYTES,
    )
