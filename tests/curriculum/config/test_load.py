from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pbrlib.curriculum.config.load import dump_yaml, load_curriculum, load_runtime, parse_curriculum
from pbrlib.errors import ConfigError
from tests.curriculum.conftest import ROUGHNESS, SEGFORMER

Write = Callable[[str], Path]


def complaint(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_curriculum(path, overrides=overrides)
    return str(caught.value)


@pytest.mark.parametrize("text", [SEGFORMER, ROUGHNESS])
def test_resolved_yaml_loads_to_the_same_curriculum(text: str) -> None:
    curriculum = parse_curriculum(text)
    resolved = dump_yaml(curriculum)
    assert parse_curriculum(resolved) == curriculum
    assert list(parse_curriculum(resolved).phases) == list(curriculum.phases)
    assert dump_yaml(parse_curriculum(resolved)) == resolved


def test_resolved_yaml_shows_defaults_and_expands_shorthand() -> None:
    resolved = dump_yaml(parse_curriculum(SEGFORMER))
    assert "grad_clip: 1.0" in resolved
    assert "metric: val/all/segmentation/miou" in resolved
    assert "cross_entropy:\n        weight: 0.6" in resolved


def test_shares_are_normalised_once_and_do_not_depend_on_their_order(write: Write) -> None:
    thirds = load_curriculum(write(SEGFORMER.replace("{generated: 1.0}", "{c: 2, a: 1, b: 4}")))
    again = parse_curriculum(dump_yaml(thirds))
    assert again == thirds
    assert list(thirds.phases["S0"].data) == ["a", "b", "c"]
    assert sum(thirds.phases["S0"].data.values()) == pytest.approx(1.0)
    assert thirds.phases["S0"].data["b"] == pytest.approx(4 / 7)


def test_rate_without_a_point_is_a_number(write: Write) -> None:
    assert load_curriculum(write(SEGFORMER)).phases["S1"].optimizer.lr == 1e-4


def test_unknown_key_is_named_with_the_nearest_known_one(write: Write) -> None:
    message = complaint(write(SEGFORMER.replace("epochs: 1", "epochs: 1\n    seqment_steps: 3")))
    assert "phases.S1.seqment_steps: unknown key. Did you mean `segment_steps`?" in message
    assert message.startswith("1 mistake in ")


def test_unknown_loss_term_is_named_with_the_nearest_known_one(write: Write) -> None:
    message = complaint(write(SEGFORMER.replace("focal: {", "focl: {")))
    assert "phases.S0.loss.focl: unknown key. Did you mean `focal`?" in message


def test_unknown_kind_is_named_with_the_nearest_known_one(write: Write) -> None:
    message = complaint(write(SEGFORMER.replace("kind: cosine", "kind: cosin")))
    assert "phases.S1.schedule: got kind: cosin; expected a known kind. Did you mean `cosine`?" in message


def test_value_deep_in_a_union_has_the_address_of_the_file(write: Write) -> None:
    message = complaint(write(SEGFORMER.replace("stone: 2.0", "stone: -2.0")))
    assert "loss.focal.gamma.stone: got -2.0; expected a number greater than or equal to 0." in message
    assert message.startswith("1 mistake in ")


def test_every_mistake_is_listed_at_once(write: Write) -> None:
    text = SEGFORMER.replace("epochs: 2", "epochs: none").replace("dice: 0.4", "dise: 0.4")
    text = text.replace("name: segformer", "name: Seg Former").replace("batch: 4", "batch: 0")
    message = complaint(write(text.replace("crop: 96", "")), "phases.S7.crop=64")
    assert message.startswith("6 mistakes in ")
    for line in (
        "name: got 'Seg Former'",
        "phases.S0.epochs: got 'none'; expected a whole number.",
        "phases.S1.crop: missing; expected a whole number.",
        "phases.S1.batch: got 0; expected a number greater than or equal to 1.",
        "phases.S1.loss.dise: unknown key. Did you mean `dice`?",
        "--set phases.S7.crop: got 'S7'; expected a phase. Known: S0, S1.",
    ):
        assert f"\n  {line}" in message


def test_override_sets_the_value_at_its_address(write: Write) -> None:
    curriculum = load_curriculum(
        write(SEGFORMER),
        overrides=[
            "phases.S0.loss.focal.gamma.stone=1.25",
            "phases.S0.loss.dice.weight=0.2",
            "phases.S1.balance.sampler={exponent: 0.4, floor: 0.3}",
            "seed=7",
            "phases.S1.starts_from=null",
        ],
    )
    loss = curriculum.phases["S0"].loss
    assert loss.focal is not None
    assert loss.dice is not None
    assert loss.focal.gammas(("stone", "metal")) == (1.25, 1.5)
    assert loss.dice.weight == 0.2
    assert curriculum.phases["S1"].balance.sampler is not None
    assert curriculum.phases["S1"].starts_from is None
    assert curriculum.seed == 7


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("phases.S1.croop=64", "phases.S1.croop: unknown key. Did you mean `crop`?"),
        ("phase.S1.crop=64", "phase: unknown key. Did you mean `phases`?"),
        ("phases.S2.crop=64", "--set phases.S2.crop: got 'S2'; expected a phase."),
        ("phases.S1.crop", "--set: got phases.S1.crop; expected ADDRESS=VALUE."),
        ("name.first=a", "--set name.first: got the value 'segformer' at name; expected a mapping."),
        ("seed=[", "--set seed: got '['; expected a YAML value."),
    ],
)
def test_bad_override_is_an_error(write: Write, override: str, expected: str) -> None:
    assert expected in complaint(write(SEGFORMER), override)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SEGFORMER + "  S1: {}\n", "got the key 'S1' twice, first in line 15; expected it once."),
        (SEGFORMER + "  S2: {epochs: [1}\n", "not readable as YAML: expected ',' or ']'"),
        (
            "name: !!python/object/apply:os.system [ls]\n",
            "python/object/apply:os.system; expected plain values.",
        ),
        ("", "got nothing; expected a mapping."),
        ("- a\n- b\n", "got a list; expected a mapping."),
        ("{[1]: 2}", "found unhashable key"),
        ("name: a\x00b", "special characters are not allowed"),
        (SEGFORMER + "  S2:\n", "phases.S2: got nothing; expected a mapping with epochs, crop"),
    ],
)
def test_file_that_is_no_curriculum_says_what_is_wrong(write: Write, text: str, expected: str) -> None:
    path = write(text)
    message = complaint(path)
    assert expected in message
    assert str(path) in message


