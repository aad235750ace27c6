from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.describe.description import Described, describe
from pbrlib.curriculum.describe.phrases import phrases
from pbrlib.curriculum.describe.tables import render
from pbrlib.curriculum.draws import phase_plan
from pbrlib.data.augment.augmentspec import AugmentSpec, SkyPhotometricSpec
from pbrlib.data.draws.drawspec import BalanceSpec
from pbrlib.data.shards.index import IndexRow
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.cli import main
from tests.curriculum.conftest import ROUGHNESS, SEGFORMER


def shown(described: Described) -> str:
    console = Console(width=110, highlight=False)
    with console.capture() as capture:
        console.print(render(described))
    return capture.get()


def test_steps_are_those_of_the_draw_plan(rows: list[IndexRow]) -> None:
    curriculum = parse_curriculum(SEGFORMER)
    many = [replace(one, id=f"{one.id}{copy}") for one in rows for copy in range(7)]
    phases = describe(curriculum, runtime=RuntimeSpec(), rows=many)["phases"]
    for name in curriculum.phases:
        plan = phase_plan(curriculum, name, many)
        assert phases[name]["steps_per_epoch"] == plan.steps_per_epoch
        assert phases[name]["total_steps"] == plan.total_steps


def test_minority_tiles_are_counted_by_source(rows: list[IndexRow]) -> None:
    ceramic = (256 * 256, 0, 0, 0, 0, 0, 0)
    own = [
        *rows,
        replace(rows[0], id="e", class_pixels=ceramic),
        replace(rows[3], id="f", class_pixels=ceramic),
    ]
    other = [replace(rows[0], id=f"g{number}", source="other") for number in range(3)]
    text = SEGFORMER.replace("crop: 96", "crop: 128").replace(
        "batch: 4\n    data: {generated: 1.0}",
        "batch: 4\n    data: {generated: 1.0, other: 1.0}\n    balance: {minority_tiles: 0.2}",
    )
    described = describe(parse_curriculum(text), runtime=RuntimeSpec(), rows=[*own, *other])
    assert described["phases"]["S0"]["minority_tiles"] is None
    assert described["phases"]["S1"]["minority_tiles"] == {"generated": 9, "other": 0}
    assert "minority tiles: 9 in generated, none in other" in " ".join(shown(described).split())


def test_mosaics_are_shown_where_there_are_any() -> None:
    spec = "{sources: [generated], two: 0.25, four: 0.1}"
    described = describe(
        parse_curriculum(SEGFORMER.replace("batch: 4", f"batch: 4\n    mosaic: {spec}")),
        runtime=RuntimeSpec(),
    )
    assert described["phases"]["S0"]["mosaic"] is None
    assert described["phases"]["S1"]["mosaic"] == {"sources": ["generated"], "two": 0.25, "four": 0.1}
    text = shown(described)
    assert "of generated 25% in halves, 10% in quarters" in text
    assert text.count("mosaic") == 1


def test_without_data_the_steps_are_unknown_unless_the_phase_bounds_them() -> None:
    text = SEGFORMER.replace("batch: 8", "batch: 8\n    steps_per_epoch: 5")
    phases = describe(parse_curriculum(text), runtime=RuntimeSpec())["phases"]
    assert phases["S0"]["total_steps"] == 10
    assert phases["S1"]["total_steps"] is None


def test_global_batch_is_split_over_workers_and_micro_batches() -> None:
    runtime = RuntimeSpec(workers=3, batch_per_device=2)
    phase = describe(parse_curriculum(SEGFORMER), runtime=runtime)["phases"]["S0"]
    assert sorted(phase["batch_of_workers"]) == [2, 3, 3]
    assert phase["micro_batches"] == 2
    assert (
        "Dice: computed per micro-batch over all workers (2 per step), not per batch" in phase["departures"]
    )


def test_rates_of_groups_follow_layer_decay_and_schedule() -> None:
    described = describe(parse_curriculum(SEGFORMER), runtime=RuntimeSpec())
    first = {group["name"]: group for group in described["phases"]["S0"]["groups"]}
    assert first["base"]["rates"] == pytest.approx({"first": 1e-4, "peak": 4e-4, "last": 1e-5})
    second = {group["name"]: group for group in described["phases"]["S1"]["groups"]}
    assert second["stem"]["frozen"]
    assert second["stem"]["rates"] is None
    assert second["base.stages.2"]["rates"] == pytest.approx({"first": 9e-5, "peak": 9e-5, "last": 7.2e-6})


