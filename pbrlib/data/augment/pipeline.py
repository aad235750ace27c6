"""Raw batches to what networks see: turn, decode, bake an old texture where none is, change light and colour.

Every random choice of a sample comes from its own seed, and no operation sees more than one sample, so
a result depends neither on the batch nor on the position in it: the same draw gives the same bits with
one worker or eight, before and after a crash.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pbrlib.data.augment.assembly import assembled
from pbrlib.data.augment.augmentspec import AugmentSpec, CategorySpec, ColourJitterSpec, SkyPhotometricSpec
from pbrlib.data.augment.category import draw_changes, with_changes
from pbrlib.data.augment.jitter import jittered
from pbrlib.data.augment.photometric import photometric
from pbrlib.data.draws.batch import Batch, RawBatch
from pbrlib.errors import DataError
from pbrlib.geometry import Orientation
from pbrlib.maps import ALBEDO, AO, DIFFUSE, GLOSS, MAPS, Encoding
from pbrlib.rendering.bake import bake, draw_params
from pbrlib.rendering.bakespec import BAKE_INPUTS, BakeSpec
from pbrlib.seeds import mix


def augment(raw: RawBatch, spec: AugmentSpec, *, device: torch.device | str) -> Batch:
    """Decodes and augments a batch on ``device``.

    Samples that have an albedo and no diffuse get a baked ``diffuse`` and ``gloss``, which takes the maps
    ``BAKE_INPUTS``; what a sample neither has nor gets keeps its fill value. A batch with albedos has a
    diffuse and a gloss map even if it came without. Mosaics are put together at the end, of parts that were
    augmented as samples of their own.

    Raises:
        DataError: A sample needs the bake and the batch lacks one of its inputs.
    """
    rows = replace(_with_old_maps(raw), layouts=None).to(device)
    if torch.device(device).type == "cpu":
        # The CPU's vectorised functions round the last few elements of a block another way than the rest,
        # and the blocks follow the size of the batch: sample by sample, a result is the same in any batch.
        batch = Batch.concatenate([_augment(row, spec) for row in rows.split(max(1, len(rows)))])
    else:
        batch = _augment(rows, spec)
    return batch if raw.layouts is None else assembled(batch, raw.layouts)


def _augment(raw: RawBatch, spec: AugmentSpec) -> Batch:
    if spec.flip or spec.rotate90:
        raw = _turned(raw, spec)
    maps = {name: _decoded(name, x) for name, x in raw.maps.items()}
    if spec.sky_photometric:
        maps = _with_other_light(maps, raw, spec.sky_photometric)
    modern = _without_diffuse(raw)
    maps, raw = _baked(maps, raw, spec.bake)
    maps = _with_other_colour(maps, raw, spec, modern=modern)
    example = next(iter(raw.maps.values()))
    valid = torch.ones((len(raw), 1, *example.shape[-2:]), dtype=torch.bool, device=example.device)
    batch = Batch(maps, valid, seeds=raw.seeds, ids=raw.ids, classes=raw.classes, present=raw.present)
    return batch.to(example.device)


def _turned(raw: RawBatch, spec: AugmentSpec) -> RawBatch:
    """Turns the integers, four times lighter than what they decode to."""
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


def _decoded(name: str, x: Tensor) -> Tensor:
    kind = MAPS[name]
    return x.squeeze(1).long() if kind.encoding is Encoding.LABEL else kind.decode(x)


def _with_old_maps(raw: RawBatch) -> RawBatch:
    """Makes room for the old maps, so that every sample has the same maps whether it is baked or not."""
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


def _baked(maps: dict[str, Tensor], raw: RawBatch, spec: BakeSpec) -> tuple[dict[str, Tensor], RawBatch]:
    """Gives a diffuse and a gloss to the samples that have an albedo and no diffuse."""
    chosen = _without_diffuse(raw)
    if len(chosen) == 0:
        return maps, raw
    missing = [name for name in BAKE_INPUTS if name not in maps]
    if missing:
        sample = raw.ids[int(chosen[0])]
        raise DataError(
            f"{sample}: no diffuse, and none can be baked without {', '.join(missing)}."
            f" Ask for these maps too, or leave out samples without a diffuse."
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
    """Positions of the modern samples: those with an albedo and no diffuse of their own."""
    if ALBEDO.name not in raw.maps:
        return torch.zeros(0, dtype=torch.int64)
    return (raw.present[ALBEDO.name] & ~raw.present[DIFFUSE.name]).nonzero().squeeze(1)


def _with_other_colour(
    maps: dict[str, Tensor], raw: RawBatch, spec: AugmentSpec, *, modern: Tensor
) -> dict[str, Tensor]:
    """Changes materials by their class, and the colour of the other modern ones."""
    seeds, classes = raw.seeds.tolist(), raw.classes.tolist()
    changes = draw_changes(classes, seeds=seeds, spec=spec.category) if spec.category else {}
    others = {position: seeds[position] for position in modern.tolist() if position not in changes}
    if spec.colour_jitter and others:
        bounds = [_jitter_of(classes[position], spec.colour_jitter, spec.category) for position in others]
        maps = jittered(maps, seeds=others, bounds=bounds)
    return with_changes(maps, changes) if changes else maps


def _jitter_of(class_id: int, jitter: ColourJitterSpec, category: CategorySpec | None) -> ColourJitterSpec:
    if category is None:
        return jitter
    hue, saturation = category.limit(class_id, "hue"), category.limit(class_id, "saturation")
    return ColourJitterSpec(hue=min(jitter.hue, hue), saturation=min(jitter.saturation, saturation))


def _with_other_light(maps: dict[str, Tensor], raw: RawBatch, spec: SkyPhotometricSpec) -> dict[str, Tensor]:
    """Changes the light of old textures that came as such: a baked one has had its own drawn."""
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
