"""Tests that an untrusted model folder or declaration is opened or gives a single error."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from pbrlib.errors import CheckpointError
from pbrlib.inference.modelfile import FILE_NAME, SUMS, ModelFile, check_sums, read_model
from pbrlib.inference.opened import open_network
from pbrlib.maps import CLASSES
from pbrlib.train.checkpoint.state import WEIGHTS, State, write_state
from tests.checkpoints import NET, files_of
from tests.hostile import JSON

MODEL = {
    "format_version": 1,
    "conventions": {"classes": list(CLASSES)},
    "networks": {},
    "data": {"fingerprint": "f", "textures": {}},
    "versions": {},
}
UNET: dict[str, Any] = {
    "role": "ao",
    "model": {"kind": "unet", "width": 8, "depth": 2},
    "condition_channels": 4,
}
SEGFORMER: dict[str, Any] = {
    "kind": "segformer",
    "backbone": "custom",
    "hidden_sizes": [8] * 4,
    "depths": [1] * 4,
    "num_heads": [1] * 4,
    "decoder_width": 8,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / SUMS).write_text("")
    (folder / files_of(NET)[0]).parent.mkdir(parents=True)
    save_file({"a": torch.zeros(2)}, folder / files_of(NET)[0])
    return folder


@given(st.sampled_from(sorted(MODEL)), JSON)
def test_a_model_file_with_any_value_in_a_field_is_valid_or_an_error(
    folder: Path, name: str, value: object
) -> None:
    (folder / FILE_NAME).write_text(json.dumps({**MODEL, name: value}))
    try:
        assert isinstance(read_model(folder), ModelFile)
    except CheckpointError as error:
        assert str(error).startswith(str(folder))


@given(st.binary())
def test_any_bytes_as_a_model_file_or_checksums_are_an_error(folder: Path, content: bytes) -> None:
    (folder / FILE_NAME).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.json"):
        read_model(folder)
    (folder / SUMS).write_bytes(content)
    with pytest.raises(CheckpointError):
        check_sums(folder, [WEIGHTS])
    (folder / SUMS).write_text("")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "cannot be read"),
        (json.dumps({**MODEL, "conventions": {"classes": 5}}), "conventions.classes: got other classes"),
        (json.dumps({**MODEL, "conventions": {"classes": None}}), "conventions.classes: got other classes"),
    ],
)
def test_a_model_file_without_the_right_form_is_an_error(folder: Path, text: str, words: str) -> None:
    (folder / FILE_NAME).write_text(text)
    with pytest.raises(CheckpointError, match=words):
        read_model(folder)


@pytest.mark.parametrize(
    "declared",
    [
        {**UNET, "model": {"kind": "unet", "width": 8192}},
        {**UNET, "model": {"kind": "unet", "width": 2**62}},
        {**UNET, "condition_channels": -3},
        {**UNET, "condition_channels": 10**40},
        {"role": "segmentation", "model": {**SEGFORMER, "hidden_sizes": [16384] * 4}},
        {"role": "segmentation", "model": {**SEGFORMER, "hidden_sizes": [2**40] * 4}},
        {"role": "segmentation", "model": {**SEGFORMER, "depths": [10**6] * 4}},
    ],
)
def test_a_declaration_that_differs_from_its_weights_allocates_no_memory(
    folder: Path, declared: dict[str, Any]
) -> None:
    state = State("P0", "f" * 64, 1, 1, metrics={}, players={NET: declared})
    write_state(folder, state)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"another architecture|a declaration that is not valid"):
        open_network(folder, device=torch.device("cpu"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB
