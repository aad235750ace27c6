from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pbrlib.optim.optimizerspec import AdamWSpec, GroupSpec


def test_one_pattern_may_be_written_as_a_word() -> None:
    assert GroupSpec.model_validate({"match": "head.*"}).patterns == ("head.*",)
    assert GroupSpec.model_validate({"match": ["head.*", "film.*"]}).patterns == ("head.*", "film.*")


def test_order_of_the_rules_is_kept() -> None:
    rules = {name: {"match": "*"} for name in ("zinc", "alum", "mica")}
    assert list(AdamWSpec.model_validate({"lr": 1, "groups": rules}).groups) == ["zinc", "alum", "mica"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"lr": 0.0}, "greater than 0"),
        ({"lr": 1e-4, "layer_decay": 1.1}, "less than or equal to 1"),
        ({"lr": 1e-4, "groups": {"base": {"match": "*"}}}, "groups.base: got a reserved name"),
        (
            {"lr": 1e-4, "groups": {"x": {"match": "*", "freeze": True, "lr": 1e-3}}},
            "got freeze with lr; expected freeze alone",
        ),
        ({"lr": 1e-4, "groups": {"x": {"match": "*", "rate": 1e-3}}}, "groups.x.rate"),
        ({"lr": float("nan")}, "finite number"),
    ],
)
def test_mistakes_are_refused(written: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AdamWSpec.model_validate(written)
