"""Check that the checkpoints of a training fit on the disk, by the sizes of its networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pbrlib.errors import ConfigError

if TYPE_CHECKING:
    from pbrlib.curriculum.ladder import Ladder

BYTES_OF_A_PARAMETER = 12
"""Bytes of a parameter in a checkpoint: the weight and Adam's two moments, in fp32."""


def check_space(ladder: Ladder, *, phases: Mapping[str, Sequence[str]], runs: Path) -> None:
    """Raise ConfigError if the largest checkpoint does not fit; warn if those of all phases do not.

    A phase keeps its best and newest checkpoints, while another one is written and copied. Finished phases
    need no more space.

    Args:
        ladder: The curricula.
        phases: The phases that train, by curriculum.
        runs: The runs directory.
    """
    from pbrlib import storage
    from pbrlib.curriculum.describe.description import parameters_of
    from pbrlib.rehearsal.estimate import IN_FLIGHT, KEPT
    from pbrlib.train.record.rundirectory import RunDirectory

    free = storage.free_bytes(runs)
    if free is None:
        return
    ahead: list[int] = []
    for curriculum in ladder.curricula:
        finished = RunDirectory(runs, name=curriculum.name).phases()
        num_ahead = sum(phase not in finished for phase in phases[curriculum.name])
        parameters = parameters_of(curriculum, curricula=ladder.curricula) or 0
        ahead += [BYTES_OF_A_PARAMETER * parameters] * num_ahead
    if not ahead:
        return
    most, whole = IN_FLIGHT * max(ahead), KEPT * sum(ahead) + IN_FLIGHT * max(ahead)
    if free < most:
        raise ConfigError(
            f"--runs: got {runs} with {_gib(free)} free; expected {_gib(most)} for the largest checkpoint "
            "and its copy. Free space there, or name another folder."
        )
    if free < whole:
        click.echo(
            f"pbr: {runs} has {_gib(free)} free; the checkpoints of {len(ahead)} phases take about "
            f"{_gib(whole)}. `pbr runs prune` removes old ones.",
            err=True,
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
