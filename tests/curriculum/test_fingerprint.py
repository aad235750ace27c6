from __future__ import annotations

from typing import Any

import pytest

from pbrlib.curriculum.config.load import dump_yaml, parse_curriculum
from pbrlib.curriculum.fingerprint import outside_donors, phase_fingerprints
from pbrlib.curriculum.references import CheckpointPath, OtherCurriculum, OwnPhase, parse_donor
from pbrlib.losses.lossspec import LossSpec
from tests.curriculum.conftest import ROUGHNESS, SEGFORMER

TERMS = LossSpec.term_types()


def prints(text: str, **changes: Any) -> dict[str, str]:
    curriculum = parse_curriculum(text)
    arguments: dict[str, Any] = {
        "shards": "shards-1",
        "precision": "fp32",
        "micro_batches": dict.fromkeys(curriculum.phases, 1),
        "donors": dict.fromkeys(outside_donors(curriculum), "donor-1"),
    }
    return phase_fingerprints(curriculum, **arguments | changes)


KNOWN = {
    "S0": "8dab2fdba75093487cf0e70522dc220fe6a7ff12b7092883687740578386ba9d",
    "S1": "4a714382537655190aea81ccfb65b143fb749ab2628845853082c74a4e80d474",
    "M0": "5a6c0a0f4f93eed7e43a68e2084d629f19f33ac60ed34d9a7a869688cae665bd",
}
"""Of the two curricula, as they stand in the names of folders and in checkpoints."""


def test_what_is_trained_has_the_fingerprint_that_runs_were_begun_with() -> None:
    assert prints(SEGFORMER) | prints(ROUGHNESS) == KNOWN, (
        "every phase that was begun would begin anew, and its checkpoints would be refused; give an option "
        "that phases did not have the default None"
    )


def test_edited_later_phase_leaves_the_earlier_one_alone() -> None:
    before, after = prints(SEGFORMER), prints(SEGFORMER.replace("crop: 96", "crop: 64"))
    assert after["S0"] == before["S0"]
    assert after["S1"] != before["S1"]


def test_edited_earlier_phase_renews_its_descendants() -> None:
    before, after = prints(SEGFORMER), prints(SEGFORMER.replace("epochs: 2", "epochs: 3"))
    assert after["S0"] != before["S0"]
    assert after["S1"] != before["S1"]


def test_phase_from_fresh_weights_descends_from_none() -> None:
    fresh = SEGFORMER.replace("    starts_from: S0\n", "")
    assert prints(fresh)["S1"] == prints(fresh.replace("epochs: 2", "epochs: 3"))["S1"]


@pytest.mark.parametrize(
    "changes",
    [{"shards": "shards-2"}, {"precision": "bf16"}, {"micro_batches": {"S0": 2, "S1": 1}}],
)
def test_data_precision_and_micro_batches_belong_to_the_fingerprint(changes: dict[str, Any]) -> None:
    assert prints(SEGFORMER, **changes)["S0"] != prints(SEGFORMER)["S0"]
    assert prints(SEGFORMER, **changes)["S1"] != prints(SEGFORMER)["S1"]


def test_task_and_seed_belong_to_the_fingerprint() -> None:
    assert prints(SEGFORMER + "seed: 1\n")["S0"] != prints(SEGFORMER)["S0"]
    assert (
        prints(SEGFORMER.replace("decoder_width: 32", "decoder_width: 16"))["S0"] != prints(SEGFORMER)["S0"]
    )


def test_donor_and_frozen_networks_belong_to_the_fingerprint() -> None:
    assert outside_donors(parse_curriculum(ROUGHNESS)) == ("segformer", "albedo.A2")
    for reference in ("segformer", "albedo.A2"):
        donors = {"segformer": "donor-1", "albedo.A2": "donor-1", reference: "donor-2"}
        assert prints(ROUGHNESS, donors=donors)["M0"] != prints(ROUGHNESS)["M0"]


def test_spelling_of_the_same_curriculum_does_not_matter() -> None:
    resolved = dump_yaml(parse_curriculum(SEGFORMER))
    assert resolved != SEGFORMER
    assert prints(resolved) == prints(SEGFORMER)
    assert prints(SEGFORMER.replace("name: segformer", "name: other")) == prints(SEGFORMER)


def test_order_of_optimizer_rules_matters_since_the_first_match_counts() -> None:
    rules = 'groups: {a: {match: "head.*", lr: 1e-3}, b: {match: "*", lr: 2e-3}}'
    swapped = 'groups: {b: {match: "*", lr: 2e-3}, a: {match: "head.*", lr: 1e-3}}'
    text = SEGFORMER.replace('groups: {stem: {match: "encoder.stages.0.*", freeze: true}}', "RULES")
    assert prints(text.replace("RULES", rules))["S1"] != prints(text.replace("RULES", swapped))["S1"]


@pytest.mark.parametrize(
    ("reference", "donor"),
    [
        ("S0", OwnPhase("S0")),
        ("albedo", OtherCurriculum("albedo", None)),
        ("albedo.A2", OtherCurriculum("albedo", "A2")),
        ("runs/albedo/A2-0123abcd", CheckpointPath("runs/albedo/A2-0123abcd")),
        ("./albedo", CheckpointPath("./albedo")),
        ("s3://bucket/albedo", CheckpointPath("s3://bucket/albedo")),
    ],
)
def test_donor_reference_is_read_by_its_form(reference: str, donor: object) -> None:
    assert parse_donor(reference, own_phases=("S0",)) == donor


def test_a_phase_with_a_revised_formula_begins_anew_and_no_other_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = "92504a78a4afe77b52149a5daba2b7dee35055e60f46a0674598cecc0a59fff5"
    assert prints(ROUGHNESS)["M0"] != first
    monkeypatch.setattr(TERMS["ms_ssim"], "revision", 1)
    assert prints(ROUGHNESS)["M0"] == first
    monkeypatch.setattr(TERMS["ms_ssim"], "revision", 3)
    assert prints(ROUGHNESS)["M0"] not in (first, KNOWN["M0"])
    assert prints(SEGFORMER) == {name: KNOWN[name] for name in ("S0", "S1")}


def test_a_phase_whose_class_weights_are_capped_begins_anew() -> None:
    before, after = prints(SEGFORMER), prints(SEGFORMER, capped=["S1"])
    assert after["S0"] == before["S0"]
    assert after["S1"] != before["S1"]
