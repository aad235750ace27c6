"""What the networks of each role read and answer, and how a declaration is told from another."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pbrlib.maps import CLASSES, TARGETS
from pbrlib.models.modelspec import SegformerSpec, UNetSpec
from pbrlib.models.roles import DECLARED, INPUTS, READS, MapNetwork, SegmentationNetwork

UNET = {"kind": "unet", "width": 8, "depth": 2}


def test_every_map_that_is_learned_has_a_role_and_no_other_map_has() -> None:
    assert set(READS) == set(TARGETS)
    assert all(name in INPUTS for reads in READS.values() for name in reads)


@pytest.mark.parametrize(
    ("role", "options", "reads"),
    [
        ("albedo", {}, ("colour", "normal")),
        ("roughness", {"use_gloss": True}, ("colour", "normal", "classes", "gloss")),
        ("metallic", {}, ("colour", "classes")),
        ("metallic", {"use_normal": True, "use_gloss": True}, ("colour", "classes", "normal", "gloss")),
        ("height", {"use_normal": True}, ("normal", "relief")),
    ],
)
def test_options_add_an_input_behind_those_of_the_role(
    role: str, options: dict[str, bool], reads: tuple[str, ...]
) -> None:
    declared = MapNetwork(role=role, model=UNetSpec(), condition_channels=4, **options)
    assert declared.inputs == reads
    assert len(declared.channels) == sum(INPUTS[name] for name in reads)
    assert declared.channels[:2] == (f"{reads[0]}.0", f"{reads[0]}.1")


def test_a_segmentation_answers_one_channel_a_class() -> None:
    declared = SegmentationNetwork(model=SegformerSpec())
    assert declared.inputs == ("colour", "normal")
    assert tuple(declared.outputs) == CLASSES


def test_a_declaration_survives_json() -> None:
    for declared in (
        SegmentationNetwork(model=SegformerSpec(backbone="b0"), merge={"ceramic": "stone"}),
        MapNetwork(role="ao", model=UNetSpec(width=8, depth=2), condition_channels=4),
    ):
        assert DECLARED.validate_json(declared.model_dump_json()) == declared


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"role": "gloss", "model": UNET, "condition_channels": 4},
            "'gloss' is no map that a network learns",
        ),
        ({"model": UNET, "condition_channels": 4}, "role"),
        ({"role": "segmentation", "model": UNET}, "model"),
        (7, "map"),
    ],
)
def test_what_declares_no_known_network_is_refused(content: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DECLARED.validate_python(content)
