from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel, SegformerConfig, SegformerForImageClassification
from transformers import SegformerForSemanticSegmentation as Donor

from pbrlib.errors import CheckpointError
from pbrlib.maps import CLASSES
from pbrlib.models.blocks import IMAGENET_MEAN, IMAGENET_STD
from pbrlib.models.modelspec import SegformerSpec
from pbrlib.models.segformer import Segformer, read_pretrained, save_pretrained
from tests.models.contract import NetworkContract

SIZES = {"hidden_sizes": (8, 16, 24, 32), "depths": (1, 2, 1, 1), "num_heads": (1, 2, 3, 4)}
SMALL = SegformerSpec(backbone="custom", decoder_width=20, drop_path=0.0, head_dropout=0.0, **SIZES)
STEM = "encoder.stages.0.patch_embeddings.proj.weight"


class TestSegformer(NetworkContract):
    in_channels = 6
    out_channels = 7

    def build(self) -> nn.Module:
        return Segformer(SMALL)


def donor_config(*, labels: int = 11, depths: tuple[int, ...] = SIZES["depths"]) -> SegformerConfig:
    return SegformerConfig(
        hidden_sizes=list(SIZES["hidden_sizes"]),
        depths=list(depths),
        num_attention_heads=list(SIZES["num_heads"]),
        decoder_hidden_size=20,
        num_labels=labels,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
    )


def save_donor(folder: Path, *, layout: str) -> Donor:
    """A three-channel SegFormer on disk, with the parameter names of saved files or of its modules.

    Its weights are far from a fresh network's small ones, so that a mix-up shows in the logits.
    """
    torch.manual_seed(3)
    donor = Donor(donor_config()).eval()
    for parameter in donor.parameters():
        nn.init.normal_(parameter, std=0.3)
    for buffer in (donor.decode_head.batch_norm.running_mean, donor.decode_head.batch_norm.running_var):
        buffer.uniform_(0.5, 1.5)
    donor.save_pretrained(folder)
    if layout == "modules":
        save_file(donor.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    saved = load_file(folder / "model.safetensors")
    published = "segformer.encoder.patch_embeddings.0.proj.weight"
    assert (published in saved) == (layout == "published")
    return donor


def load(source: Path | str) -> Segformer:
    torch.manual_seed(4)
    return Segformer(SMALL.model_copy(update={"pretrained": str(source)})).eval()


@pytest.mark.parametrize("layout", ["published", "modules"])
def test_a_pretrained_encoder_equals_its_donor_if_the_normal_has_no_weight(
    tmp_path: Path, layout: str
) -> None:
    donor = save_donor(tmp_path, layout=layout)
    network = load(tmp_path)
    assert torch.equal(
        network.get_parameter(STEM)[:, :3], donor.segformer.stages[0].patch_embeddings.proj.weight
    )
    with torch.no_grad():
        network.get_parameter(STEM)[:, 3:] = 0.0
        network.head.load_state_dict({k: v[:7] for k, v in donor.decode_head.classifier.state_dict().items()})
    colour = torch.rand(1, 3, 64, 96)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        theirs = donor((colour - mean) / std, output_hidden_states=True)
        ours = network(torch.cat((colour, torch.rand(1, 3, 64, 96)), dim=1))
    torch.testing.assert_close(ours.features, theirs.hidden_states[-1])
    assert theirs.logits.std() > 0.1
    expected = F.interpolate(theirs.logits[:, :7], size=(64, 96), mode="bilinear")
    torch.testing.assert_close(ours.logits, expected, atol=1e-5, rtol=1e-4)


def test_normal_channels_start_kaiming_normal(tmp_path: Path) -> None:
    save_donor(tmp_path, layout="published")
    fresh = load(tmp_path).get_parameter(STEM)[:, 3:].detach()
    assert float(fresh.std()) == pytest.approx((2 / (6 * 7 * 7)) ** 0.5, rel=0.1)


def test_a_donor_without_decoder_initialises_only_the_encoder(tmp_path: Path) -> None:
    donor = SegformerForImageClassification(donor_config())
    donor.save_pretrained(tmp_path)
    network = load(tmp_path)
    theirs = donor.segformer.stages.state_dict()
    assert torch.equal(
        network.get_parameter("encoder.stages.3.layer_norm.weight"), theirs["3.layer_norm.weight"]
    )
    assert torch.equal(
        network.get_parameter("encoder.stages.1.blocks.1.mlp.fc1.weight"), theirs["1.blocks.1.mlp.fc1.weight"]
    )
    assert all(p.isfinite().all() for p in network.parameters())


def test_weights_in_transformers_layout_are_read_back_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(6)
    network = Segformer(SMALL)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1.0)
    save_pretrained(network, tmp_path, labels=CLASSES)
    assert "segformer.encoder.patch_embeddings.0.proj.weight" in load_file(tmp_path / "model.safetensors")
    found = read_pretrained(tmp_path)
    assert found.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(found[name], tensor), name


