"""Bakes modern materials to an old game's texture tree, and writes the modern maps beside it as ground truth.

A conversion of such a tree can be scored against the ground truth. The output folder has
``textures/<class>/<id>.dds`` and ``<id>_n.dds``, ``index.json``, and ``materials/<id>/*.png`` with their
``manifest.json``. The output folder is a valid input of a conversion, which reads ``textures/`` only.

Each material is a job (`pbrlib.jobs`): unchanged files of an earlier run are kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, assert_never

import numpy as np
import torch
from torch import Tensor

from pbrlib.convert.mips import albedo_chain, encode_levels, mean_normals, mip_chain, normalise
from pbrlib.convert.patcher import is_unconverted_folder
from pbrlib.convert.truepbr import write_files_together
from pbrlib.data.materials.contact import as_picture
from pbrlib.data.materials.ids import invalid_ids, valid_entries
from pbrlib.data.materials.material import Entry, Material, Source
from pbrlib.data.shards.split import assign_splits
from pbrlib.errors import DataError
from pbrlib.geometry import flip_green
from pbrlib.jobs.inorder import run_in_order
from pbrlib.jobs.job import Failure, Job, JobOutput, Success, describe_failures, fingerprint
from pbrlib.maps import ALBEDO, DIFFUSE, MAPS, NORMAL, Encoding, Stored
from pbrlib.rendering.bake import Baked, bake, draw_params
from pbrlib.rendering.bakespec import BAKE_INPUTS, BakeSpec
from pbrlib.seeds import mix
from pbrlib.skyrim import DIFFUSE_SUFFIXES, NORMAL_SUFFIXES, OTHER_SUFFIXES
from pbrlib.textures.blocks import encode_dds
from pbrlib.textures.layouts import Block

INDEX = "index.json"
MATERIALS = "materials"
TEXTURES = "textures"
MIXED = "mixed"
"""Name of the folder of textures with several or unknown classes."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_ +()-]")
"""Characters that are replaced: signs, and dots and non-ASCII letters, which the patcher rejects."""

_BLOCK = 4
_TRUTH_MAPS = tuple(name for name, kind in MAPS.items() if kind.file is not None and kind is not DIFFUSE)
"""Maps that are written as ground truth: all maps of a material folder except the diffuse."""


@dataclass(frozen=True)
class BakedTree:
    """Result of a bake: ids in the tree, number of ids kept from an earlier run, and failures."""

    baked: tuple[str, ...]
    num_kept: int
    left_out: tuple[Failure, ...]


