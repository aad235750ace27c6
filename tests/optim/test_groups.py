from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pbrlib.errors import ConfigError
from pbrlib.models.modelspec import SegformerSpec, UNetSpec
from pbrlib.models.segformer import Segformer
from pbrlib.models.unet import UNet
from pbrlib.optim.groups import (
    ParamGroup,
    build_optimizer,
    frozen_modules,
    frozen_prefixes,
    parameter_groups,
    stage_of,
)
from pbrlib.optim.optimizerspec import AdamWSpec


def unet(*, device: str = "cpu") -> UNet:
    with torch.device(device):
        return UNet(UNetSpec(width=8, depth=2), in_channels=6, out_channels=3, cond_channels=4)


def segformer() -> Segformer:
    sizes: dict[str, Any] = {"hidden_sizes": (8,) * 4, "depths": (1,) * 4, "num_heads": (1,) * 4}
    return Segformer(SegformerSpec(backbone="custom", decoder_width=8, **sizes))


def adamw(**written: Any) -> AdamWSpec:
    return AdamWSpec.model_validate({"lr": 1e-4, **written})


def by_name(groups: list[ParamGroup]) -> dict[str, ParamGroup]:
    assert len({group.name for group in groups}) == len(groups)
    return {group.name: group for group in groups}


LADDER = {
    "stem": {"match": "encoder.stages.0.*", "freeze": True},
    "encoder": {"match": "encoder.*", "lr": 5e-5, "layer_decay": 0.9, "final": 5e-6},
    "head": {"match": ["head.*", "decoder.stages.0.*"], "weight_decay": 0.0},
}


@pytest.mark.parametrize("network", [unet(), unet(device="meta"), segformer()])
@pytest.mark.parametrize("written", [{}, {"layer_decay": 0.8}, {"groups": {"e": {"match": "encoder.*"}}}])
def test_every_parameter_is_claimed_exactly_once(network: nn.Module, written: dict[str, Any]) -> None:
    claimed = [name for group in parameter_groups(network, adamw(**written)) for name in group.names]
    assert sorted(claimed) == sorted(name for name, _ in network.named_parameters())


def test_groups_read_like_the_rules() -> None:
    groups = by_name(parameter_groups(unet(), adamw(groups=LADDER)))
    assert list(groups) == [
        "stem",
        "encoder.stages.1",
        "encoder.stages.1/no_decay",
        "encoder.stages.2",
        "encoder.stages.2/no_decay",
        "head",
        "base",
        "base/no_decay",
    ]
    assert groups["stem"].frozen
    assert groups["head"].weight_decay == 0.0
    assert groups["base"].lr == 1e-4
    assert groups["encoder.stages.1"].final == 5e-6


def test_first_matching_rule_counts() -> None:
    groups = by_name(parameter_groups(unet(), adamw(groups=LADDER)))
    assert all(name.startswith("encoder.stages.0.") for name in groups["stem"].names)
    assert not any(name.startswith("encoder.stages.0.") for name in groups["encoder.stages.1"].names)


def test_deepest_stage_has_the_base_rate_and_the_stem_the_smallest() -> None:
    groups = by_name(parameter_groups(segformer(), adamw(layer_decay=0.9)))
    rates = [groups[f"base.stages.{stage}"].lr for stage in range(4)]
    assert rates == pytest.approx([1e-4 * 0.9**3, 1e-4 * 0.9**2, 1e-4 * 0.9, 1e-4])
    assert groups["base"].lr == 1e-4
    assert groups["base.stages.0"].factor == pytest.approx(0.9**3)


def test_norms_biases_and_film_never_decay_and_all_else_does() -> None:
    network = unet()
    shapes = {name: parameter.ndim for name, parameter in network.named_parameters()}
    for group in parameter_groups(network, adamw(weight_decay=0.02)):
        for name in group.names:
            exempt = shapes[name] == 1 or name.startswith("film.")
            assert group.weight_decay == (0.0 if exempt else 0.02)
            assert ("norm" in name or name.endswith("bias")) <= exempt


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"stem": {"match": "encoder.stage.0.*", "freeze": True}},
            r"groups\.stem\.match: 'encoder\.stage\.0\.\*' matches no parameter\. "
            r"Did you mean 'encoder\.stages\.0\.\*'\? "
            r"The network has encoder\.\*, decoder\.\*, film\.\*, head\.\*\.",
        ),
        (
            {"h": {"match": ["head.*", "heads.*"]}},
            r"'heads\.\*' matches no parameter\. Did you mean 'head\.\*'",
        ),
        (
            {"a": {"match": "head.*"}, "b": {"match": "head.bias"}},
            r"groups\.b\.match: got only parameters that earlier rules match",
        ),
        (
            {"h": {"match": "head.*", "layer_decay": 0.9}},
            r"groups\.h\.layer_decay: got a group without an encoder stage",
        ),
        ({"all": {"match": "*", "freeze": True}}, r"got only frozen parameters"),
    ],
)
def test_rules_that_do_nothing_are_refused(groups: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parameter_groups(unet(device="meta"), adamw(groups=groups))


def test_frozen_parameters_are_not_in_the_optimizer_and_ask_for_no_gradient() -> None:
    network = unet()
    optimizer = build_optimizer(network, adamw(groups=LADDER))
    inside = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        frozen = name.startswith("encoder.stages.0.")
        assert parameter.requires_grad != frozen
        assert (id(parameter) in inside) != frozen


def test_next_phase_thaws_what_the_last_one_froze() -> None:
    network = unet()
    build_optimizer(network, adamw(groups=LADDER))
    build_optimizer(network, adamw())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_optimizer_has_the_rates_and_decays_of_its_groups() -> None:
    network = unet()
    spec = adamw(groups=LADDER, betas=(0.8, 0.95))
    optimizer = build_optimizer(network, spec)
    groups = [group for group in parameter_groups(network, spec) if not group.frozen]
    assert [(g["name"], g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups] == [
        (g.name, g.lr, g.weight_decay, len(g.names)) for g in groups
    ]
    assert {g["betas"] for g in optimizer.param_groups} == {(0.8, 0.95)}


def test_optimizer_state_passes_the_weights_only_reader(tmp_path: Any) -> None:
    network = unet()
    optimizer = build_optimizer(network, adamw(groups=LADDER))
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    state = torch.load(tmp_path / "optimizer.pt", weights_only=True)
    build_optimizer(unet(), adamw(groups=LADDER)).load_state_dict(state)


def test_frozen_prefixes_are_the_outermost_frozen_modules() -> None:
    assert frozen_prefixes(unet(), adamw(groups=LADDER)) == ("encoder.stages.0",)
    polish = adamw(groups={"fixed": {"match": ["encoder.*", "film.*"], "freeze": True}})
    network = unet()
    assert frozen_prefixes(network, polish) == ("encoder", "film")
    assert frozen_modules(network, polish) == (network.encoder, network.film)
    assert frozen_prefixes(network, adamw()) == ()


def test_stage_is_read_off_the_name() -> None:
    assert stage_of("encoder.stages.3.blocks.0.mlp.fc1.weight") == 3
    assert stage_of("decoder.stages.3.merge.first.conv.weight") is None
    assert stage_of("head.weight") is None
