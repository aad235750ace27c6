"""The request of one training command: all of it is checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pbrlib.curriculum.ladder import Ladder, LadderEntry
    from pbrlib.curriculum.run import Launcher, Launching, PhaseJob
    from pbrlib.curriculum.spec import Curriculum
    from pbrlib.data.shards.dataset import DataSet
    from pbrlib.data.shards.dataspec import DataSpec
    from pbrlib.train.record.rundirectory import FinishedPhase
    from pbrlib.train.runtimespec import RuntimeSpec
    from ray_jobs.progress import Progress


class TrainingRequest:
    """The curricula, phases, data and machines of one ``pbr train``, checked before anything starts.

    ``writes_model``: whether the model folder is written at the end. This is so for a complete ladder file
    that trains at least a segmentation and an albedo.
    """

    def __init__(
        self,
        ladder: Ladder,
        *,
        data: DataSpec,
        runs: Path,
        runtime: RuntimeSpec,
        phases: Mapping[str, Sequence[str]],
        writes_model: bool = False,
    ) -> None:
        self.ladder, self.data, self.runs, self.runtime = ladder, data, runs, runtime
        self.phases, self.writes_model = phases, writes_model

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Lock the runs while the block runs; raises ConfigError if another command writes one of them."""
        from pbrlib import storage

        with ExitStack() as locks:
            for name in self.phases:
                locks.enter_context(storage.sole_writer(self.runs / name, option="--runs"))
            yield

    def train(
        self, launching: Launching, *, room: Callable[[], int] = lambda: 1, force: str | None = None
    ) -> None:
        """Train the phases of the ladder; finished ones are shown and skipped.

        Args:
            launching: Returns the launcher of a curriculum's phases.
            room: Number of phases that may train at once.
            force: Reason to continue past gates that were not passed.

        Raises:
            GateError: A phase does not pass its gate, and ``force`` is not given.
        """
        from pbrlib.curriculum.describe.overview import overview_of
        from pbrlib.curriculum.waves import train_waves
        from pbrlib.data.shards.union import open_data
        from ray_jobs.cluster.stopping import interrupt_advice
        from ray_jobs.progress import Progress

        shards = open_data(self.data, on_bad_sample=self.runtime.on_bad_sample)
        click.echo(f"data: {self.data.describe()}")
        overview = overview_of(self.ladder, phases=self.phases, rows=shards.rows)
        progress = Progress(overview, runs=self.runs)
        with interrupt_advice(progress.resume_advice), progress:

            def carry(curriculum: Curriculum, phases: Iterator[str]) -> None:
                with launching(curriculum) as launch:
                    for phase in phases:
                        self._carry(curriculum, phase, launch, shards=shards, progress=progress, force=force)

            train_waves(self.ladder, carry, phases=self.phases, capacity=room)

    def release(self, *, local: bool) -> None:
        """Write the networks of the finished ladder and their evaluation to ``RUNS/model``."""
        from ray_jobs.cluster.stopping import interrupt_advice
        from ray_jobs.release import release

        with interrupt_advice(
            lambda: "resume with the same command (all phases are finished, the model is not)"
        ):
            release(
                self.runs, curricula=self.ladder.curricula, data=self.data, runtime=self.runtime, local=local
            )

    def _carry(
        self,
        curriculum: Curriculum,
        phase: str,
        launch: Launcher,
        *,
        shards: DataSet,
        progress: Progress,
        force: str | None,
    ) -> None:
        """Train one phase, or skip it if it is finished, and show the result."""
        from pbrlib.curriculum.run import carry_out, is_trained, resolve

        def show_and_launch(job: PhaseJob) -> Path:
            progress.started(job)
            return launch(job)

        job = None
        try:
            write_resolved(curriculum, self.runs)
            job = resolve(curriculum, phase, shards=shards, runs=self.runs, runtime=self.runtime)
            before = is_trained(job)
            if not before and (done := finished(job)) is not None:
                gone = f"its best checkpoint {job.run_directory.path / done.checkpoint} is gone"
                if self._is_unneeded(curriculum, phase, shards=shards):
                    progress.note(job, f"{gone}, and no remaining phase starts from it")
                    self._check_gate(job, done, progress=progress, force=force)
                    return
                progress.note(job, f"{gone}; it is trained again")
            progress.finished(job, carry_out(job, show_and_launch, force=force), before=before)
        except Exception as error:
            done = None if job is None else finished(job)
            progress.stopped(curriculum.name, phase, error, done=done)
            raise

    def _is_unneeded(self, curriculum: Curriculum, phase: str, *, shards: DataSet) -> bool:
        """Whether this command trains nothing that needs the missing weights of a finished phase."""
        from pbrlib.curriculum.phasestatus import phases_to_skip

        phases = self.phases[curriculum.name]
        return phase in phases_to_skip(
            curriculum, phases, shards=shards, runs=self.runs, runtime=self.runtime
        )

    def _check_gate(
        self, job: PhaseJob, done: FinishedPhase, *, progress: Progress, force: str | None
    ) -> None:
        """Check the gate of a finished phase, which needs no weights."""
        from pbrlib.curriculum.gate import evaluate_gate

        evaluate_gate(job.curriculum, job.phase, run=job.run_directory, force=force)
        progress.finished(job, done, before=True)


