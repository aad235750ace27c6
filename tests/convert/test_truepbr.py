import json
import resource
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from pbrlib.convert.truepbr import PbrMaps, patch_entry, write_texture
from pbrlib.errors import DataError
from pbrlib.maps import MAPS, TRUE_PBR
from pbrlib.textures.dds import read_header
from pbrlib.textures.decode import read_picture
from pbrlib.textures.layouts import Block
from tests.convert.textures import normal, picture

NAME = PurePosixPath("stone/wall")


def maps(size: int = 16, *, alpha: int = 255) -> PbrMaps:
    def flat(value: int) -> np.ndarray:
        return np.full((size, size, 1), value, np.uint8)

    return PbrMaps(
        albedo=picture(size, size, alpha=alpha),
        normal=np.ascontiguousarray(normal(size, size)[..., :3]),
        roughness=flat(128),
        metallic=flat(255),
        ao=flat(200),
        height=flat(60),
    )


def dxgi(path: Path) -> int:
    code: int = struct.unpack_from("<I", path.read_bytes(), 128)[0]
    return code


def test_the_four_files_have_their_formats_and_complete_mips(tmp_path: Path) -> None:
    files = write_texture(tmp_path, NAME, NAME, maps())
    folder = tmp_path / "textures/PBR/stone"
    assert {path.name: dxgi(path) for path in folder.iterdir()} == {
        "wall.dds": 72,
        "wall_n.dds": 98,
        "wall_rmaos.dds": 98,
        "wall_p.dds": 80,
    }
    assert sorted(files) == sorted(path.relative_to(tmp_path).as_posix() for path in folder.iterdir())
    assert {read_header(path).num_mips for path in folder.iterdir()} == {5}


def test_a_transparent_diffuse_gives_a_bc7_albedo_with_its_alpha(tmp_path: Path) -> None:
    write_texture(tmp_path, NAME, NAME, maps(alpha=100))
    path = tmp_path / "textures/PBR/stone/wall.dds"
    assert dxgi(path) == 99
    assert np.abs(read_picture(path)[..., 3].astype(int) - 100).max() <= 4


def test_rmaos_has_roughness_metallic_ao_and_full_specular(tmp_path: Path) -> None:
    write_texture(tmp_path, NAME, NAME, maps())
    pixels = read_picture(tmp_path / "textures/PBR/stone/wall_rmaos.dds").astype(int)
    assert np.abs(pixels - (128, 255, 200, 255)).max() <= 2


def test_every_map_is_written_where_its_entry_says(tmp_path: Path) -> None:
    assert {field.name for field in fields(PbrMaps)} == {*TRUE_PBR, "normal", "specular", "glow"}
    written = maps()
    write_texture(tmp_path, NAME, NAME, written)
    for name, slot in TRUE_PBR.items():
        pixels = read_picture(tmp_path / f"textures/PBR/stone/wall{slot.ending}.dds").astype(int)
        last = slot.channel + MAPS[name].channels
        wanted = getattr(written, name).astype(int)[..., : MAPS[name].channels]
        assert np.abs(pixels[..., slot.channel : last].mean() - wanted.mean()) <= 2, name


def test_the_normal_is_unchanged_and_the_height_has_one_channel(tmp_path: Path) -> None:
    write_texture(tmp_path, NAME, NAME, maps())
    folder = tmp_path / "textures/PBR/stone"
    assert np.abs(read_picture(folder / "wall_n.dds")[..., :3].astype(int) - normal()[..., :3]).max() <= 3
    assert read_header(folder / "wall_p.dds").pixels is Block.BC4
    assert np.abs(read_picture(folder / "wall_p.dds").astype(int) - 60).max() <= 1


def test_small_mips_are_rougher_where_normals_disagree(tmp_path: Path) -> None:
    write_texture(tmp_path, NAME, NAME, maps())
    data = (tmp_path / "textures/PBR/stone/wall_rmaos.dds").read_bytes()
    last = tmp_path / "last.dds"
    header = bytearray(data[:148])
    struct.pack_into("<II", header, 12, 1, 1)
    struct.pack_into("<I", header, 28, 1)
    last.write_bytes(bytes(header) + data[-16:])
    assert read_picture(last)[0, 0, 0] > 150


def test_a_texture_without_suffix_is_matched_by_its_complete_path(tmp_path: Path) -> None:
    write_texture(tmp_path, NAME, NAME, maps())
    (entry,) = json.loads((tmp_path / "PBRNifPatcher/stone/wall.json").read_text())
    assert entry["texture"] == "stone\\wall"
    assert entry["pbr"] is True
    assert entry["parallax"] is True
    assert entry["emissive"] is False
    assert entry["specular_level"] == 0.04


def test_a_suffixed_diffuse_is_matched_by_its_name_and_renamed() -> None:
    entry = patch_entry(NAME, PurePosixPath("stone/wall_d"))
    assert entry["match_diffuse"] == "stone\\wall_d"
    assert entry["rename"] == "stone\\wall"
    assert "texture" not in entry


def test_the_patch_has_the_keys_and_types_that_pgpatcher_reads() -> None:
    kinds = {key: type(value) for key, value in patch_entry(NAME, NAME).items()}
    assert kinds == {
        "texture": str,
        **dict.fromkeys(("pbr", "emissive", "parallax", "subsurface_foliage", "subsurface"), bool),
        **dict.fromkeys(
            ("specular_level", "roughness_scale", "displacement_scale", "subsurface_opacity"), float
        ),
        "subsurface_color": list,
    }


@contextmanager
def describe_lack_of_memory() -> Iterator[None]:
    """Limit files to 256 bytes during the call only, since pytest's own report may be a file."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def test_no_file_remains_after_the_disk_is_full(tmp_path: Path) -> None:
    refused = pytest.raises(DataError, match=r"wall.*\.dds: cannot be written \(File too large\)")
    with refused, describe_lack_of_memory():
        write_texture(tmp_path, NAME, NAME, maps(64))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_output_that_cannot_be_made_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "textures").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        write_texture(tmp_path, NAME, NAME, maps())
