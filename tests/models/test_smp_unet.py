"""Tests of segmentation-models-pytorch's U-Net: the contract, and a phase from YAML to a map."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch import Unet
from torch import Tensor, nn

from pbrlib.models.blocks import IMAGENET_MEAN, IMAGENET_STD
from pbrlib.models.build import build_network, build_on_meta, init_head_bias
from pbrlib.models.modelspec import SmpUNetSpec
from pbrlib.models.network import NetworkOutput
from pbrlib.models.roles import MapDeclaration
from pbrlib.models.smp_unet import SmpUNet
from pbrlib.optim.groups import parameter_groups
from pbrlib.optim.optimizerspec import AdamWSpec
from tests.models.contract import NetworkContract

SMALL = SmpUNetSpec(encoder="resnet18", film_dropout=0.0)
METALLIC = MapDeclaration(role="metallic", model=SMALL, condition_channels=5)


class TestSmpUNet(NetworkContract):
    in_channels = 10
    out_channels = 1
    rounding = 2.0  # a fresh batch norm scales nothing in eval mode, so features grow over 28 layers

    def build(self) -> nn.Module:
        return build_network(METALLIC)

    def answer(self, network: nn.Module, x: Tensor) -> NetworkOutput:
        cond = torch.rand(x.shape[0], 5, 3, 3, generator=torch.Generator().manual_seed(1))
        answer: NetworkOutput = network(x, cond)
        return answer


def test_its_output_equals_the_library_s_own_network() -> None:
    torch.manual_seed(0)
    donor = Unet("resnet18", encoder_weights=None, in_channels=3, classes=2).eval()
    network = SmpUNet(SMALL, in_channels=3, out_channels=2, cond_channels=None).eval()
    for ours, theirs in zip(network.parameters(), donor.parameters(), strict=True):
        ours.data.copy_(theirs.data)
    x = torch.rand(1, 3, 64, 96)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    answer = network(x)
    torch.testing.assert_close(answer.logits, donor((x - mean) / std), atol=1e-5, rtol=1e-4)
    assert answer.features.shape == (1, network.feature_channels, 2, 3)


def test_published_weights_reach_the_first_three_channels(tmp_path: Path) -> None:
    trunk = Unet("resnet18", encoder_weights=None).encoder
    file = tmp_path / "resnet18.safetensors"
    save_file({name: value.contiguous() for name, value in trunk.state_dict().items()}, file)
    spec = SMALL.model_copy(update={"pretrained": str(file)})
    network = SmpUNet(spec, in_channels=6, out_channels=1, cond_channels=4)
    (stem,) = network.stem_names
    assert torch.equal(network.get_parameter(stem)[:, :3], trunk.conv1.weight)
    assert network.get_parameter(stem)[:, 3:].std() > 0


def test_layer_decay_reaches_every_stage_of_the_resnet() -> None:
    groups = parameter_groups(build_on_meta(METALLIC), AdamWSpec(lr=1.0, layer_decay=0.5))
    rates = {group.name.removesuffix("/no_decay"): group.lr for group in groups}
    assert rates == {"base": 1.0, **{f"base.stages.{stage}": 0.5 ** (4 - stage) for stage in range(5)}}


def test_the_initial_output_is_the_given_share_and_conditioning_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    network = build_network(METALLIC).eval()
    init_head_bias(network, 0.06)
    torch.testing.assert_close(torch.sigmoid(network.get_parameter("head.bias")), torch.tensor([0.06]))
    x, cond = torch.rand(1, 10, 64, 64), torch.rand(1, 5, 2, 2)
    assert torch.equal(network(x, cond).logits, network(x).logits)
    nn.init.normal_(network.get_parameter("film.beta.weight"))
    assert not torch.allclose(network(x, cond).logits, network(x).logits)


def test_conditioning_without_film_is_refused() -> None:
    network = SmpUNet(SMALL, in_channels=6, out_channels=1, cond_channels=None).eval()
    with pytest.raises(ValueError, match="cond_channels=None"):
        network(torch.rand(1, 6, 32, 32), torch.rand(1, 5, 1, 1))
