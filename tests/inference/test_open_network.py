"""Tests that opening a network needs only the checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder

from pbrlib.inference.opened import open_network
from pbrlib.models.build import build_network
from pbrlib.models.modelspec import UNetSpec
from pbrlib.models.roles import MapDeclaration
from pbrlib.train.checkpoint.players import save
from pbrlib.train.checkpoint.state import State
from tests.checkpoints import NET, learned


def test_pretrained_weights_are_not_needed_to_open_a_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "resnet18.safetensors"
    trunk = get_encoder("resnet18", weights=None)
    save_file({name: value.contiguous() for name, value in trunk.state_dict().items()}, file)
    model = UNetSpec(width=8, depth=2, norm_groups=4, encoder="resnet18", pretrained=str(file))
    declared = MapDeclaration(role="ao", model=model, condition_channels=4)
    network = build_network(declared)
    state = State("P0", "f" * 64, 1, 1, metrics={}, players={NET: declared.model_dump(mode="json")})
    save(
        tmp_path / "checkpoint",
        state=state,
        learned=learned(network, torch.optim.AdamW(network.parameters())),
    )
    file.unlink()

    spec, opened = open_network(tmp_path / "checkpoint", device=torch.device("cpu"))

    assert spec.model.pretrained is None
    for name, value in network.state_dict().items():
        assert torch.equal(opened.state_dict()[name], value), name
