from __future__ import annotations

import json
from pathlib import Path

import pytest

from pbrlib.data.shards.manifest import IndexInfo, Manifest, load_manifest
from pbrlib.errors import DataError
from tests.data.shards.materials import make_set, material

MANIFEST = Manifest(
    version=1,
    sources={"test": 1},
    splits={"train": 1, "val": 0},
    maps={"normal": 1},
    class_pixels={"wood": 4},
    sizes={"2x2": 1},
    shards=(),
    index=IndexInfo(file="index-0001.parquet", sha256="0"),
)


def write(root: Path, **changes: object) -> None:
    content = {**json.loads(MANIFEST.model_dump_json()), **changes}
    (root / "manifest.json").write_text(json.dumps(content))


def test_a_written_manifest_is_read_back(tmp_path: Path) -> None:
    write(tmp_path)
    loaded = load_manifest(tmp_path)
    assert loaded == MANIFEST
    assert loaded.fingerprint == MANIFEST.fingerprint


def test_an_empty_folder_is_an_error_with_the_command_to_prepare(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_manifest(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no manifest.json, so this is no finished shard set; it is empty. "
        f"Run `pbr prepare ... --out {tmp_path}`."
    )


def test_an_older_set_without_classes_keeps_its_fingerprint(tmp_path: Path) -> None:
    """Checks the fingerprint, which runs on such a set have recorded, and the checksum of the file."""
    assert MANIFEST.classes is None
    assert MANIFEST.fingerprint == "ce60c56920068fe13fcbc459243bfa4fd78a372b20d1d5387951908bf10a54e2"
    counted = MANIFEST.model_copy(update={"classes": {"wood": {"train": 1, "val": 0}}})
    assert counted.fingerprint != MANIFEST.fingerprint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "of a folder of materials; expected a shard set. Prepare it into another folder"),
        ("{}", "format version None"),
        ('{"format_version": 2}', "got format version 2; expected 3. Prepare the set again"),
        ('{"format_version": 4}', "got format version 4; expected 3"),
        ('{"format_version": 3}', "version: Field required"),
        ("\xff", "not JSON"),
    ],
)
def test_an_invalid_manifest_is_a_data_error(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=said) as caught:
        load_manifest(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/manifest.json: ")


def test_an_unknown_key_is_an_error_with_its_name(tmp_path: Path) -> None:
    write(tmp_path, colour="blue")
    with pytest.raises(DataError, match="colour: Extra inputs"):
        load_manifest(tmp_path)


def test_the_fingerprint_changes_with_every_value() -> None:
    changed = MANIFEST.model_copy(update={"splits": {"train": 0, "val": 1}})
    assert changed.fingerprint != MANIFEST.fingerprint
    assert MANIFEST.model_copy(deep=True).fingerprint == MANIFEST.fingerprint


def test_every_flipped_bit_of_a_manifest_is_detected(tmp_path: Path) -> None:
    make_set(tmp_path, [material(1, size=(8, 8))])
    path = tmp_path / "manifest.json"
    whole, wanted = path.read_bytes(), load_manifest(tmp_path)
    for position in range(len(whole)):
        for mask in (0x01, 0x10):
            damaged = bytearray(whole)
            damaged[position] ^= mask
            path.write_bytes(damaged)
            try:
                found = load_manifest(tmp_path)
            except DataError as error:
                assert str(error).startswith(str(path))
            else:
                assert found == wanted, f"byte {position}"
