from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pbrlib.models.modelspec import SegformerSpec, UNetSpec
from pbrlib.spec import Spec

SIZES = {
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 3, 4],
    "decoder_width": 32,
}


def test_a_network_has_the_sizes_of_the_recipe_by_default() -> None:
    assert UNetSpec.model_validate({"kind": "unet"}) == UNetSpec(width=96, depth=4)
    assert SegformerSpec.model_validate({"kind": "segformer"}) == SegformerSpec(backbone="b2")


@pytest.mark.parametrize(
    ("model", "written", "message"),
    [
        (
            UNetSpec,
            {"width": 12},
            "norm_groups: got 8; expected a divisor of width 12. Use 6 groups or a width of 16",
        ),
        (UNetSpec, {"widht": 12}, "widht"),
        (UNetSpec, {"kind": "segformer"}, "'unet'"),
        (SegformerSpec, {"depths": [1, 1, 1, 1]}, "got depths with backbone b2"),
        (SegformerSpec, {"backbone": "custom", "depths": [1, 1, 1, 1]}, "custom: got no hidden_sizes"),
        (
            SegformerSpec,
            {"backbone": "custom", **SIZES, "num_heads": [3, 2, 3, 4]},
            "8 channels .* 3 heads",
        ),
    ],
)
def test_mistakes_are_errors_with_advice(model: type[Spec], written: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model.model_validate(written)