def finished(job: PhaseJob) -> FinishedPhase | None:
    """Return the record of a job's phase; None if it is not finished."""
    return job.run_directory.finished(job.phase, fingerprint=job.fingerprint)


def open_request(
    files: Sequence[Path],
    *,
    data: DataSpec,
    runs: Path,
    runtime_file: Path | None,
    overrides: Sequence[str],
    phases: str | None,
) -> TrainingRequest:
    """Read and check everything; raises an error with all mistakes before a worker starts."""
    from pbrlib.curriculum.config.load import is_ladder, load_ladder, load_runtime
    from pbrlib.curriculum.config.yamlfile import read_yaml
    from pbrlib.curriculum.ladder import chosen_phases
    from pbrlib.curriculum.mistakes import collect
    from pbrlib.train.record.trackers import require
    from pbrlib.train.runtimespec import RuntimeSpec

    runtime = RuntimeSpec() if runtime_file is None else load_runtime(runtime_file)
    require(runtime.trackers)
    given = load_ladder(files, overrides=overrides)
    from pbrlib.curriculum.sources import rename_in_ladder
    from pbrlib.data.shards.union import open_data

    shards = open_data(data, on_bad_sample=runtime.on_bad_sample)
    whole = rename_in_ladder(given, data.renamed, rows=shards.rows)
    chosen = chosen_phases(whole, phases)
    ladder = whole.only(chosen)
    # Mistakes in files and data are reported before torch is imported, which takes seconds.
    from pbrlib.curriculum.check.curriculum import check
    from pbrlib.curriculum.check.donors import require_lpips_weights
    from pbrlib.curriculum.outside import check_donors

    def check_one(entry: LadderEntry) -> None:
        curriculum, place, running = entry.curriculum, str(entry.file), chosen[entry.curriculum.name]
        check(
            curriculum,
            place=place,
            runtime=runtime,
            rows=shards.rows,
            curricula=whole.curricula,
            running=running,
        )
        require_lpips_weights(curriculum, place=place, running=running)

    collect(check_one, ladder.entries)
    before: list[str] = []
    for curriculum in ladder.curricula:
        check_donors(curriculum, runs=runs, trained_before=before)
        before.append(curriculum.name)
    roles = {curriculum.task.kind for curriculum in ladder.curricula}
    is_whole = phases is None and is_ladder(read_yaml(files[0]))
    return TrainingRequest(
        ladder,
        data=data.resolved(),
        runs=runs.resolve(),
        runtime=runtime,
        phases=chosen,
        writes_model=is_whole and roles >= {"segmentation", "albedo"},
    )


def write_resolved(curriculum: Curriculum, runs: Path) -> None:
    """Write the resolved curriculum, with the overrides, to its run directory."""
    from pbrlib import storage
    from pbrlib.curriculum.config.load import dump_yaml
    from pbrlib.train.record.rundirectory import CURRICULUM

    storage.write_atomic(runs / curriculum.name / CURRICULUM, dump_yaml(curriculum))
