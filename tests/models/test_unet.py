from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pbrlib.models.spec import UNetSpec
from pbrlib.models.unet import UNet

from .contract import NetworkContract

SMALL = UNetSpec(width=8, depth=2, norm_groups=4, film_dropout=0.0)


class TestUNet(NetworkContract):
    in_channels = 6
    out_channels = 3

    def build(self) -> nn.Module:
        return UNet(SMALL, in_channels=6, out_channels=3, cond_channels=5)

    def logits(self, network: nn.Module, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        cond = torch.rand(x.shape[0], 5, 3, 3, generator=generator)
        logits: Tensor = network(x, cond)
        return logits


class TestUnconditionalUNet(NetworkContract):
    in_channels = 5
    out_channels = 1

    def build(self) -> nn.Module:
        return UNet(SMALL, in_channels=5, out_channels=1, cond_channels=None)

    def logits(self, network: nn.Module, x: Tensor) -> Tensor:
        logits: Tensor = network(x)
        return logits


def test_recipe_unet_has_about_seventy_million_parameters() -> None:
    with torch.device("meta"):
        network = UNet(UNetSpec(), in_channels=6, out_channels=3, cond_channels=512)
    assert 70e6 < sum(p.numel() for p in network.parameters()) < 80e6


def test_names_are_the_ones_that_checkpoints_and_rules_use() -> None:
    network = UNet(UNetSpec(width=8, depth=1), in_channels=6, out_channels=3, cond_channels=5)
    layers = dict.fromkeys(name.rpartition(".")[0] for name, _ in network.named_parameters())
    double = ("first.conv", "first.norm", "second.conv", "second.norm", "shortcut")
    assert set(layers) == {
        *(f"encoder.stages.{level}.{layer}" for level in (0, 1) for layer in double),
        "decoder.stages.0.refine.conv",
        "decoder.stages.0.refine.norm",
        *(f"decoder.stages.0.merge.{layer}" for layer in double),
        "film.gamma",
        "film.beta",
        "head",
    }


def test_stride_is_two_to_the_depth() -> None:
    for depth in (1, 3, 4):
        with torch.device("meta"):
            assert UNet(UNetSpec(depth=depth), in_channels=1, out_channels=1, cond_channels=None).stride == (
                2**depth
            )


def test_new_network_ignores_its_conditioning_and_a_trained_one_does_not() -> None:
    torch.manual_seed(0)
    network = UNet(SMALL, in_channels=6, out_channels=3, cond_channels=5).eval()
    x, cond = torch.rand(1, 6, 16, 16), torch.rand(1, 5, 2, 2)
    assert torch.equal(network(x, cond), network(x))
    nn.init.normal_(network.get_parameter("film.beta.weight"))
    assert not torch.allclose(network(x, cond), network(x))
    assert torch.equal(network(x, cond, cond_keep=torch.zeros(1)), network(x))


def test_conditioning_without_film_is_refused() -> None:
    network = UNet(SMALL, in_channels=6, out_channels=3, cond_channels=None)
    with pytest.raises(ValueError, match="cond_channels=None"):
        network(torch.rand(1, 6, 16, 16), torch.rand(1, 5, 2, 2))


def test_head_bias_starts_at_the_given_share() -> None:
    network = UNet(SMALL, in_channels=6, out_channels=1, cond_channels=None)
    network.init_head_bias(0.06)
    torch.testing.assert_close(torch.sigmoid(network.get_parameter("head.bias")), torch.tensor([0.06]))
    with pytest.raises(ValueError, match=r"between 0 and 1, not at 1\.0"):
        network.init_head_bias(1.0)


def test_uniform_pictures_of_other_brightness_give_other_answers() -> None:
    torch.manual_seed(0)
    network = UNet(SMALL, in_channels=3, out_channels=3, cond_channels=None).eval()
    dark, bright = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    assert (network(dark) - network(bright)).abs().max() > 0.01