def test_a_folder_that_lacks_a_tensor_is_an_error_that_names_it(tmp_path: Path) -> None:
    save_pretrained(Segformer(SMALL), tmp_path, labels=CLASSES)
    saved = load_file(tmp_path / "model.safetensors")
    del saved["decode_head.classifier.weight"]
    save_file(saved, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors, decode_head.classifier.weight first"):
        read_pretrained(tmp_path)


def test_missing_weights_are_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"pretrained: .*nowhere cannot be read.*or to none"):
        load(tmp_path / "nowhere")


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    Donor(donor_config(depths=(1, 1, 1, 1))).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"depths \[1, 1, 1, 1\]; expected \[1, 2, 1, 1\]"):
        load(tmp_path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="got a model of type bert; expected segformer"):
        load(tmp_path)


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    save_donor(tmp_path, layout="published")
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path)


def test_weights_that_lack_a_part_of_the_encoder_are_refused(tmp_path: Path) -> None:
    save_donor(tmp_path, layout="published")
    saved = load_file(tmp_path / "model.safetensors")
    del saved["segformer.encoder.patch_embeddings.2.proj.weight"]
    save_file(saved, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors? of the encoder"):
        load(tmp_path)


def test_meta_device_reads_no_weights() -> None:
    with torch.device("meta"):
        Segformer(SMALL.model_copy(update={"pretrained": "/nowhere"}))


def test_a_published_size_reads_its_saved_weights(tmp_path: Path) -> None:
    b0 = SegformerConfig(num_labels=150)  # transformers' own default is the published B0
    torch.manual_seed(5)
    donor = Donor(b0)
    donor.save_pretrained(tmp_path)
    network = Segformer(SegformerSpec(backbone="b0", pretrained=str(tmp_path)))
    ours, theirs = network.encoder.state_dict(), donor.segformer.stages.state_dict()
    stem = "stages.0.patch_embeddings.proj.weight"
    assert torch.equal(ours[stem][:, :3], theirs[stem.removeprefix("stages.")])
    for name, tensor in theirs.items():
        assert torch.equal(ours[f"stages.{name}"], tensor) or f"stages.{name}" == stem
    assert torch.equal(network.decoder.fuse.weight, donor.decode_head.linear_fuse.weight)
    with pytest.raises(CheckpointError, match=r"hidden_sizes \[32, .* expected \[64, "):
        Segformer(SegformerSpec(backbone="b1", pretrained=str(tmp_path)))


# Xie et al. 2021, table 1, in millions of parameters, without the six channels and the seven classes.
@pytest.mark.parametrize(
    ("backbone", "millions", "feature_channels"),
    [
        ("b0", 3.7, 256),
        ("b1", 13.7, 512),
        ("b2", 27.4, 512),
        ("b3", 47.2, 512),
        ("b4", 64.0, 512),
        ("b5", 84.6, 512),
    ],
)
def test_published_sizes(backbone: str, millions: float, feature_channels: int) -> None:
    with torch.device("meta"):
        network = Segformer(SegformerSpec.model_validate({"backbone": backbone}))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert network.feature_channels == feature_channels


def test_names_are_the_ones_that_checkpoints_and_rules_use() -> None:
    with torch.device("meta"):
        names = {name for name, _ in Segformer(SMALL).named_parameters()}
    decoder = {name for name in names if name.startswith("decoder.")}
    assert decoder == {
        *(f"decoder.projections.{k}.{part}" for k in range(4) for part in ("weight", "bias")),
        "decoder.fuse.weight",
        "decoder.norm.weight",
        "decoder.norm.bias",
    }
    first = {name.removeprefix("encoder.stages.0.") for name in names if name.startswith("encoder.stages.0.")}
    layers = {name.rpartition(".")[0] for name in first}
    assert layers == {
        "patch_embeddings.proj",
        "patch_embeddings.layer_norm",
        "layer_norm",
        "blocks.0.layernorm_before",
        "blocks.0.layernorm_after",
        *(f"blocks.0.attention.{part}_proj" for part in "qkvo"),
        "blocks.0.attention.sequence_reduction.sequence_reduction",
        "blocks.0.attention.sequence_reduction.layer_norm",
        *(f"blocks.0.mlp.{part}" for part in ("fc1", "dwconv.dwconv", "fc2")),
    }


def test_features_are_the_last_stage_at_a_thirty_second() -> None:
    network = Segformer(SMALL).eval()
    assert network(torch.rand(2, 6, 64, 96)).features.shape == (2, network.feature_channels, 2, 3)
