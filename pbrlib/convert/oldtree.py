"""Modern materials to an old game's texture tree, with the modern maps beside it as the truth.

What a conversion of such a tree answers can be scored. In the folder that is written lie
``textures/<class>/<id>.dds`` and ``<id>_n.dds``, ``index.json``, and ``materials/<id>/*.png`` with their
``manifest.json``. A conversion takes the whole folder as its input: beside ``textures/`` it looks at nothing.

Each material is a job (`pbrlib.jobs`): what stands from an earlier run and has not changed is kept.
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

from pbrlib.convert.mips import albedo_chain, chain, encoded, mean_normals, unit
from pbrlib.convert.patcher import is_set_aside
from pbrlib.convert.truepbr import write_together
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
SEVERAL = "mixed"
"""The folder of textures of several or unknown classes."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_ +()-]")
"""Characters that are replaced: dots and letters outside of ASCII, which the patcher does not take, signs."""

_BLOCK = 4
_TRUTHS = tuple(name for name, kind in MAPS.items() if kind.file is not None and kind is not DIFFUSE)
"""The maps of a folder of materials, without the old texture that is made of them."""


@dataclass(frozen=True)
class BakedTree:
    """The ids of the materials in the tree, how many of them stood before, and what could not be baked."""

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
    """Writes the old tree of a source's materials; files of the same names are replaced.

    A material that an earlier run has baked to files that still stand is not baked again.

    Args:
        source: Of modern materials.
        output: The folder of the tree.
        hold_out: Patterns as ``pbr prepare --hold-out`` takes them; only what they hold out is baked.
        watch: Called with the numbers of finished and of all materials.

    Raises:
        DataError: The source cannot be listed, a pattern matches nothing, no material can be baked, or the
            lists of what was baked cannot be written.
    """
    entries = _chosen(valid_entries(source), hold_out)
    stems = file_stems([entry.id for entry in entries])
    jobs = (_bake_job(source, entry, stem=stems[entry.id], output=output) for entry in entries)
    done, failures = [], [Failure(one.material, "refused", one.message) for one in invalid_ids(source)]
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
    write_together(output, {path: _json(content) for path, content in lists.items()})
    num_kept = sum(outcome.reused for outcome in done)
    return BakedTree(tuple(outcome.name for outcome in done), num_kept, tuple(failures))


def file_stems(ids: Sequence[str]) -> dict[str, str]:
    """The file name of every id, without an ending; no two are one name to the game, which ignores case.

    Ids that would share a name bear a mark of the id, so that a name does not depend on the order of ids.
    """
    stems = {name: file_stem(name) for name in ids}
    count = Counter(stem.lower() for stem in stems.values())
    return {
        name: stem if count[stem.lower()] == 1 else f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        for name, stem in stems.items()
    }


def file_stem(name: str) -> str:
    """A file name for an id: one that the patcher takes, and no converter for another kind of map."""
    *folders, last = (_UNSAFE.sub("-", part) for part in name.split("/"))
    head, underscore, ending = last.rpartition("_")
    taken = {*DIFFUSE_SUFFIXES, *NORMAL_SUFFIXES, *OTHER_SUFFIXES, "_lod"}
    last = f"{head}-{ending}" if underscore and f"_{ending.lower()}" in taken else last
    return "/".join([*(f"{folder}-" if is_set_aside(folder) else folder for folder in folders), last])


def _bake_job(source: Source, entry: Entry, *, stem: str, output: Path) -> Job:
    key = fingerprint("bake", asdict(entry), source.stamp(entry), stem)
    return Job(entry.id, key, partial(_bake_material, source, entry, stem=stem, output=output))


def _bake_material(source: Source, entry: Entry, *, stem: str, output: Path) -> JobOutput:
    """Writes the textures and the maps of a material; the result is its entries in the lists of the tree."""
    material = _trimmed(source.load(entry))
    textures, texture = _textures(material, stem=stem)
    truths, truth = _truth(material)
    write_together(output, textures | truths)
    files = tuple(path.as_posix() for path in (*textures, *truths))
    return JobOutput(files, {"texture": texture, "truth": truth})


def _chosen(entries: Sequence[Entry], hold_out: Sequence[str]) -> list[Entry]:
    if not hold_out:
        return list(entries)
    splits = assign_splits(entries, val_share=0.0, hold_out=hold_out)
    return [entry for entry in entries if splits[entry.family] == "val"]


def _trimmed(material: Material) -> Material:
    """Cuts the sides to multiples of a block of the compressions."""
    if ALBEDO.name not in material.maps:
        raise DataError(f"{material.id}: no albedo to bake an old texture of. Leave it out.")
    height, width = (side // _BLOCK * _BLOCK for side in material.size)
    if min(height, width) == 0:
        raise DataError(f"{material.id}: {material.size} px. Textures have {_BLOCK} px or more.")
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


def _textures(material: Material, *, stem: str) -> tuple[dict[PurePosixPath, bytes], dict[str, Any]]:
    """The files of the old textures of a material, and its entry in the index."""
    maps = {name: _decoded(material, name) for name in BAKE_INPUTS}
    seeds = torch.tensor([mix("old tree", material.id)])
    baked = bake(maps, params=draw_params(seeds, spec=BakeSpec()))
    path = PurePosixPath(TEXTURES, material.label or SEVERAL, stem)
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


def _decoded(material: Material, name: str) -> Tensor:
    """A decoded map (1, C, H, W); its fill value where the material lacks it, as in training."""
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
    """DirectX normals with gloss in alpha; both are averaged in the mips, normals as directions.

    BC7: on normals the BC3 encoder at hand errs by up to 18 of 255 a channel, BC7 by half of that.
    """
    directions = mean_normals(_pixels(flip_green(normal)))
    gloss = chain(_pixels(baked.gloss))
    levels = [
        np.concatenate((unit(mean) * 0.5 + 0.5, alpha), axis=-1)
        for mean, alpha in zip(directions, gloss, strict=True)
    ]
    return encode_dds(encoded(levels), block=Block.BC7, srgb=False)


def _truth(material: Material) -> tuple[dict[PurePosixPath, bytes], dict[str, Any]]:
    """The files of the maps of a material, and its entry in their manifest."""
    folder = PurePosixPath(MATERIALS, material.id)
    maps = {name: material.maps[name] for name in _TRUTHS if name in material.maps}
    height, width = material.size
    return {folder / _file(name): _png(stored, name) for name, stored in maps.items()}, {
        "id": material.id,
        **({} if material.label is None else {"class": material.label}),
        "family": material.family,
        "licence": material.licence,
        "attribution": material.attribution,
        "normal_convention": "opengl",
        "tileable": material.tileable,
        "maps": {
            name: {"file": f"{material.id}/{_file(name)}", "width": width, "height": height} for name in maps
        },
    }


def _file(name: str) -> str:
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
