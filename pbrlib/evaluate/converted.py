"""Scores a converted texture tree against the materials from which its old textures were made.

The caller passes the texture decoder, since this package does not read texture files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from pbrlib.data.materials.ids import id_problem, valid_entries
from pbrlib.data.materials.material import Material, Source
from pbrlib.errors import DataError
from pbrlib.evaluate.baselines import ColourFit, untrained_baselines
from pbrlib.evaluate.evaluationreport import Evaluation
from pbrlib.evaluate.picture import Row, sheet_rows, sheets
from pbrlib.evaluate.samples import Texture
from pbrlib.evaluate.scores import NET, Scores
from pbrlib.geometry import flip_green
from pbrlib.inference.chain import TextureInput
from pbrlib.maps import ALBEDO, IGNORE, MAPS, MASK, NORMAL, TRUE_PBR
from pbrlib.skyrim import DIFFUSE_SUFFIXES
from pbrlib.textures.blocks import is_opaque

Pixels: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
Read: TypeAlias = Callable[[Path], Pixels]

MAX_SHOWN = 12
_TEXTURES = "textures"
_PBR = PurePosixPath("textures/PBR")

_PROTOCOL = (
    "maps as they are stored in the converted files against the material's maps, area-averaged to the size "
    "of the texture; fitted height: after least-squares scale (at least 0) and shift per texture"
)


def _inside(place: str) -> str:
    if problem := id_problem(place):
        raise ValueError(f"got a path {problem}")
    return place


_Inside: TypeAlias = Annotated[str, AfterValidator(_inside)]
"""A path relative to the folder of the index."""


class Indexed(BaseModel):
    """A texture pair of the old tree: the id of its material and its files, relative to the index."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    id: str
    diffuse: _Inside
    normal: _Inside


_INDEX = TypeAdapter(list[Indexed])


@dataclass(frozen=True)
class _Pair:
    """An old texture with its ground truth and the converted maps."""

    texture: Texture
    predicted: Mapping[str, Tensor]


def read_index(path: Path) -> list[Indexed]:
    """Read an ``index.json``; raises DataError if it is not a list of ids, diffuses and normals."""
    try:
        return _INDEX.validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Give the index.json of the tree."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{path}: {place}: {first['msg']}; expected a list of objects with id, diffuse and normal. "
            "Correct the file."
        ) from error


def choose(indexed: Sequence[Indexed], patterns: Sequence[str]) -> list[Indexed]:
    """Select the entries whose id matches a pattern; raises DataError for a pattern without a match."""
    for pattern in patterns:
        if not any(fnmatchcase(item.id, pattern) for item in indexed):
            near = get_close_matches(pattern, [item.id for item in indexed], n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}?" if near else "Use ids of the index, with * for any characters."
            raise DataError(f"--only: got {pattern}; expected a pattern that matches a texture. {hint}")
    return [
        item for item in indexed if not patterns or any(fnmatchcase(item.id, pattern) for pattern in patterns)
    ]


