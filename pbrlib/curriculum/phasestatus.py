"""Computes the fingerprints of a run's phases, and which finished phases a command skips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pbrlib.curriculum.fingerprint import phase_fingerprints
from pbrlib.curriculum.lossweights import capped_weights
from pbrlib.curriculum.outside import outside_folders
from pbrlib.curriculum.scale import scaled
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.dataset import DataSet
from pbrlib.train.checkpoint.state import read_state
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec


def fingerprints_of(
    curriculum: Curriculum,
    outside: Mapping[str, Path],
    *,
    shards: DataSet,
    run: RunDirectory,
    runtime: RuntimeSpec,
) -> dict[str, str]:
    """Return the fingerprints of all phases of a scaled curriculum."""
    return phase_fingerprints(
        curriculum,
        shards=shards.fingerprint,
        precision=runtime.precision,
        micro_batches={name: runtime.micro_batches(spec.batch) for name, spec in curriculum.phases.items()},
        donors={reference: read_state(folder).fingerprint for reference, folder in outside.items()},
        trained={name: done.fingerprint for name, done in run.phases().items()},
        capped=[
            name
            for name, phase in curriculum.phases.items()
            if capped_weights(phase, curriculum.task, shards.rows)
        ],
    )


def phases_to_skip(
    curriculum: Curriculum, phases: Sequence[str], *, shards: DataSet, runs: Path, runtime: RuntimeSpec
) -> set[str]:
    """Return the finished phases to skip: their best checkpoint is missing, and no other phase needs it.

    The weights of the last phase are always needed. Those of an earlier phase are needed only if an
    unfinished phase starts from them.
    """
    curriculum = scaled(curriculum)
    run = RunDirectory(runs, name=curriculum.name)
    outside = outside_folders(curriculum, runs=runs)
    prints = fingerprints_of(curriculum, outside, shards=shards, run=run, runtime=runtime)
    needed, skipped = {phases[-1]}, set[str]()
    for name in reversed(phases):
        is_finished = run.finished(name, fingerprint=prints[name]) is not None
        if is_finished and run.has_weights(name):
            continue
        if is_finished and name not in needed:
            skipped.add(name)
        elif (start := curriculum.phases[name].starts_from) is not None:
            needed.add(start)
    return skipped
