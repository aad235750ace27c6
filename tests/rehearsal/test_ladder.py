from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.ladder import Ladder, LadderEntry, in_waves
from pbrlib.curriculum.run import PhaseJob, RankWork, launch_local, resolve
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import ConfigError, NumericsError
from pbrlib.rehearsal import phase as rehearsal
from pbrlib.rehearsal.ladder import PhaseRehearsal, needs, rehearse_ladder
from pbrlib.rehearsal.scratch import record_donors, scratch_runs
from pbrlib.runs.record import find_runs
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec
from tests.conftest import ALBEDO, METALLIC, SEGFORMER

SECOND = """
  S1:
    starts_from: S0
    epochs: 2
    steps_per_epoch: 4
    crop: 32
    batch: 4
    data: {generated: 1.0}
    optimizer: {lr: 1.0e-3}
    schedule: {kind: constant}
    loss: {cross_entropy: 1.0}
    gate: {ratios: {generated: 1.0e-9}, window: 1}
"""


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "SUPPLY_S", 0.02)


def ladder_of(*texts: str) -> Ladder:
    return in_waves([LadderEntry(Path(f"{n}.yaml"), parse_curriculum(text)) for n, text in enumerate(texts)])


def phases_of(ladder: Ladder) -> dict[str, tuple[str, ...]]:
    return {one.name: tuple(one.phases) for one in ladder.curricula}


def rehearsed(
    ladder: Ladder,
    shards: ShardSet,
    scratch: Path,
    *,
    fails: Sequence[str] = (),
    error: Exception | None = None,
) -> dict[str, PhaseRehearsal]:
    said: list[str] = []

    def launch(job: PhaseJob, *, work: RankWork) -> Path:
        if f"{job.curriculum.name}/{job.phase}" in fails:
            assert error is not None
            raise error
        return launch_local(job, work=work)

    found = rehearse_ladder(
        ladder,
        phases=phases_of(ladder),
        shards=shards,
        scratch=scratch,
        runtime=RuntimeSpec(workers=1),
        launch=launch,
        show=lambda one: said.append(one.length.name),
    )
    assert said == [one.length.name for one in found]
    return {one.length.name: one for one in found}


def test_a_phase_starts_from_the_rehearsed_one_before_it_and_gates_are_forced(
    shard_set: ShardSet, tmp_path: Path
) -> None:
    done = rehearsed(ladder_of(SEGFORMER + SECOND, ALBEDO), shard_set, tmp_path)
    assert list(done) == ["segformer/S0", "segformer/S1", "albedo/A1"]
    assert all(one.passed for one in done.values())
    first, second = done["segformer/S0"].figures, done["segformer/S1"].figures
    assert first is not None and second is not None
    assert (first.donor, second.donor) == (None, "S0")
    assert second.donor_tensors == (124, 124)
    assert done["segformer/S1"].length.steps == 8
    assert RunDirectory(tmp_path, name="segformer").best()[1].step == 3


@pytest.mark.parametrize("error", [ConfigError("no room"), NumericsError("not finite"), RuntimeError("died")])
def test_what_does_not_build_on_a_phase_that_failed_continues(
    shard_set: ShardSet, tmp_path: Path, error: Exception
) -> None:
    other = SEGFORMER.replace("name: segformer", "name: other")
    ladder = ladder_of(SEGFORMER + SECOND, ALBEDO, other)
    done = rehearsed(ladder, shard_set, tmp_path, fails=["segformer/S0"], error=error)
    assert done["segformer/S0"].error == str(error)
    assert done["segformer/S1"].error == "not rehearsed, since it depends on segformer/S0, which failed."
    assert done["albedo/A1"].error == "not rehearsed, since it depends on segformer/S1, which failed."
    assert done["other/S0"].passed
    assert done["segformer/S0"].estimate is None


def test_an_interrupt_is_no_failure_of_a_phase(shard_set: ShardSet, tmp_path: Path) -> None:
    ladder = ladder_of(SEGFORMER)
    with pytest.raises(KeyboardInterrupt), scratch_runs(tmp_path, keep=False) as scratch:
        rehearsed(ladder, shard_set, scratch, fails=["segformer/S0"], error=KeyboardInterrupt())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_phase_needs_its_donor_and_its_frozen_networks() -> None:
    ladder = ladder_of(SEGFORMER + SECOND, ALBEDO, METALLIC)
    named = {one.name: one for one in ladder.curricula}
    assert needs(named["segformer"], "S0", ladder) == []
    assert needs(named["segformer"], "S1", ladder) == ["segformer/S0"]
    assert needs(named["albedo"], "A1", ladder) == ["segformer/S1"]
    assert needs(named["metallic"], "M0", ladder) == ["segformer/S1", "albedo/A1"]


def test_the_scratch_place_lies_in_runs_is_seen_by_no_other_command_and_goes(
    trained_runs: Path, tmp_path: Path
) -> None:
    before = {run.path for run in find_runs(trained_runs)}
    listed = sorted(trained_runs.iterdir())
    with scratch_runs(trained_runs, keep=False) as scratch:
        assert scratch.parent == trained_runs
        RunDirectory(scratch, name="segformer").path.mkdir()
        (scratch / "segformer" / "run.json").write_text("{}")
        assert {run.path for run in find_runs(trained_runs)} == before
    assert sorted(trained_runs.iterdir()) == listed
    with scratch_runs(tmp_path / "new", keep=True) as kept:
        pass
    assert kept.is_dir()


def test_a_place_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with (
        pytest.raises(ConfigError, match=r"--runs: .*runs cannot be written"),
        scratch_runs(tmp_path / "runs", keep=False),
    ):
        pass


def test_donors_that_are_not_rehearsed_are_lent_by_the_real_runs(
    shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    ladder = Ladder(((LadderEntry(Path("albedo.yaml"), albedo_curriculum),),))
    lent = record_donors(ladder, phases={"albedo": ("A1",)}, runs=trained_runs, scratch=tmp_path)
    # albedo/A1 stands finished in the runs too, and is rehearsed all the same.
    assert lent == ["segformer/S0"]
    runtime = RuntimeSpec(workers=1)
    job = resolve(albedo_curriculum, "A1", shards=shard_set, runs=tmp_path, runtime=runtime)
    assert job.frozen["segformer"] == RunDirectory(trained_runs, name="segformer").best()[0].resolve()
    real = resolve(albedo_curriculum, "A1", shards=shard_set, runs=trained_runs, runtime=runtime)
    assert job.fingerprint == real.fingerprint
    assert replace(job, runs=trained_runs).directory == real.directory
