"""Converts raw batches to the input of networks: orient, decode, bake missing maps, change light and colour.

Every random choice of a sample depends on its own seed only, and no operation mixes samples. A result
therefore does not depend on the batch or the position in it: a draw gives the same bits with one worker or
eight, before and after a crash.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pbrlib.data.augment.assembly import assemble_mosaics
from pbrlib.data.augment.augmentspec import AugmentSpec, CategorySpec, ColourJitterSpec, SkyPhotometricSpec
from pbrlib.data.augment.category import apply_changes, draw_changes
from pbrlib.data.augment.jitter import jitter_colours
from pbrlib.data.augment.photometric import photometric
from pbrlib.data.draws.batch import Batch, RawBatch
from pbrlib.errors import DataError
from pbrlib.geometry import Orientation
from pbrlib.maps import ALBEDO, AO, DIFFUSE, GLOSS, MAPS, Encoding
from pbrlib.rendering.bake import bake, draw_params
from pbrlib.rendering.bakespec import BAKE_INPUTS, BakeSpec
from pbrlib.seeds import mix


def augment(raw: RawBatch, spec: AugmentSpec, *, device: torch.device | str) -> Batch:
    """Decode and augment a batch on ``device``.

    Samples with an albedo and no diffuse get a baked ``diffuse`` and ``gloss``, computed from the maps
    ``BAKE_INPUTS``. Other missing maps keep their fill value. If the batch has albedos, the result has
    diffuse and gloss maps. The parts of a mosaic are augmented as separate samples and assembled at the end.

    Raises:
        DataError: A sample needs the bake, and the batch lacks one of the maps of ``BAKE_INPUTS``.
    """
    rows = replace(_with_old_maps(raw), layouts=None).to(device)
    if torch.device(device).type == "cpu":
        # The vectorised functions of a CPU round the last elements of a block differently, and the blocks
        # depend on the batch size. Sample by sample, the result of a sample is the same in every batch.
        batch = Batch.concatenate([_augment(row, spec) for row in rows.split(max(1, len(rows)))])
    else:
        batch = _augment(rows, spec)
    return batch if raw.layouts is None else assemble_mosaics(batch, raw.layouts)


def _augment(raw: RawBatch, spec: AugmentSpec) -> Batch:
    if spec.flip or spec.rotate90:
        raw = _orient(raw, spec)
    maps = {name: _decode(name, x) for name, x in raw.maps.items()}
    if spec.sky_photometric:
        maps = _change_light(maps, raw, spec.sky_photometric)
    modern = _without_diffuse(raw)
    maps, raw = _bake_missing(maps, raw, spec.bake)
    maps = _change_colour(maps, raw, spec, modern=modern)
    example = next(iter(raw.maps.values()))
    valid = torch.ones((len(raw), 1, *example.shape[-2:]), dtype=torch.bool, device=example.device)
    batch = Batch(maps, valid, seeds=raw.seeds, ids=raw.ids, classes=raw.classes, present=raw.present)
    return batch.to(example.device)


def _orient(raw: RawBatch, spec: AugmentSpec) -> RawBatch:
    """Flip and rotate the samples as raw integers, which need a quarter of the memory of decoded maps."""
    drawn = [
        torch.randint(4, (3,), generator=torch.Generator().manual_seed(mix(seed, "orientation")))
        for seed in raw.seeds.tolist()
    ]
    choice = torch.stack(drawn) if drawn else torch.zeros((0, 3), dtype=torch.int64)
    orientation = Orientation.of(
        choice[:, 0] * spec.rotate90,
        horizontal=(choice[:, 1] < 2) & spec.flip,
        vertical=(choice[:, 2] < 2) & spec.flip,
    )
    turned = {
        name: orientation.apply(x, normal=MAPS[name].encoding is Encoding.NORMAL)
        for name, x in raw.maps.items()
    }
    return replace(raw, maps=turned)


def _decode(name: str, x: Tensor) -> Tensor:
    kind = MAPS[name]
    return x.squeeze(1).long() if kind.encoding is Encoding.LABEL else kind.decode(x)


def _with_old_maps(raw: RawBatch) -> RawBatch:
    """Add empty diffuse and gloss maps if missing, so that baked and other samples have the same maps."""
    if ALBEDO.name not in raw.maps:
        return raw
    maps, present = dict(raw.maps), dict(raw.present)
    num, _, height, width = raw.maps[ALBEDO.name].shape
    for kind in (DIFFUSE, GLOSS):
        if kind.name not in maps:
            fills = torch.tensor(kind.fills, dtype=torch.uint8).view(1, -1, 1, 1)
            maps[kind.name] = fills.repeat(num, 1, height, width)
            present[kind.name] = torch.zeros(num, dtype=torch.bool)
    return replace(raw, maps=maps, present=present)


def _bake_missing(
    maps: dict[str, Tensor], raw: RawBatch, spec: BakeSpec
) -> tuple[dict[str, Tensor], RawBatch]:
    """Bake a diffuse and a gloss for the samples that have an albedo and no diffuse."""
    chosen = _without_diffuse(raw)
    if len(chosen) == 0:
        return maps, raw
    missing = [name for name in BAKE_INPUTS if name not in maps]
    if missing:
        sample = raw.ids[int(chosen[0])]
        raise DataError(
            f"{sample}: got no diffuse and no {', '.join(missing)}; expected a diffuse, or maps to bake one."
            f" Request these maps too, or exclude samples without a diffuse."
        )
    device = maps[ALBEDO.name].device
    params = draw_params(raw.seeds[chosen], spec=spec).to(device)
    index = chosen.to(device)
    baked = bake({name: maps[name].index_select(0, index) for name in BAKE_INPUTS}, params=params)
    maps = maps | {
        DIFFUSE.name: maps[DIFFUSE.name].index_copy(0, index, baked.diffuse),
        GLOSS.name: maps[GLOSS.name].index_copy(0, index, baked.gloss),
    }
    present = raw.present | {
        name: raw.present[name].index_fill(0, chosen, True) for name in (DIFFUSE.name, GLOSS.name)
    }
    return maps, replace(raw, present=present)


def _without_diffuse(raw: RawBatch) -> Tensor:
    """Return the positions of modern samples, which have an albedo and no diffuse."""
    if ALBEDO.name not in raw.maps:
        return torch.zeros(0, dtype=torch.int64)
    return (raw.present[ALBEDO.name] & ~raw.present[DIFFUSE.name]).nonzero().squeeze(1)


def _change_colour(
    maps: dict[str, Tensor], raw: RawBatch, spec: AugmentSpec, *, modern: Tensor
) -> dict[str, Tensor]:
    """Apply the changes by class, and the colour jitter to the other modern samples."""
    seeds, classes = raw.seeds.tolist(), raw.classes.tolist()
    changes = draw_changes(classes, seeds=seeds, spec=spec.category) if spec.category else {}
    others = {position: seeds[position] for position in modern.tolist() if position not in changes}
    if spec.colour_jitter and others:
        bounds = [_limit_jitter(classes[position], spec.colour_jitter, spec.category) for position in others]
        maps = jitter_colours(maps, seeds=others, bounds=bounds)
    return apply_changes(maps, changes) if changes else maps


def _limit_jitter(class_id: int, jitter: ColourJitterSpec, category: CategorySpec | None) -> ColourJitterSpec:
    if category is None:
        return jitter
    hue, saturation = category.limit(class_id, "hue"), category.limit(class_id, "saturation")
    return ColourJitterSpec(hue=min(jitter.hue, hue), saturation=min(jitter.saturation, saturation))


def _change_light(maps: dict[str, Tensor], raw: RawBatch, spec: SkyPhotometricSpec) -> dict[str, Tensor]:
    """Change the light of diffuse maps that were not baked; the bake draws the light of a baked one."""
    if DIFFUSE.name not in maps:
        return maps
    chosen = [
        position
        for position, own in enumerate(raw.present[DIFFUSE.name].tolist())
        if own and _happens(int(raw.seeds[position]), spec.p)
    ]
    if not chosen:
        return maps
    diffuse = maps[DIFFUSE.name]
    index = torch.tensor(chosen).to(diffuse.device)
    changed = photometric(
        diffuse.index_select(0, index),
        ao=maps[AO.name].index_select(0, index) if AO.name in maps else None,
        seeds=raw.seeds[chosen].tolist(),
        preset=spec.preset,
    )
    return maps | {DIFFUSE.name: diffuse.index_copy(0, index, changed)}


def _happens(seed: int, p: float) -> bool:
    generator = torch.Generator().manual_seed(mix(seed, "photometric happens"))
    return float(torch.rand((), generator=generator, dtype=torch.float64)) < p