def bake_tree(
    source: Source,
    *,
    output: Path,
    hold_out: Sequence[str] = (),
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> BakedTree:
    """Bake the materials of a source to an old texture tree; files of the same names are replaced.

    A material is not baked again if its files of an earlier run still exist.

    Args:
        source: A source of modern materials.
        output: The folder of the tree.
        hold_out: Patterns as in ``pbr prepare --hold-out``; only matching families are baked.
        watch: Called with the number of finished materials and the number of all materials.

    Raises:
        DataError: The source cannot be listed, a pattern matches nothing, no material can be baked, or the
            index or manifest cannot be written.
    """
    entries = _select_entries(valid_entries(source), hold_out)
    stems = file_stems([entry.id for entry in entries])
    jobs = (_bake_job(source, entry, stem=stems[entry.id], output=output) for entry in entries)
    done, failures = (
        [],
        [Failure(finding.material, "refused", finding.message) for finding in invalid_ids(source)],
    )
    num_refused = len(failures)
    for outcome in run_in_order(jobs, root=output):
        match outcome:
            case Success():
                done.append(outcome)
            case Failure():
                failures.append(outcome)
            case _:
                assert_never(outcome)
        watch(len(done) + len(failures) - num_refused, len(entries))
    if not done:
        reasons = describe_failures(failures) or "It has none."
        raise DataError(f"{source.name}: no material can be baked. {reasons}")
    lists = {
        PurePosixPath(INDEX): [outcome.result["texture"] for outcome in done],
        PurePosixPath(MATERIALS, "manifest.json"): [outcome.result["truth"] for outcome in done],
    }
    write_files_together(output, {path: _json(content) for path, content in lists.items()})
    num_kept = sum(outcome.reused for outcome in done)
    return BakedTree(tuple(outcome.name for outcome in done), num_kept, tuple(failures))


def file_stems(ids: Sequence[str]) -> dict[str, str]:
    """Return the file stem of every id; stems are unique ignoring case, as in the game.

    Ids that would share a stem get a hash of the id, so that stems do not depend on the order of ids.
    """
    stems = {name: file_stem(name) for name in ids}
    count = Counter(stem.lower() for stem in stems.values())
    return {
        name: stem if count[stem.lower()] == 1 else f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        for name, stem in stems.items()
    }


def file_stem(name: str) -> str:
    """Return a file stem for an id that the patcher accepts and that has no suffix of another kind of map."""
    *folders, last = (_UNSAFE.sub("-", part) for part in name.split("/"))
    head, underscore, ending = last.rpartition("_")
    taken = {*DIFFUSE_SUFFIXES, *NORMAL_SUFFIXES, *OTHER_SUFFIXES, "_lod"}
    last = f"{head}-{ending}" if underscore and f"_{ending.lower()}" in taken else last
    return "/".join(
        [*(f"{folder}-" if is_unconverted_folder(folder) else folder for folder in folders), last]
    )


def _bake_job(source: Source, entry: Entry, *, stem: str, output: Path) -> Job:
    key = fingerprint("bake", asdict(entry), source.stamp(entry), stem)
    return Job(entry.id, key, partial(_bake_material, source, entry, stem=stem, output=output))


def _bake_material(source: Source, entry: Entry, *, stem: str, output: Path) -> JobOutput:
    """Write the textures and maps of a material; the result has its entries for the index and manifest."""
    material = _crop_to_blocks(source.load(entry))
    textures, texture = _texture_files(material, stem=stem)
    truths, truth = _truth_files(material)
    write_files_together(output, textures | truths)
    files = tuple(path.as_posix() for path in (*textures, *truths))
    return JobOutput(files, {"texture": texture, "truth": truth})


def _select_entries(entries: Sequence[Entry], hold_out: Sequence[str]) -> list[Entry]:
    if not hold_out:
        return list(entries)
    splits = assign_splits(entries, val_share=0.0, hold_out=hold_out)
    return [entry for entry in entries if splits[entry.family] == "val"]


def _crop_to_blocks(material: Material) -> Material:
    """Return a material with sides cropped to multiples of a block of the compressions."""
    if ALBEDO.name not in material.maps:
        raise DataError(
            f"{material.id}: got no albedo; expected one to bake a diffuse from. Leave the material out."
        )
    height, width = (side // _BLOCK * _BLOCK for side in material.size)
    if min(height, width) == 0:
        raise DataError(
            f"{material.id}: got {material.size} px; expected at least {_BLOCK} px a side. Leave it out."
        )
    maps = {name: np.ascontiguousarray(stored[:height, :width]) for name, stored in material.maps.items()}
    return Material(
        id=material.id,
        family=material.family,
        source=material.source,
        label=material.label,
        tileable=material.tileable and (height, width) == material.size,
        licence=material.licence,
        attribution=material.attribution,
        maps=maps,
    )


def _texture_files(material: Material, *, stem: str) -> tuple[dict[PurePosixPath, bytes], dict[str, Any]]:
    """Return the files of a material's old textures, and its entry in the index."""
    maps = {name: _decode_map(material, name) for name in BAKE_INPUTS}
    seeds = torch.tensor([mix("old tree", material.id)])
    baked = bake(maps, params=draw_params(seeds, spec=BakeSpec()))
    path = PurePosixPath(TEXTURES, material.label or MIXED, stem)
    diffuse, normal = path.with_name(f"{path.name}.dds"), path.with_name(f"{path.name}_n.dds")
    files = {diffuse: _diffuse_dds(baked.diffuse), normal: _normal_dds(maps[NORMAL.name], baked)}
    height, width = material.size
    return files, {
        "id": material.id,
        "diffuse": str(diffuse),
        "normal": str(normal),
        "size": max(height, width),
        "diffuse_format": "BC1 DX10 sRGB",
        "normal_format": "BC7 DX10",
        "alpha": False,
    }


def _decode_map(material: Material, name: str) -> Tensor:
    """Return a decoded map (1, C, H, W), with its fill value if the material lacks it, as in training."""
    kind = MAPS[name]
    stored = material.maps.get(name)
    if stored is None:
        stored = np.full((*material.size, kind.channels), kind.fill, kind.dtype)
    return kind.decode(torch.from_numpy(stored.transpose(2, 0, 1).copy())[None])


def _pixels(x: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    pixels: np.ndarray[Any, np.dtype[np.float32]] = x[0].permute(1, 2, 0).numpy()
    return pixels


def _diffuse_dds(diffuse: Tensor) -> bytes:
    colours = ALBEDO.quantise(_pixels(diffuse))
    opaque = np.concatenate((colours, np.full_like(colours[..., :1], 255)), axis=-1)
    return encode_dds(albedo_chain(opaque), block=Block.BC1, srgb=True)


def _normal_dds(normal: Tensor, baked: Baked) -> bytes:
    """Return a DDS of DirectX normals with gloss in alpha; normals are averaged as directions in the mips.

    BC7 is used, since the maximum error of normals is 18 of 255 per channel with the BC3 encoder, and half of
    that with BC7.
    """
    directions = mean_normals(_pixels(flip_green(normal)))
    gloss = mip_chain(_pixels(baked.gloss))
    levels = [
        np.concatenate((normalise(mean) * 0.5 + 0.5, alpha), axis=-1)
        for mean, alpha in zip(directions, gloss, strict=True)
    ]
    return encode_dds(encode_levels(levels), block=Block.BC7, srgb=False)


def _truth_files(material: Material) -> tuple[dict[PurePosixPath, bytes], dict[str, Any]]:
    """Return the files of a material's ground truth maps, and its entry in the manifest."""
    folder = PurePosixPath(MATERIALS, material.id)
    maps = {name: material.maps[name] for name in _TRUTH_MAPS if name in material.maps}
    height, width = material.size
    return {folder / _file_name(name): _png(stored, name) for name, stored in maps.items()}, {
        "id": material.id,
        **({} if material.label is None else {"class": material.label}),
        "family": material.family,
        "licence": material.licence,
        "attribution": material.attribution,
        "normal_convention": "opengl",
        "tileable": material.tileable,
        "maps": {
            name: {"file": f"{material.id}/{_file_name(name)}", "width": width, "height": height}
            for name in maps
        },
    }


def _file_name(name: str) -> str:
    return f"{MAPS[name].file}.png"


def _png(stored: Stored, name: str) -> bytes:
    from PIL import Image

    if MAPS[name].encoding is Encoding.LABEL:
        stored = as_picture(stored, MAPS[name])
    pixels = stored[..., 0] if stored.shape[-1] == 1 else stored
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