def test_tables_show_phases_losses_groups_and_donors() -> None:
    text = shown(describe(parse_curriculum(SEGFORMER), runtime=RuntimeSpec()))
    assert "0.6 CE(w_c) + 0.3 Focal(w_c, gamma per class) + 0.1 Dice" in text
    assert "stem" in text
    assert "frozen" in text
    assert "8.00e-06" in text
    assert "4 + 4" in text
    text = " ".join(shown(describe(parse_curriculum(ROUGHNESS), runtime=RuntimeSpec())).split())
    assert "frozen segformer, albedo.A2" in text


def test_the_plan_names_the_tile_cache_of_the_runtime_file(tmp_path: Path) -> None:
    curriculum, runtime = tmp_path / "curriculum.yaml", tmp_path / "runtime.yaml"
    curriculum.write_text(SEGFORMER)
    cases = {
        "tile_cache: {gib: 7.5, folder: /nvme}": "a tile cache of 7.5 GiB on each node, in /nvme",
        "tile_cache: {gib: 7.5}": "a tile cache of 7.5 GiB on each node, in the temporary folder",
        "workers: 2": None,
    }
    for text, wanted in cases.items():
        runtime.write_text(text)
        found = CliRunner().invoke(main, ["plan", str(curriculum), "--runtime", str(runtime)])
        assert found.exit_code == 0, found.output
        said = " ".join(found.output.split())
        assert wanted in said if wanted is not None else "tile cache" not in said


def test_phrase_of_a_spec_names_what_differs_from_the_defaults() -> None:
    assert phrases(AugmentSpec()) == []
    spec = AugmentSpec(flip=True, sky_photometric=SkyPhotometricSpec(p=0.6))
    assert phrases(spec) == ["flip", "sky_photometric(p 0.6, preset rev7)"]
    balance = BalanceSpec(minority=("ceramic", "leather"), class_weights=False)
    assert phrases(balance) == ["no class_weights", "minority(ceramic, leather)"]
    spec = AugmentSpec.model_validate(
        {
            "category": {
                "p": 0.5,
                "confidence": 0.8,
                "may": {"wood": {"hue": 0.05}, "metal": {"specular": 0.15}},
            }
        }
    )
    assert phrases(spec) == ["category(p 0.5, confidence 0.8, may(wood(hue 0.05), metal(specular 0.15)))"]


def test_plan_command_gives_json_for_every_file(tmp_path: Path) -> None:
    files = [tmp_path / "segformer.yaml", tmp_path / "roughness.yaml"]
    for file, text in zip(files, (SEGFORMER, ROUGHNESS), strict=True):
        file.write_text(text)
    result = CliRunner().invoke(main, ["plan", *map(str, files), "--json", "--set", "segformer.seed=3"])
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["waves"] == [["segformer"], ["roughness"]]
    families = plan["families"]
    assert [families[name]["seed"] for name in ("segformer", "roughness")] == [3, 0]
    assert families["segformer"]["phases"]["S1"]["starts_from"] == "S0"
    assert plan["runtime"] == {**plan["runtime"], "workers": 2, "precision": "fp32"}


def test_plan_command_lists_the_mistakes_of_every_file_and_exits_with_2(tmp_path: Path) -> None:
    files = [tmp_path / "segformer.yaml", tmp_path / "roughness.yaml"]
    files[0].write_text(SEGFORMER.replace("crop: 96", "crop: 500"))
    files[1].write_text(ROUGHNESS.replace("width: 8", "width: 12"))
    result = CliRunner().invoke(main, ["plan", *map(str, files)])
    assert result.exit_code == 2
    assert "norm_groups: got 8; expected a divisor of width 12" in result.stderr
    assert result.stdout == ""
    files[1].write_text(ROUGHNESS.replace("segformer: segformer", "segformer: segformer.S9"))
    result = CliRunner().invoke(main, ["plan", *map(str, files)])
    assert "phases.S1.crop: got 500; expected a multiple of 32" in result.stderr
    assert "task.segformer: got 'segformer.S9'; expected a phase of segformer." in result.stderr


def test_planning_needs_no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it is an error now
    monkeypatch.delitem(sys.modules, "ray_jobs.commands.plan", raising=False)
    (tmp_path / "segformer.yaml").write_text(SEGFORMER)
    result = CliRunner().invoke(main, ["plan", str(tmp_path / "segformer.yaml")])
    assert result.exit_code == 0, result.output
    assert "0.6 CE(w_c)" in result.stdout
