from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pbrlib.models.spec import ModelSpec, SegformerSpec, UNetSpec

MODEL: TypeAdapter[Any] = TypeAdapter(ModelSpec)
SIZES = {
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 3, 4],
    "decoder_width": 32,
}


def test_kind_chooses_the_network() -> None:
    assert MODEL.validate_python({"kind": "unet"}) == UNetSpec(width=96, depth=4)
    assert MODEL.validate_python({"kind": "segformer"}) == SegformerSpec(backbone="b2")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            {"kind": "unet", "width": 12},
            "norm_groups 8 does not divide width 12. Use 6 groups or a width of 16",
        ),
        ({"kind": "unet", "widht": 12}, "widht"),
        ({"kind": "segformer", "depths": [1, 1, 1, 1]}, "depths given beside backbone b2"),
        ({"kind": "segformer", "backbone": "custom", "depths": [1, 1, 1, 1]}, "custom needs hidden_sizes"),
        (
            {"kind": "segformer", "backbone": "custom", **SIZES, "num_heads": [3, 2, 3, 4]},
            "8 channels .* 3 heads",
        ),
        ({"kind": "resnet"}, "'unet', 'segformer'"),
    ],
)
def test_mistakes_are_refused_with_a_way_out(written: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MODEL.validate_python(written)
