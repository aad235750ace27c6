from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pbrlib.models.blocks import DoubleConv, blur_downsample, resize
from pbrlib.models.build import init_head_bias
from pbrlib.models.modelspec import UNetSpec
from pbrlib.models.network import NetworkOutput
from pbrlib.models.unet import UNet
from tests.models.contract import NetworkContract

SMALL = UNetSpec(width=8, depth=2, norm_groups=4, film_dropout=0.0)


class TestUNet(NetworkContract):
    in_channels = 6
    out_channels = 3

    def build(self) -> nn.Module:
        return UNet(SMALL, in_channels=6, out_channels=3, cond_channels=5)

    def answer(self, network: nn.Module, x: Tensor) -> NetworkOutput:
        generator = torch.Generator().manual_seed(1)
        cond = torch.rand(x.shape[0], 5, 3, 3, generator=generator)
        answer: NetworkOutput = network(x, cond)
        return answer


class TestUnconditionalUNet(NetworkContract):
    in_channels = 5
    out_channels = 1

    def build(self) -> nn.Module:
        return UNet(SMALL, in_channels=5, out_channels=1, cond_channels=None)


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
    assert torch.equal(network(x, cond).logits, network(x).logits)
    nn.init.normal_(network.get_parameter("film.beta.weight"))
    assert not torch.allclose(network(x, cond).logits, network(x).logits)
    assert torch.equal(network(x, cond, cond_keep=torch.zeros(1)).logits, network(x).logits)


def test_conditioning_without_film_is_refused() -> None:
    network = UNet(SMALL, in_channels=6, out_channels=3, cond_channels=None)
    with pytest.raises(ValueError, match="cond_channels=None"):
        network(torch.rand(1, 6, 16, 16), torch.rand(1, 5, 2, 2))


def test_head_bias_starts_at_the_given_share() -> None:
    network = UNet(SMALL, in_channels=6, out_channels=1, cond_channels=None)
    init_head_bias(network, 0.06)
    torch.testing.assert_close(torch.sigmoid(network.get_parameter("head.bias")), torch.tensor([0.06]))
    with pytest.raises(ValueError, match=r"got p = 1\.0; expected a probability between 0 and 1"):
        init_head_bias(network, 1.0)


def test_uniform_pictures_of_different_brightness_give_different_outputs() -> None:
    torch.manual_seed(0)
    network = UNet(SMALL, in_channels=3, out_channels=3, cond_channels=None).eval()
    dark, bright = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    assert (network(dark).logits - network(bright).logits).abs().max() > 0.01


def conditioned() -> UNet:
    """Return a small network whose FiLM has random weights."""
    torch.manual_seed(0)
    network = UNet(SMALL, in_channels=6, out_channels=3, cond_channels=5).eval()
    assert network.film is not None
    for parameter in network.film.parameters():
        nn.init.normal_(parameter)
    return network


def test_the_network_has_the_structure_of_the_recipe() -> None:
    """Blurred halvings, FiLM at the bottleneck alone, bilinear doublings, refined skips."""
    network = conditioned()
    x, cond = torch.rand(2, 6, 24, 16), torch.rand(2, 5, 3, 2)
    levels = [network.encoder.stages[0](x)]
    for stage in network.encoder.stages[1:]:
        levels.append(stage(blur_downsample(levels[-1])))
    *skips, deep = levels
    assert deep.shape == (2, 32, 6, 4)
    assert network.film is not None
    deep = network.film(deep, resize(cond, (6, 4)), keep=None)
    for stage, skip in zip(reversed(network.decoder.stages), reversed(skips), strict=True):
        doubled = resize(deep, (2 * deep.shape[2], 2 * deep.shape[3]))
        deep = stage.merge(torch.cat((doubled, stage.refine(skip)), dim=1))
    torch.testing.assert_close(network(x, cond).logits, network.head(deep))


def test_a_double_convolution_is_two_of_three_by_three_with_group_norm_and_silu() -> None:
    torch.manual_seed(0)
    block, x = DoubleConv(4, 8, norm_groups=2), torch.rand(1, 4, 6, 6)
    expected = x
    for part in (block.first, block.second):
        assert part.conv.kernel_size == (3, 3)
        expected = F.silu(F.group_norm(part.conv(expected), 2, part.norm.weight, part.norm.bias))
    torch.testing.assert_close(block(x), expected + block.shortcut(x))


def test_the_recipes_widths_double_to_the_bottleneck_where_film_acts() -> None:
    with torch.device("meta"):
        network = UNet(UNetSpec(), in_channels=6, out_channels=3, cond_channels=512)
    assert [stage.second.conv.out_channels for stage in network.encoder.stages] == [96, 192, 384, 768, 1536]
    assert network.film is not None
    assert network.film.gamma.weight.shape == (1536, 512, 1, 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_one_step_at_the_recipes_width_moves_every_parameter() -> None:
    torch.manual_seed(0)
    network = UNet(UNetSpec(film_dropout=0.0), in_channels=6, out_channels=3, cond_channels=512)
    for parameter in network.film.parameters() if network.film else ():
        nn.init.normal_(parameter, std=1e-3)
    before = {name: parameter.detach().sum().item() for name, parameter in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4)
    target = torch.rand(1, 3, 256, 256)
    prediction = network(torch.rand(1, 6, 256, 256), torch.rand(1, 512, 8, 8)).logits.sigmoid()
    first = (prediction - target).abs().mean()
    first.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    assert bool(torch.isfinite(first.detach() + norm))
    still = [
        name
        for name, parameter in network.named_parameters()
        if parameter.detach().sum().item() == before[name]
    ]
    assert still == []
