from __future__ import annotations

import pytest
import torch

from pbrlib.inference.chain import Chain, TextureInput
from pbrlib.losses.lossspec import LossSpec
from pbrlib.models.modelspec import SegformerSpec
from pbrlib.models.segformer import Segformer
from pbrlib.tasks.maps import MapTask
from pbrlib.tasks.taskspec import HeightSpec


@pytest.mark.parametrize(("backbone", "channels"), [("b0", 256), ("b2", 512)])
def test_conditioning_is_as_wide_as_the_backbones_last_stage(backbone: str, channels: int) -> None:
    with torch.device("meta"):
        segformer = Segformer(SegformerSpec.model_validate({"backbone": backbone}))
        chain = Chain(segmentation=segformer, albedo=None, maps={}, device=torch.device("meta"))
        task = MapTask(HeightSpec(), chain=chain, loss=LossSpec.model_validate({"l1": 1.0}))
        condition = chain.condition(torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96))
    assert task.declared.condition_channels == channels
    assert condition.features.shape == (1, channels, 2, 3)
    assert task.network.film is not None
    assert task.network.film.beta.weight.shape == (1536, channels, 1, 1)


def test_a_segmentation_without_map_networks_predicts_textures() -> None:
    sizes = {"hidden_sizes": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    spec = SegformerSpec.model_validate({"backbone": "custom", **sizes, "decoder_width": 8})
    chain = Chain(segmentation=Segformer(spec).eval(), albedo=None, maps={}, device=torch.device("cpu"))
    normal = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 48, 40)
    answer = chain.predict(TextureInput(torch.rand(3, 48, 40), normal, gloss=None, tileable=True))
    assert set(answer) == {"segmentation", "relief"}
    assert answer["segmentation"].shape == (7, 48, 40)
