"""Tests that an untrusted checkpoint is restored or gives a single error, and executes no code."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pbrlib.errors import CheckpointError, DamagedCheckpointError
from pbrlib.train.checkpoint.players import load_weights, read_tensors, restore, weights_file
from pbrlib.train.checkpoint.state import (
    OPTIMIZER,
    STATE,
    WEIGHTS,
    State,
    read_state,
    write_state,
)
from pbrlib.train.checkpoint.sums import OWN_SUM, sum_of_fields
from tests.checkpoints import NET, as_written_by, files_of, learned
from tests.hostile import JSON, changed
from tests.train.checkpoint.test_state import network, saved, state

# Without sums: who writes a file can write its sum too, and what is behind them has to hold.
GOOD = {**json.loads(json.dumps(asdict(state()))), "format_version": 2, "files": {}}
GOOD["network"] = GOOD.pop("players")[NET]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint whose changed files are kept until another test changes them."""
    folder = tmp_path_factory.mktemp("checkpoint")
    saved(folder, network())
    as_written_by(2, folder)
    (folder / STATE).write_text(json.dumps(GOOD))
    return folder


@pytest.fixture(scope="module")
def with_sums(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """Return a checkpoint written by training, and its content."""
    folder, net = tmp_path_factory.mktemp("with sums"), network()
    optimizer = saved(folder, net)
    return folder, content(net, optimizer)


@pytest.fixture(scope="module")
def optimizer_file(folder: Path) -> bytes:
    return (folder / OPTIMIZER).read_bytes()


def resume(folder: Path, content: bytes) -> None:
    """Restores with an optimizer's file of this content, and takes a step at the rate of the schedule."""
    (folder / OPTIMIZER).write_bytes(content)
    net = network()
    optimizer = torch.optim.AdamW(net.parameters())
    restore(folder, fingerprint="f" * 64, learned=learned(net, optimizer))
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    net(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()


def content(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[object]:
    """Return the stored values of network and optimizer as numbers."""
    kept = optimizer.state_dict()
    tables = network.state_dict(), *(kept["state"][number] for number in sorted(kept["state"]))
    return [
        kept["param_groups"],
        *({name: value.tolist() for name, value in table.items()} for table in tables),
    ]


@settings(max_examples=150)
@pytest.mark.parametrize("name", [STATE, *files_of(NET)])
@given(data=st.data())
def test_a_checkpoint_of_which_a_file_was_changed_is_restored_as_it_was_or_the_file_is_named(
    with_sums: tuple[Path, list[object]], name: str, data: st.DataObject
) -> None:
    folder, wanted = with_sums
    whole, net = (folder / name).read_bytes(), network()
    optimizer = torch.optim.AdamW(net.parameters())
    before = content(net, optimizer)
    (folder / name).write_bytes(data.draw(changed(whole)))
    try:
        read = restore(folder, fingerprint="f" * 64, learned=learned(net, optimizer))
    except DamagedCheckpointError as error:
        assert str(error).startswith(f"{folder / name}: ")
        assert content(net, optimizer) == before, "refused, and yet put in"
    else:
        assert (name, read) == (STATE, state())
        assert content(net, optimizer) == wanted
    finally:
        (folder / name).write_bytes(whole)


def packed(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def archive(pickled: bytes) -> bytes:
    """The file of ``torch.save`` with this pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        parts.writestr("archive/data.pkl", pickled)
        parts.writestr("archive/version", "3\n")
    return file.getvalue()


def tensors(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def read_as_state(folder: Path, text: str) -> State:
    (folder / STATE).write_text(text)
    try:
        return read_state(folder)
    finally:
        (folder / STATE).write_text(json.dumps(GOOD))


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_a_state_with_anything_in_a_field_has_the_declared_types_or_is_refused(
    folder: Path, name: str, value: object
) -> None:
    try:
        read = read_as_state(folder, json.dumps({**GOOD, name: value}))
    except CheckpointError as error:
        assert str(error).startswith(f"{folder / STATE}: ")
        return
    assert isinstance(read.is_finished, bool)
    assert [type(x) for x in (read.phase, read.fingerprint, read.step, read.total_steps)] == [
        str,
        str,
        int,
        int,
    ]
    assert all(
        isinstance(one, int | float) for entry in (read, *read.history) for one in entry.metrics.values()
    )
    assert all(dict(declared) == declared for declared in read.players.values())
    assert all(isinstance(one, str) for pair in read.frozen.items() for one in pair)


@given(JSON | st.text(), st.booleans())
def test_any_text_is_a_state_or_a_checkpoint_error(folder: Path, content: object, as_json: bool) -> None:
    with pytest.raises(CheckpointError, match="not a readable state"):
        read_as_state(folder, json.dumps(content) if as_json else str(content))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "not a readable state"),
        (
            json.dumps({**GOOD, "network": "DEEP"}).replace('"DEEP"', '{"a": ' * 600 + "1" + "}" * 600),
            "not a readable",
        ),
        (json.dumps({**GOOD, "step": "7"}), r"\(step: "),
        (json.dumps({**GOOD, "step": float("nan")}), r"\(step: "),
        (json.dumps({**GOOD, "step": -1}), r"\(step: got -1; expected 0 or more\)"),
        (json.dumps({**GOOD, "metrics": {"a": "b"}}), r"\(metrics\.a: "),
        (json.dumps({**GOOD, "history": [{"step": "x", "metrics": {}}]}), r"\(history\.0\.step: "),
        (json.dumps({**GOOD, "phase": "\ud800"}), "not a readable state"),
        ('{"step": ' + "9" * 9000 + "}", "not a readable state"),
    ],
)
def test_a_state_that_would_fail_later_is_refused_by_its_field(folder: Path, text: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        read_as_state(folder, text)


@pytest.mark.parametrize("name", ["..", "../../else", "/tmp/x", "", "a/b", ".hidden", "a\\n"])
def test_a_player_name_that_leads_out_of_the_checkpoint_is_an_error(tmp_path: Path, name: str) -> None:
    saved(tmp_path, network())
    write_state(tmp_path, replace(state(), players={name: {}}))
    with pytest.raises(DamagedCheckpointError, match="not valid as folder names"):
        read_state(tmp_path)


@given(JSON)
def test_players_of_any_form_are_declarations_by_name_or_refused(
    with_sums: tuple[Path, list[object]], players: object
) -> None:
    folder, _ = with_sums
    whole = (folder / STATE).read_text()
    fields = {**json.loads(whole), "players": players}
    del fields[OWN_SUM]
    (folder / STATE).write_text(json.dumps({**fields, OWN_SUM: sum_of_fields(fields)}))
    try:
        read = read_state(folder)
    except CheckpointError as error:
        assert str(error).startswith(f"{folder / STATE}: ")
    else:
        assert all(dict(declared) == declared for declared in read.players.values())
        assert read.players == players
    finally:
        (folder / STATE).write_text(whole)


def test_a_metric_that_is_not_a_number_is_kept(folder: Path) -> None:
    read = read_as_state(folder, json.dumps({**GOOD, "metrics": {"val/all/mask/iou": float("nan")}}))
    assert read.metrics["val/all/mask/iou"] != read.metrics["val/all/mask/iou"]


@given(data=st.data())
def test_a_changed_optimizer_file_continues_or_is_refused(
    folder: Path, optimizer_file: bytes, data: st.DataObject
) -> None:
    content = bytearray(optimizer_file)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        resume(folder, bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]))
    except CheckpointError as error:
        assert str(error).startswith(f"{folder / OPTIMIZER}: ")


OPCODES = st.sampled_from(
    [bytes([code]) for code in range(256)] + [b"\x80\x02", b"cos\nsystem\n", b"ctorch\nzeros\n"]
)


@given(st.lists(OPCODES | st.binary(max_size=3), max_size=20).map(b"".join), st.booleans())
def test_any_pickle_is_a_checkpoint_error(folder: Path, pickled: bytes, in_archive: bool) -> None:
    with pytest.raises(CheckpointError, match=r"optimizer\.pt: cannot be read"):
        resume(folder, archive(pickled) if in_archive else pickled)


@pytest.mark.parametrize("in_archive", [False, True])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_an_optimizer_file_is_not_executed(
    folder: Path, tmp_path: Path, protocol: int, in_archive: bool
) -> None:
    mark = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {mark}",)

    pickled = pickle.dumps({"state": {}, "param_groups": Attack()}, protocol=protocol)
    with pytest.raises(CheckpointError, match=r"optimizer\.pt: cannot be read"):
        resume(folder, archive(pickled) if in_archive else pickled)
    assert not mark.exists()
    pickle.loads(pickled)  # the attack itself works
    assert mark.exists()


def first(content: dict[str, Any]) -> dict[str, Any]:
    return content["state"][0]


def group(content: dict[str, Any]) -> dict[str, Any]:
    return content["param_groups"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("param_groups"), "param_groups"),
        (lambda c: c.update(state=3), "not the state of this optimizer"),
        (lambda c: c.update(param_groups=[None]), "not the state of this optimizer"),
        (lambda c: group(c).pop("lr"), "a group without lr"),
        (lambda c: group(c).update(lr="x"), "lr of a group has a value"),
        (lambda c: group(c).update(lr=float("nan")), "lr of a group has a value"),
        (lambda c: group(c).update(betas=3), "betas of a group has a value"),
        (lambda c: group(c).update(betas=(0.9, 1.5)), "betas of a group has a value"),
        (lambda c: group(c).update(maximize=True), "maximize of a group has a value"),
        (lambda c: group(c).update(params=[9, 8, 7, 6]), "of a group has a value"),
        (lambda c: group(c).update(amsgrad=True), "amsgrad of a group has a value"),
        (lambda c: group(c).update(capturable=True), "capturable of a group has a value"),
        (lambda c: first(c).pop("exp_avg_sq"), "parameter 0: got step, exp_avg"),
        (lambda c: first(c).clear(), "parameter 0: got no state"),
        (lambda c: first(c).update(exp_avg=torch.zeros(2, 2)), "exp_avg of parameter 0 does not fit"),
        (
            lambda c: first(c).update(exp_avg=torch.zeros(1).expand(4, 3, 3, 3)),
            "exp_avg of parameter 0 does not fit",
        ),
        (
            lambda c: first(c).update(exp_avg=torch.zeros(108).as_strided((4, 3, 3, 3), (27, 9, 3, 0))),
            "exp_avg of parameter 0 does not fit",
        ),
        (
            lambda c: first(c).update(exp_avg=torch.zeros(1).expand(2**40)),
            "exp_avg of parameter 0 does not fit",
        ),
        (lambda c: first(c).update(exp_avg=torch.zeros(4, 3, 3, 3).to_sparse()), "cannot be read"),
        (
            lambda c: first(c).update(exp_avg=torch.zeros(4, 3, 3, 3, device="meta")),
            "not the state of this optimizer",
        ),
        (lambda c: first(c).update(step=torch.tensor(float("nan"))), "step of parameter 0 does not fit"),
        (lambda c: first(c).update(step=torch.tensor(-1.0)), "step of parameter 0 does not fit"),
        (lambda c: first(c).update(exp_avg=torch.tensor(0.5)), "exp_avg of parameter 0 does not fit"),
        (lambda c: first(c).update(exp_avg=0.5), "exp_avg of parameter 0 does not fit"),
        (lambda c: c["state"].update({0: "x"}), "not the state of this optimizer"),
    ],
)
def test_an_optimizer_that_could_not_step_is_refused(
    folder: Path, optimizer_file: bytes, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    content = copy.deepcopy(torch.load(io.BytesIO(optimizer_file), weights_only=True))
    change(content)
    with pytest.raises(CheckpointError, match=words):
        resume(folder, packed(content))


@pytest.mark.parametrize("content", [None, [1], {}, 3, "x"])
def test_other_content_than_an_optimizer_state_is_an_error(folder: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match=r"optimizer\.pt: not the state of this optimizer"):
        resume(folder, packed(content))


def test_an_optimizer_file_that_declares_more_than_its_size_is_not_unpacked(
    folder: Path, optimizer_file: bytes
) -> None:
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as parts,
        zipfile.ZipFile(io.BytesIO(optimizer_file)) as own,
    ):
        for name in own.namelist():
            parts.writestr(name, own.read(name) if "/data/" not in name else bytes(10 << 20))
    with pytest.raises(CheckpointError, match="the declared parts are larger than the file"):
        resume(folder, bomb.getvalue())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 10**8) + b"{}",
        tensors({"a": {"dtype": "F32", "shape": [2**30, 4], "data_offsets": [0, 2**34]}}),
        tensors({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}}, bytes(16)),
        tensors({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        tensors({"a": {"dtype": "F6_E2M3", "shape": [16], "data_offsets": [0, 12]}}, bytes(12)),
        tensors(b"[" * 100_000),
        tensors(b"\xff"),
        tensors([]),
    ],
)
def test_weights_that_declare_more_than_their_size_are_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / WEIGHTS).write_bytes(content)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
        read_tensors(tmp_path / WEIGHTS)
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


@given(data=st.data())
def test_changed_weights_are_loaded_or_an_error(folder: Path, data: st.DataObject) -> None:
    whole = weights_file(folder).read_bytes()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / WEIGHTS).write_bytes(content)
    try:
        load_weights(folder, network())
    except CheckpointError as error:
        assert str(error).startswith(str(folder))
    finally:
        (folder / WEIGHTS).write_bytes(whole)


def test_integers_in_place_of_weights_are_an_error(folder: Path) -> None:
    whole = weights_file(folder).read_bytes()
    (folder / WEIGHTS).write_bytes(whole.replace(b'"dtype":"F32"', b'"dtype":"I32"', 1))
    try:
        with pytest.raises(CheckpointError, match=r"of torch\.int32, the network's of torch\.float32"):
            load_weights(folder, network())
    finally:
        (folder / WEIGHTS).write_bytes(whole)
