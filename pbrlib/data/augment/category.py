"""Augments samples by their material class, with changes that are plausible for surfaces of the class.

A change of colour (brightness, hue, saturation) gives another material of the class, so it is applied to
both diffuse and albedo. An overlay (grain, dirt, a specular highlight) is painted into the diffuse only,
since light and dirt do not belong to the ground truth. A warp moves every map and rotates the normals.

A curriculum declares the strength of each change; `augmentspec.CLASS_LIMITS` has the upper limits. Fur is not
a class; the rules of fabric apply to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.data.augment.augmentspec import CategorySpec, ClassChanges
from pbrlib.data.augment.jitter import shift_colours
from pbrlib.data.augment.overlays import darken, dirt_cover, grain_cover, sprite_cover, whiten
from pbrlib.geometry import smooth_displacement, warp, warp_labels, warp_normal
from pbrlib.geometry.warp import NODES
from pbrlib.maps import ALBEDO, CLASSES, DIFFUSE, IGNORE, MAPS, Encoding
from pbrlib.seeds import mix, uniform

Maps = dict[str, Tensor]


@dataclass(frozen=True)
class Change:
    """The drawn changes of one sample; a strength of 0 and a factor of 1 change nothing.

    ``turn`` is a share of the colour circle, ``warp`` a share of the crop's side.
    """

    seed: int
    brightness: float = 1.0
    turn: float = 0.0
    saturation: float = 1.0
    grain: float = 0.0
    dirt: float = 0.0
    specular: float = 0.0
    warp: float = 0.0


def draw_changes(classes: Sequence[int], *, seeds: Sequence[int], spec: CategorySpec) -> dict[int, Change]:
    """Draw the changes of each sample from its class and seed; returns those with changes, by position."""
    return {
        position: _draw(seed, spec.may[CLASSES[label]])
        for position, (label, seed) in enumerate(zip(classes, seeds, strict=True))
        if label != IGNORE and CLASSES[label] in spec.may and uniform(seed, "category happens") < spec.p
    }


def predicted_classes(probabilities: Float[Tensor, "n k h w"], *, confidence: float) -> list[int]:
    """Return the class of each sample, or 255 if its mean probability is not above ``confidence``."""
    share, label = probabilities.float().mean(dim=(-2, -1)).max(dim=1)
    return torch.where(share > confidence, label, IGNORE).tolist()


def apply_changes(maps: Maps, changes: Mapping[int, Change]) -> Maps:
    """Apply changes to some samples of a batch of decoded maps, and return the new maps.

    Args:
        maps: The maps by name; ``mask`` is int64 ``(n, h, w)``.
        changes: The changes of a sample, by its position in the batch.
    """
    maps = dict(maps)
    for kind in (DIFFUSE, ALBEDO):
        if kind.name in maps:
            maps[kind.name] = _change_colour(maps[kind.name], changes)
    if DIFFUSE.name in maps:
        maps[DIFFUSE.name] = _add_overlays(maps[DIFFUSE.name], changes)
    return _warp_maps(maps, changes)


def scale_brightness(
    x: Float[Tensor, "n 3 h w"], *, factor: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n 3 h w"]:
    """Multiply the HSV value of sRGB colours, clipped to 1; hue and saturation do not change."""
    brightest = x.amax(dim=1, keepdim=True).clamp_min(1e-6)
    return x * torch.minimum(factor, 1.0 / brightest)


def _draw(seed: int, may: ClassChanges) -> Change:
    def share(name: str) -> float:
        return uniform(seed, "category", name)

    def around(bound: float | None, name: str) -> float:
        return (bound or 0.0) * (2.0 * share(name) - 1.0)

    return Change(
        seed=seed,
        brightness=1.0 + around(may.brightness, "brightness"),
        turn=around(may.hue, "hue"),
        saturation=1.0 + around(may.saturation, "saturation"),
        grain=(may.grain or 0.0) * share("grain"),
        dirt=(may.dirt or 0.0) * share("dirt"),
        specular=may.specular or 0.0,
        warp=may.warp or 0.0,
    )


def _change_colour(x: Tensor, changes: Mapping[int, Change]) -> Tensor:
    chosen = {i: change for i, change in changes.items() if change.turn or change.saturation != 1.0}
    if chosen:
        turn = _column(x, [change.turn for change in chosen.values()])
        saturation = _column(x, [change.saturation for change in chosen.values()])
        x = _replace(x, chosen, shift_colours(_select(x, chosen), turn=turn, saturation=saturation))
    chosen = {i: change for i, change in changes.items() if change.brightness != 1.0}
    if chosen:
        factor = _column(x, [change.brightness for change in chosen.values()])
        x = _replace(x, chosen, scale_brightness(_select(x, chosen), factor=factor))
    return x


def _add_overlays(x: Tensor, changes: Mapping[int, Change]) -> Tensor:
    for name, cover_of, paint in (
        ("dirt", dirt_cover, darken),
        ("grain", grain_cover, darken),
        ("specular", sprite_cover, whiten),
    ):
        chosen = {i: change for i, change in changes.items() if getattr(change, name)}
        if chosen:
            seeds = [change.seed for change in chosen.values()]
            strength = _column(x, [getattr(change, name) for change in chosen.values()])
            cover = cover_of(seeds, strength=strength, size=(x.shape[-2], x.shape[-1]))
            x = _replace(x, chosen, paint(_select(x, chosen), cover=cover))
    return x


def _warp_maps(maps: Maps, changes: Mapping[int, Change]) -> Maps:
    chosen = {i: change for i, change in changes.items() if change.warp}
    if not chosen:
        return maps
    example = next(iter(maps.values()))
    size = (example.shape[-2], example.shape[-1])
    nodes = torch.stack([_nodes(change) for change in chosen.values()]).to(example.device) * min(size)
    displacement = smooth_displacement(nodes, size=size)
    moved = {}
    for name, x in maps.items():
        own = _select(x, chosen)
        match MAPS[name].encoding:
            case Encoding.LABEL:
                moved[name] = warp_labels(own, displacement=displacement)
            case Encoding.NORMAL:
                moved[name] = warp_normal(own, displacement=displacement)
            case _:
                moved[name] = warp(own, displacement=displacement)
    return {name: _replace(x, chosen, moved[name]) for name, x in maps.items()}


def _nodes(change: Change) -> Float[Tensor, "2 g g"]:
    generator = torch.Generator().manual_seed(mix(change.seed, "warp"))
    return (torch.rand(2, NODES, NODES, generator=generator) * 2.0 - 1.0) * change.warp


def _column(like: Tensor, values: Sequence[float]) -> Float[Tensor, "n 1 1 1"]:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1).to(like.device)


def _index(x: Tensor, chosen: Mapping[int, Change]) -> Tensor:
    return torch.tensor(list(chosen)).to(x.device)


def _select(x: Tensor, chosen: Mapping[int, Change]) -> Tensor:
    return x.index_select(0, _index(x, chosen))


def _replace(x: Tensor, chosen: Mapping[int, Change], values: Tensor) -> Tensor:
    return x.index_copy(0, _index(x, chosen), values.to(x.dtype))
