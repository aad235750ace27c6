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
    """Create a runs directory inside ``runs``, removed at the end of the block unless ``keep`` is set.

    Raises:
        ConfigError: The directory cannot be written.
    """
    try:
        scratch = runs / f"{PREFIX}{secrets.token_hex(4)}"
        scratch.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(
            f"--runs: {runs} cannot be written ({error.strerror}). Give a directory on the shared storage "
            "for which this user has write permission."
        ) from error
    try:
        yield scratch
    finally:
        if not keep:
            _remove(scratch)


def _remove(folder: Path, *, attempts: int = 5) -> None:
    """Remove a folder, with several attempts, since a stopping worker may still write into it."""
    for _ in range(attempts):
        with suppress(OSError):
            storage.remove_folder(folder)
        if not folder.exists():
            return


def record_donors(
    ladder: Ladder, *, phases: Mapping[str, Sequence[str]], runs: Path, scratch: Path
) -> list[str]:
    """Record finished phases of ``runs`` in the scratch directory as donors, unless they are rehearsed.

    The records refer to the original checkpoints. Returns the names of the recorded phases.
    """
    order = {curriculum.name: tuple(curriculum.phases) for curriculum in ladder.curricula}
    needed = {name for curriculum in ladder.curricula for name in donors_of(curriculum)} | set(order)
    recorded = []
    for name in sorted(needed):
        finished = RunDirectory(runs, name=name)
        known = finished.phases()
        for phase, record in known.items():
            if phase in phases.get(name, ()):
                continue
            checkpoint = str((finished.path / record.checkpoint).resolve())
            RunDirectory(scratch, name=name).finish(
                phase, replace(record, checkpoint=checkpoint), order=order.get(name, tuple(known))
            )
            recorded.append(f"{name}/{phase}")
    return recorded
