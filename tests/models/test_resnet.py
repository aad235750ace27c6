"""Tests of the U-Net with a ResNet encoder: the contract, and published weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn

from pbrlib.errors import CheckpointError
from pbrlib.models.blocks import IMAGENET_MEAN, IMAGENET_STD
from pbrlib.models.modelspec import UNetSpec
from pbrlib.models.resnet import ResNetEncoder
from pbrlib.models.unet import UNet
from pbrlib.optim.groups import parameter_groups
from pbrlib.optim.optimizerspec import AdamWSpec
from tests.models.contract import NetworkContract

SMALL = UNetSpec(width=8, depth=3, norm_groups=4, film_dropout=0.0, encoder="resnet18")


class TestResNetUNet(NetworkContract):
    in_channels = 6
    out_channels = 3

    def build(self) -> nn.Module:
        return UNet(SMALL, in_channels=6, out_channels=3, cond_channels=None)


def published(tmp_path: Path) -> tuple[nn.Module, Path]:
    """A ResNet with the tensors of torchvision's file, its classifier included."""
    torch.manual_seed(3)
    trunk = get_encoder("resnet18", weights=None)
    weights = {**trunk.state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    file = tmp_path / "resnet18.safetensors"
    save_file({name: value.contiguous() for name, value in weights.items()}, file)
    return trunk, file


def test_published_weights_give_the_output_of_the_original_network(tmp_path: Path) -> None:
    trunk, file = published(tmp_path)
    encoder = ResNetEncoder(3, SMALL.model_copy(update={"pretrained": str(file)})).eval()
    x = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    wanted = trunk.eval()((x - mean) / std)[1:4]
    for ours, theirs in zip(encoder(x)[1:], wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_new_channels_start_fresh_and_the_first_three_keep_the_published_weights(tmp_path: Path) -> None:
    trunk, file = published(tmp_path)
    encoder = ResNetEncoder(6, SMALL.model_copy(update={"pretrained": str(file)}))
    weight = encoder.stages[1][0].weight
    torch.testing.assert_close(weight[:, :3], trunk.conv1.weight)
    assert weight.shape[1] == 6
    assert weight[:, 3:].std() > 0


def test_weights_of_another_resnet_are_refused(tmp_path: Path) -> None:
    _, file = published(tmp_path)
    with pytest.raises(CheckpointError, match="another network"):
        ResNetEncoder(6, SMALL.model_copy(update={"encoder": "resnet34", "pretrained": str(file)}))


def test_missing_weights_name_the_option(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"pretrained: .*cannot be read.*or to none"):
        ResNetEncoder(6, SMALL.model_copy(update={"pretrained": str(tmp_path / "none.pth")}))


def test_pretrained_without_a_resnet_is_refused() -> None:
    with pytest.raises(ValidationError, match="pretrained: got weights without an encoder"):
        UNetSpec(pretrained="resnet18.pth")


def test_layer_decay_reaches_the_stages_of_the_resnet() -> None:
    with torch.device("meta"):
        network = UNet(SMALL, in_channels=6, out_channels=1, cond_channels=4)
    groups = parameter_groups(network, AdamWSpec(lr=1.0, layer_decay=0.5))
    rates = {group.name.removesuffix("/no_decay"): group.lr for group in groups}
    assert rates == {
        "base": 1.0,
        "base.stages.0": 0.125,
        "base.stages.1": 0.25,
        "base.stages.2": 0.5,
        "base.stages.3": 1.0,
    }


def test_the_ends_of_a_network_have_every_weight_that_reads_the_input() -> None:
    with torch.device("meta"):
        few, many = (UNet(SMALL, in_channels=n, out_channels=1, cond_channels=None) for n in (5, 9))
    shapes = {name: value.shape for name, value in few.state_dict().items()}
    differing = {name for name, value in many.state_dict().items() if value.shape != shapes[name]}
    assert differing - {"encoder.mean", "encoder.std"} == set(many.stem_names)
