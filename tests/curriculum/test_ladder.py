"""A ladder file: which curricula, in which waves, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pbrlib.curriculum.config.load import load_curriculum, load_ladder
from pbrlib.curriculum.ladder import Ladder, chosen_phases
from pbrlib.errors import ConfigError
from tests.curriculum.conftest import ROUGHNESS, SEGFORMER

ALBEDO = (
    ROUGHNESS.replace("roughness", "albedo")
    .replace(", albedo: albedo.A2", "")
    .replace("    starts_from: albedo.A2\n", "")
    .replace("M0", "A2")
    .replace("{focal_relative_l1: 1.0, ms_ssim: 0.1, sobel: 0.02}", "{l1: 1.0}")
)
WAVES = """\
waves:
  - {segformer: classes.yaml}
  - {albedo: maps/albedo.yaml}
  - {roughness: maps/roughness.yaml}
"""


@pytest.fixture
def ladder_file(tmp_path: Path) -> Path:
    (tmp_path / "maps").mkdir()
    (tmp_path / "classes.yaml").write_text(SEGFORMER)
    (tmp_path / "maps" / "albedo.yaml").write_text(ALBEDO)
    (tmp_path / "maps" / "roughness.yaml").write_text(ROUGHNESS)
    (tmp_path / "ladder.yaml").write_text(WAVES)
    return tmp_path / "ladder.yaml"


def names(ladder: Ladder) -> list[list[str]]:
    return [[entry.curriculum.name for entry in wave] for wave in ladder.waves]


def complaint(*files: Path, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        load_ladder(files, overrides=overrides)
    return str(caught.value)


def test_a_ladder_names_its_families_relative_to_its_own_place(ladder_file: Path) -> None:
    ladder = load_ladder([ladder_file])
    assert names(ladder) == [["segformer"], ["albedo"], ["roughness"]]
    assert ladder.entries[1].file == ladder_file.parent / "maps" / "albedo.yaml"
    assert ladder.curricula[0] == load_curriculum(ladder_file.parent / "classes.yaml")


def test_curricula_without_a_ladder_come_as_early_as_their_donors_allow(ladder_file: Path) -> None:
    folder = ladder_file.parent
    height = folder / "height.yaml"
    height.write_text(ALBEDO.replace("albedo", "height"))
    files = [folder / "maps" / "roughness.yaml", height, folder / "maps" / "albedo.yaml"]
    assert names(load_ladder(files)) == [["height", "albedo"], ["roughness"]]
    files.append(folder / "classes.yaml")
    assert names(load_ladder(files)) == [["segformer"], ["height", "albedo"], ["roughness"]]


@pytest.mark.parametrize(
    ("waves", "expected"),
    [
        (
            "[{segformer: classes.yaml, albedo: maps/albedo.yaml}]",
            "waves.0.albedo: got donors segformer in the same or a later wave; expected an earlier wave.",
        ),
        (
            "[{roughness: maps/roughness.yaml}, {segformer: classes.yaml}, {albedo: maps/albedo.yaml}]",
            "waves.0.roughness: got donors albedo, segformer in the same or a later wave;",
        ),
        (
            "[{classes: classes.yaml}]",
            "expected the name in that file. Use segformer.",
        ),
        (
            "[{segformer: classes.yaml}, {segformer: classes.yaml}]",
            "waves: got segformer in several waves; expected it once. Remove the others.",
        ),
        ("{segformer: classes.yaml}", "waves: got {'segformer': 'classes.yaml'}; expected a list."),
        ("[]", "waves: got []; expected at least 1."),
        ("[{}]", "waves.0: got {}; expected at least 1."),
        (
            "[{segformer: none.yaml}]",
            "none.yaml: cannot be read (No such file or directory). Give a readable YAML file",
        ),
        (
            "[{segformer: ladder.yaml}]",
            "got a ladder; expected a curriculum. Give one of the ladder's files.",
        ),
    ],
)
def test_an_invalid_ladder_is_refused(ladder_file: Path, waves: str, expected: str) -> None:
    ladder_file.write_text(f"waves: {waves}\n")
    assert expected in complaint(ladder_file)


def test_a_donor_outside_the_ladder_is_trained_before_it(ladder_file: Path) -> None:
    ladder_file.write_text("waves: [{albedo: maps/albedo.yaml}, {roughness: maps/roughness.yaml}]\n")
    assert names(load_ladder([ladder_file])) == [["albedo"], ["roughness"]]


def test_the_mistakes_of_all_files_and_of_the_command_line_are_listed_at_once(ladder_file: Path) -> None:
    classes, albedo = ladder_file.parent / "classes.yaml", ladder_file.parent / "maps" / "albedo.yaml"
    classes.write_text(SEGFORMER.replace("batch: 4", "batch: 0"))
    albedo.write_text(ALBEDO.replace("crop: 64", "crap: 64"))
    message = complaint(ladder_file, overrides=("roughness.phases.M9.crop=32", "phases.S0.crop=32"))
    for line in (
        f"1 mistake in {classes}:\n  phases.S1.batch: got 0;",
        f"2 mistakes in {albedo}:\n  phases.A2.crop: missing;",
        "--set phases.M9.crop: got 'M9'; expected a phase. Known: M0.",
        "--set phases.S0.crop: got phases.S0.crop; expected the name of a curriculum first, as in "
        "segformer.seed=1. Known: segformer, albedo, roughness.",
    ):
        assert line in message


def test_an_override_reaches_the_family_that_it_names(ladder_file: Path) -> None:
    ladder = load_ladder([ladder_file], overrides=["albedo.phases.A2.optimizer.lr=1e-4", "segformer.seed=3"])
    assert ladder.curricula[1].phases["A2"].optimizer.lr == 1e-4
    assert [curriculum.seed for curriculum in ladder.curricula] == [3, 0, 0]


def test_an_override_takes_the_content_of_a_file(ladder_file: Path) -> None:
    content = ladder_file.parent / "balance.yaml"
    content.write_text("sampler: {exponent: 0.25}\nminority_tiles: 0.5\n")
    ladder = load_ladder([ladder_file], overrides=[f"segformer.phases.S0.balance=@{content}"])
    balance = ladder.curricula[0].phases["S0"].balance
    assert balance.sampler is not None
    assert (balance.sampler.exponent, balance.minority_tiles) == (0.25, 0.5)
    override = f"phases.S0.balance=@{content.parent}/none.yaml"
    message = complaint(ladder_file.parent / "classes.yaml", overrides=(override,))
    assert "--set phases.S0.balance: " in message
    assert "none.yaml: cannot be read (No such file or directory). Give a readable YAML file." in message


def test_a_ladder_cannot_be_combined_with_other_files(ladder_file: Path) -> None:
    assert "got a ladder and other files" in complaint(ladder_file, ladder_file.parent / "classes.yaml")
    with pytest.raises(ConfigError, match=r"ladder\.yaml: got a ladder; expected a curriculum"):
        load_curriculum(ladder_file)


def test_one_curriculum_twice_is_refused(ladder_file: Path) -> None:
    classes = ladder_file.parent / "classes.yaml"
    assert "expected different names. Rename one curriculum." in complaint(classes, classes)


def test_a_range_of_phases_is_taken_from_every_family_that_has_it(ladder_file: Path) -> None:
    ladder = load_ladder([ladder_file])
    assert chosen_phases(ladder, None) == {
        "segformer": ("S0", "S1"),
        "albedo": ("A2",),
        "roughness": ("M0",),
    }
    assert chosen_phases(ladder, "S0..S1") == {"segformer": ("S0", "S1")}
    assert chosen_phases(ladder, "M0") == {"roughness": ("M0",)}
    assert names(ladder.only(["albedo", "roughness"])) == [["albedo"], ["roughness"]]
    for wanted, expected in {
        "S0..S7": "got 'S7'; expected a phase. Known: S0, S1, A2, M0.",
        "S0..A2": "got S0..A2 of different curricula; expected phases of one curriculum.",
        "S1..S0": "got S1..S0; expected phases in order. Use S0..S1.",
    }.items():
        with pytest.raises(ConfigError) as caught:
            chosen_phases(ladder, wanted)
        assert expected in str(caught.value)