def test_yaml_error_tells_line_and_column(write: Write) -> None:
    path = write("name: a\nseed: b: c\n")
    assert complaint(path).startswith(f"{path}:2:8: not readable as YAML")


def test_missing_folder_and_binary_files_are_errors(tmp_path: Path) -> None:
    assert "No such file" in complaint(tmp_path / "none.yaml")
    assert "Is a directory" in complaint(tmp_path)
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
    assert "got the byte 0x89; expected a text in UTF-8" in complaint(tmp_path / "picture.yaml")


def test_phase_names_its_own_metric_or_takes_that_of_the_task(write: Write) -> None:
    text = SEGFORMER.replace(
        "batch: 4", "batch: 4\n    select: {metric: val/generated/segmentation/miou, mode: max}"
    )
    phases = load_curriculum(write(text)).phases
    assert phases["S0"].select.metric == "val/all/segmentation/miou"
    assert phases["S0"].select.mode == "max"
    assert phases["S1"].select.metric == "val/generated/segmentation/miou"
    roughness = parse_curriculum(ROUGHNESS).phases["M0"].select
    assert (roughness.metric, roughness.mode) == ("val/all/roughness/l1", "min")


def test_runtime_file_is_checked_the_same_way(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"worker: unknown key. Did you mean `workers`\?"):
        load_runtime(write("worker: 2\n"))
    assert load_runtime(write("workers: 3\n")).workers == 3


def test_the_tile_cache_has_its_address_and_is_on_in_the_files_of_the_product(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"tile_cache\.folder: .*tiles; expected an absolute path"):
        load_runtime(write("tile_cache: {folder: tiles}\n"))
    with pytest.raises(ConfigError, match=r"tile_cache\.gib: "):
        load_runtime(write("tile_cache: {gib: 0}\n"))
    assert load_runtime(write("tile_cache: null\n")).tile_cache is None
    for path in Path("configs/runtime").glob("*.yaml"):
        assert load_runtime(path).tile_cache is not None


@pytest.mark.parametrize("path", sorted(Path("configs/runtime").glob("*.yaml")), ids=lambda path: path.stem)
def test_runtime_files_of_the_product_load(path: Path) -> None:
    assert load_runtime(path).workers >= 1


def test_curriculum_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_curriculum(SEGFORMER).seed = 3  # type: ignore[misc]


def test_an_override_changes_its_address_alone_where_an_anchor_shares_values(
    write: Callable[[str], Path],
) -> None:
    shared = SEGFORMER.replace(
        "optimizer: {kind: adamw, lr: 4e-4}", "optimizer: &rates {kind: adamw, lr: 4e-4}"
    )
    second = (
        shared.partition("  S1:")[0].partition("  S0:")[2].replace("&rates {kind: adamw, lr: 4e-4}", "*rates")
    )
    file = write(shared.partition("  S1:")[0] + f"  S1:{second}")
    found = load_curriculum(file, overrides=["phases.S0.optimizer.lr=2e-3"]).phases
    assert (found["S0"].optimizer.lr, found["S1"].optimizer.lr) == (2e-3, 4e-4)
