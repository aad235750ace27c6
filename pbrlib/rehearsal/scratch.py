"""The temporary runs directory of a rehearsal, inside the runs directory whose storage it tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pbrlib import storage
from pbrlib.curriculum.ladder import Ladder, donors_of
from pbrlib.errors import ConfigError
from pbrlib.train.record.rundirectory import RunDirectory

PREFIX = ".rehearsal-"
"""Name of the directory; it starts with a dot, so `pbr runs` and pruning ignore it."""


@contextmanager
def scratch_runs(runs: Path, *, keep: bool) -> Iterator[Path]:
    """A fresh runs directory inside ``runs``, removed at the end of the block unless it is to be kept.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        scratch = runs / f"{PREFIX}{secrets.token_hex(4)}"
        scratch.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(
            f"--runs: {runs} cannot be written ({error.strerror}). Name a directory on the shared storage "
            "that this user may write, or have its owner changed."
        ) from error
    try:
        yield scratch
    finally:
        if not keep:
            _remove(scratch)


def _remove(folder: Path, *, attempts: int = 5) -> None:
    """A worker that is being ended may still write while its folder goes."""
    for _ in range(attempts):
        with suppress(OSError):
            storage.remove_folder(folder)
        if not folder.exists():
            return


def lend_donors(
    ladder: Ladder, *, phases: Mapping[str, Sequence[str]], runs: Path, scratch: Path
) -> list[str]:
    """Lets phases that are not rehearsed stand in the scratch place as they stand finished in ``runs``.

    Their checkpoints stay where they are. Returns the names of what was lent.
    """
    order = {curriculum.name: tuple(curriculum.phases) for curriculum in ladder.curricula}
    needed = {name for curriculum in ladder.curricula for name in donors_of(curriculum)} | set(order)
    lent = []
    for name in sorted(needed):
        finished = RunDirectory(runs, name=name)
        there = finished.phases()
        for phase, record in there.items():
            if phase in phases.get(name, ()):
                continue
            checkpoint = str((finished.path / record.checkpoint).resolve())
            RunDirectory(scratch, name=name).finish(
                phase, replace(record, checkpoint=checkpoint), order=order.get(name, tuple(there))
            )
            lent.append(f"{name}/{phase}")
    return lent
