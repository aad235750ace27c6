"""Tests that the files of loss families and the fields of LossSpec agree."""

import inspect
import pkgutil
from importlib import import_module
from typing import get_args

import pytest

from pbrlib import losses
from pbrlib.losses.base import Term
from pbrlib.losses.lossspec import AnyTerm, LossSpec
from pbrlib.losses.termmodules import module_of
from pbrlib.losses.termspec import ClassTermSpec, MapTermSpec, TermSpec
from pbrlib.maps import MAPS

FILES = [import_module(file.name) for file in pkgutil.iter_modules(losses.__path__, "pbrlib.losses.")]
TERMS = LossSpec.term_types()
MODULES = {name: module_of(spec.model_construct()) for name, spec in TERMS.items()}


def defined_below(base):
    """The public classes below a base in the files of the package other than its own."""
    return {
        found
        for file in FILES
        for name, found in inspect.getmembers(file, inspect.isclass)
        if issubclass(found, base)
        and not name.startswith("_")
        and found.__module__ == file.__name__ != base.__module__
    }


def test_every_spec_is_a_field_and_a_member_of_the_union():
    specs = defined_below(TermSpec) - {ClassTermSpec, MapTermSpec}
    assert set(TERMS.values()) == specs == set(get_args(AnyTerm))
    assert len(specs) == len(TERMS) == len(LossSpec.model_fields)


def test_every_module_of_a_family_belongs_to_one_spec():
    modules = list(MODULES.values())
    assert set(modules) == defined_below(Term)
    assert len(set(modules)) == len(modules)


@pytest.mark.parametrize("name", TERMS)
def test_module_and_function_of_a_term_are_in_one_file(name):
    (file,) = (file for file in FILES if file.__name__ == MODULES[name].__module__)
    function = {"lpips": "lpips_distance"}.get(name, name)
    assert vars(file)[function].__module__ == file.__name__


def test_every_term_has_a_distinct_formula():
    symbols = [spec.symbol for spec in TERMS.values()]
    assert len(set(symbols)) == len(TERMS)


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("dice", {"mask"}),
        ("l1", {"albedo", "roughness", "metallic", "height", "ao"}),
        ("focal_tversky", {"albedo", "roughness", "metallic", "height", "ao"}),
        ("normal_reproj", {"height"}),
        ("lpips", {"albedo"}),
    ],
)
def test_a_term_applies_to_the_maps_that_it_can_compare(name, targets):
    learned = ("mask", "albedo", "roughness", "metallic", "height", "ao")
    assert {target for target in learned if TERMS[name].applies_to(MAPS[target])} == targets


@pytest.mark.parametrize("name", TERMS)
def test_every_term_applies_to_something(name):
    assert any(TERMS[name].applies_to(target) for target in MAPS.values())
