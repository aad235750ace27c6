"""The contract tests of all networks; the test class of each network inherits them."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from pbrlib.models.network import NetworkOutput

FAMILIES = re.compile(r"(encoder\.stages\.\d+|decoder|film|head)\.")


class NetworkContract:
    in_channels: int
    out_channels: int
    rounding = 1.0
    """Factor by which this network's initial logits have a larger rounding error than a U-Net's."""

    def build(self) -> nn.Module:
        raise NotImplementedError

    def answer(self, network: nn.Module, x: Tensor) -> NetworkOutput:
        answer: NetworkOutput = network(x)
        return answer

    def logits(self, network: nn.Module, x: Tensor) -> Tensor:
        return self.answer(network, x).logits

    def picture(self, height: int, width: int, batch: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(batch, self.in_channels, height, width, generator=generator)

    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build().eval()

    @pytest.mark.parametrize(("rows", "columns"), [(2, 2), (2, 3), (4, 1)])
    def test_logits_have_the_size_of_the_input(self, rows: int, columns: int) -> None:
        network = self.network()
        height, width = rows * network.stride, columns * network.stride
        logits = self.logits(network, self.picture(height, width))
        assert logits.shape == (1, self.out_channels, height, width)

    def test_features_have_as_many_channels_as_promised(self) -> None:
        network = self.network()
        picture = self.picture(2 * network.stride, 2 * network.stride)
        assert self.answer(network, picture).features.shape[:2] == (1, network.feature_channels)

    def test_stem_reads_every_input_channel_and_head_gives_every_logit(self) -> None:
        network = self.network()
        sizes = {name: parameter.shape for name, parameter in network.named_parameters()}
        assert {sizes[name][1] for name in network.stem_names} == {self.in_channels}
        assert {sizes[name][0] for name in network.head_names} == {self.out_channels}

    def test_sides_off_the_stride_are_refused_by_name(self) -> None:
        network = self.network()
        with pytest.raises(ValueError, match=f"multiples of {network.stride}"):
            self.logits(network, self.picture(network.stride, network.stride + 1))

    def test_every_parameter_belongs_to_a_known_family(self) -> None:
        names = [name for name, _ in self.network().named_parameters()]
        assert [name for name in names if not FAMILIES.match(name)] == []

    def test_meta_network_has_the_same_parameters(self) -> None:
        with torch.device("meta"):
            meta = self.build()
        real = {name: p.shape for name, p in self.network().named_parameters()}
        assert {name: p.shape for name, p in meta.named_parameters()} == real
        assert all(p.is_meta for p in meta.parameters())

    def test_every_parameter_receives_a_gradient(self) -> None:
        network = self.network().train()
        picture = self.picture(2 * network.stride, 2 * network.stride, batch=2)
        self.logits(network, picture).square().mean().backward()
        assert [name for name, p in network.named_parameters() if p.grad is None] == []

    def test_eval_mode_is_deterministic(self) -> None:
        network = self.network()
        picture = self.picture(2 * network.stride, 2 * network.stride)
        assert torch.equal(self.logits(network, picture), self.logits(network, picture))

    def test_weights_carry_over_exactly(self) -> None:
        first = self.network()
        torch.manual_seed(1)
        second = self.build().eval()
        picture = self.picture(2 * first.stride, 2 * first.stride)
        assert not torch.equal(self.logits(first, picture), self.logits(second, picture))
        second.load_state_dict(first.state_dict())
        assert torch.equal(self.logits(first, picture), self.logits(second, picture))

    def test_bf16_autocast_stays_near_fp32(self) -> None:
        network = self.network()
        picture = self.picture(2 * network.stride, 2 * network.stride)
        exact = self.logits(network, picture)
        with torch.autocast("cpu", torch.bfloat16):
            rough = self.logits(network, picture)
        torch.testing.assert_close(rough.float(), exact, atol=0.05 * self.rounding, rtol=0.05)

    def test_logits_are_fp32_under_autocast_and_follow_neighbouring_features(self) -> None:
        network = self.network()
        side = 2 * network.stride
        picture = self.picture(side, side)
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.logits(network, picture)
        assert logits.dtype == torch.float32
        assert (logits != logits.bfloat16().float()).float().mean() > 0.9

    def test_channels_last_changes_nothing(self) -> None:
        network = self.network()
        picture = self.picture(2 * network.stride, 2 * network.stride)
        exact = self.logits(network, picture)
        network.to(memory_format=torch.channels_last)
        same = self.logits(network, picture.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(same, exact, atol=1e-5 * self.rounding, rtol=1e-4)
