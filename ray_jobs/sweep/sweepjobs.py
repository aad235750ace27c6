"""A sweep: a search with its data, donors and machines, and the job of each trial."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.sweep.search import Params, without_gates
from pbrlib.sweep.searchfile import Search
from pbrlib.train.runtimespec import RuntimeSpec

if TYPE_CHECKING:
    from pbrlib.curriculum.run import PhaseJob


@dataclass(frozen=True)
class Sweep:
    """A search with everything that its trials need; all paths are valid on every node.

    ``out`` is the folder of the sweep; ``runs`` has the donors.
    """

    search: Search
    data: DataSpec
    runs: Path
    out: Path
    runtime: RuntimeSpec

    @property
    def title(self) -> str:
        """The name of its trials in tables and in the dashboard, such as ``segformer/S1``."""
        return f"{self.search.curriculum.name}/{self.search.spec.phase}"

    def folder(self, number: int, repeat: int) -> Path:
        """Return the folder of one trial, which is a runs directory."""
        return self.out / "trials" / f"{number:04d}-{repeat}"

    def job(self, number: int, params: Params, repeat: int) -> PhaseJob:
        """Return the job of one trial; raises PbrError if its configuration cannot be run."""
        curriculum = without_gates(self.search.trial(params, repeat=repeat))
        from pbrlib.curriculum.run import resolve
        from pbrlib.data.shards.union import open_data

        shards = open_data(self.data, on_bad_sample=self.runtime.on_bad_sample)
        job = resolve(curriculum, self.search.spec.phase, shards=shards, runs=self.runs, runtime=self.runtime)
        return replace(job, runs=self.folder(number, repeat))
