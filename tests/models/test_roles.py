"""Tests of inputs and outputs by role, and of the discrimination of declarations."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from pbrlib.maps import CLASSES, TARGETS
from pbrlib.models.build import build_on_meta
from pbrlib.models.modelspec import MapModel, SegformerSpec, SegmentationModel, UNetSpec
from pbrlib.models.roles import (
    CONDITIONING_STRIDE,
    DECLARATION_ADAPTER,
    INPUT_CHANNELS,
    ROLE_INPUTS,
    MapDeclaration,
    SegmentationDeclaration,
)
from pbrlib.spec import Spec

UNET = {"kind": "unet", "width": 8, "depth": 2}


def test_every_map_that_is_learned_has_a_role_and_no_other_map_has() -> None:
    assert set(ROLE_INPUTS) == set(TARGETS)
    assert all(name in INPUT_CHANNELS for reads in ROLE_INPUTS.values() for name in reads)


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
def test_options_append_an_input_to_those_of_the_role(
    role: str, options: dict[str, bool], reads: tuple[str, ...]
) -> None:
    declared = MapDeclaration(role=role, model=UNetSpec(), condition_channels=4, **options)
    assert declared.inputs == reads
    assert len(declared.channels) == sum(INPUT_CHANNELS[name] for name in reads)
    assert declared.channels[:2] == (f"{reads[0]}.0", f"{reads[0]}.1")


def test_a_segmentation_has_one_output_channel_per_class() -> None:
    declared = SegmentationDeclaration(model=SegformerSpec())
    assert declared.inputs == ("colour", "normal")
    assert tuple(declared.outputs) == CLASSES


def kinds(union: Any) -> list[type[Spec]]:
    """Return the specs of an annotated union, or its only spec."""
    members = get_args(get_args(union)[0]) if get_args(union) else (union,)
    return [(get_args(member) or (member,))[0] for member in members]


@pytest.mark.parametrize("kind", kinds(MapModel), ids=lambda kind: kind.__name__)
def test_every_kind_of_map_network_fits_every_role(kind: type[Spec]) -> None:
    for role in ROLE_INPUTS:
        declared = MapDeclaration.model_validate({"role": role, "model": kind(), "condition_channels": 4})
        network = build_on_meta(declared)
        sizes = {name: parameter.shape for name, parameter in network.named_parameters()}
        assert {sizes[name][1] for name in network.stem_names} == {len(declared.channels)}
        assert {sizes[name][0] for name in network.head_names} == {sum(declared.outputs.values())}
        assert network.label.startswith(declared.model.kind)
        assert network.stride.bit_count() == 1, "strides of a chain are powers of two"


@pytest.mark.parametrize("kind", kinds(SegmentationModel), ids=lambda kind: kind.__name__)
def test_every_kind_of_segmentation_has_the_stride_that_crops_are_checked_against(kind: type[Spec]) -> None:
    declared = SegmentationDeclaration.model_validate({"model": kind()})
    assert build_on_meta(declared).stride == CONDITIONING_STRIDE


def test_a_declaration_survives_json() -> None:
    for declared in (
        SegmentationDeclaration(model=SegformerSpec(backbone="b0"), merge={"ceramic": "stone"}),
        MapDeclaration(role="ao", model=UNetSpec(width=8, depth=2), condition_channels=4),
    ):
        assert DECLARATION_ADAPTER.validate_json(declared.model_dump_json()) == declared


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"role": "gloss", "model": UNET, "condition_channels": 4},
            "got 'gloss'; expected one of",
        ),
        ({"model": UNET, "condition_channels": 4}, "role"),
        ({"role": "segmentation", "model": UNET}, "model"),
        (7, "map"),
    ],
)
def test_an_unknown_network_in_a_declaration_is_an_error(content: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DECLARATION_ADAPTER.validate_python(content)