def score_converted(
    converted: Path,
    *,
    index: Path,
    materials: Callable[[int], Source],
    read: Read,
    only: Sequence[str] = (),
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score a True PBR tree, with the old textures as baselines.

    The diffuse's gain is fitted on the textures that ``only`` excludes. If it excludes none, the gain is
    fitted on the scored textures, which favours that baseline.

    Args:
        converted: The output of a conversion.
        index: The ``index.json`` beside the old tree.
        materials: Returns the source of the ground truth, downscaled to a given longer side in pixels.
        read: Decodes a texture file to ``(H, W, C)`` uint8.
        only: Patterns of ids.
        watch: Called with the number of finished and the number of all textures.

    Raises:
        DataError: An index, texture or material cannot be read, or no texture was converted.
    """
    indexed = read_index(index)
    chosen = choose(indexed, only)
    names = {item.id for item in chosen}
    others = [item for item in indexed if item.id not in names]
    fit = ColourFit()
    for item in others or chosen:
        fit.add(_texture(item, index.parent, materials, read))
    scores, rows, missing = Scores(), list[list[Row]](), list[str]()
    for number, item in enumerate(chosen):
        pair = _pair(converted, item, index.parent, materials, read)
        if pair is None:
            missing.append(item.id)
        else:
            _score(scores, pair, gain=fit.gain)
            if len(rows) < MAX_SHOWN:
                rows.append(sheet_rows(pair.texture, pair.predicted))
        watch(number + 1, len(chosen))
    if len(missing) == len(chosen):
        raise DataError(
            f"{converted}: got none of the {len(chosen)} textures; expected some. Convert the tree first."
        )
    fitted_on = "the textures not scored" if others else "the scored textures themselves"
    notes = [f"Gain fitted on {fitted_on} ({fit.num_textures})."]
    if missing:
        notes.append(f"Not converted, so not scored: {', '.join(missing)}.")
    return Evaluation(
        title=f"{len(chosen) - len(missing)} converted textures of {converted}",
        scores=scores,
        about={
            "converted": str(converted),
            "index": str(index),
            "textures": [item.id for item in chosen],
            "not_converted": missing,
            "albedo_gain": {"value": fit.gain.tolist(), "fitted_on": fitted_on, "textures": fit.num_textures},
            "protocol": _PROTOCOL,
        },
        notes=notes,
        sheets=sheets(rows),
    )


def _score(scores: Scores, pair: _Pair, *, gain: Tensor) -> None:
    baselines = untrained_baselines(pair.texture, gain=gain)
    for name, predicted in pair.predicted.items():
        truth = pair.texture.truth.get(name)
        if truth is None:
            scores.leave_out([name], sample=pair.texture.id)
        else:
            methods = {NET: predicted, **baselines[name]}
            scores.add_map(name, methods, sample=pair.texture.id, truth=truth, valid=pair.texture.valid)


def _pair(
    converted: Path, item: Indexed, root: Path, materials: Callable[[int], Source], read: Read
) -> _Pair | None:
    """Read a texture pair at the size of its conversion; None if it was not converted."""
    files = _converted_files(converted, item)
    if files is None:
        return None
    planes = {ending: _planes(read(path)) for ending, path in files.items()}
    predicted = {
        name: planes[slot.ending][slot.channel : slot.channel + MAPS[name].channels]
        for name, slot in TRUE_PBR.items()
    }
    texture = _texture(item, root, materials, read)
    size = predicted[ALBEDO.name].shape[-2:]
    return _Pair(texture if texture.mask.shape == size else _resized_texture(texture, size), predicted)


def _converted_files(converted: Path, item: Indexed) -> dict[str, Path] | None:
    """Return the converted files of a texture by their ending; None if it was not converted.

    A diffuse ``stone_d`` whose normal is ``stone_n`` becomes ``stone``.
    """
    diffuse = PurePosixPath(item.diffuse).with_suffix("")
    if diffuse.parts[0].lower() == _TEXTURES:
        diffuse = diffuse.relative_to(diffuse.parts[0])
    for ending in DIFFUSE_SUFFIXES:
        name = str(diffuse).removesuffix(ending)
        endings = {slot.ending for slot in TRUE_PBR.values()}
        files = {ending: converted / _PBR / f"{name}{ending}.dds" for ending in sorted(endings)}
        if all(path.is_file() for path in files.values()):
            return files
    return None


def _texture(item: Indexed, root: Path, materials: Callable[[int], Source], read: Read) -> Texture:
    diffuse = _planes(read(root / item.diffuse))[:3]
    old_normal = torch.from_numpy(read(root / item.normal).transpose(2, 0, 1).copy())[None]
    size = diffuse.shape[-2:]
    gloss = None
    if old_normal.shape[1] == 4 and not is_opaque(old_normal[:, 3:].numpy()):
        gloss = _area(old_normal[0, 3:].float() / 255.0, size)
    vectors = flip_green(NORMAL.decode(old_normal[:, : NORMAL.channels]))[0]
    material = _material(materials(max(size)), item.id)
    given = TextureInput(
        diffuse=diffuse,
        normal=F.normalize(_area(vectors, size), dim=0),
        gloss=gloss,
        tileable=material.tileable,
    )
    truth = {name: _area(_decoded(material, name), size) for name in TRUE_PBR if name in material.maps}
    mask = torch.from_numpy(material.maps[MASK.name][..., 0].astype(np.int64))
    if mask.shape != size:
        mask = torch.full(size, IGNORE)
    valid = torch.ones((1, *size), dtype=torch.bool)
    return Texture(item.id, material.label, given, truth, mask, valid)


def _material(source: Source, name: str) -> Material:
    entry = next((entry for entry in valid_entries(source) if entry.id == name), None)
    if entry is None:
        raise DataError(
            f"{source.name}: got no material {name}; expected the materials of the index. Check --materials."
        )
    return source.load(entry)


def _decoded(material: Material, name: str) -> Tensor:
    raw = torch.from_numpy(material.maps[name].transpose(2, 0, 1).copy())[None]
    return MAPS[name].decode(raw)[0]


def _planes(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255.0


def _area(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize to a height and width: average to a smaller size, repeat pixels for a larger one."""
    if x.shape[-2:] == torch.Size(size):
        return x
    return F.interpolate(x[None], size=tuple(size), mode="area")[0]


def _resized_texture(texture: Texture, size: torch.Size) -> Texture:
    given = texture.given
    return replace(
        texture,
        given=TextureInput(
            diffuse=_area(given.diffuse, size),
            normal=F.normalize(_area(given.normal, size), dim=0),
            gloss=None if given.gloss is None else _area(given.gloss, size),
            tileable=given.tileable,
        ),
        truth={name: _area(x, size) for name, x in texture.truth.items()},
        mask=torch.full(tuple(size), IGNORE),
        valid=torch.ones((1, *size), dtype=torch.bool),
    )
