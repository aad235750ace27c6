"""Trivial baselines without a network, which a network has to beat.

Baselines are fitted on the training split only. A baseline that uses the class gets the true class of each
pixel, so it has more information than the networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pbrlib.data.draws.collate import stack
from pbrlib.data.shards.dataset import DataSet
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.window import Window
from pbrlib.evaluate.samples import READ, Texture, as_texture
from pbrlib.geometry import relief
from pbrlib.maps import (
    ALBEDO,
    CLASSES,
    IGNORE,
    MAPS,
    MASK,
    NORMAL,
    TARGETS,
    MapType,
    class_id,
)
from pbrlib.maptargets import ClassBaseline, ClassTarget, MapBaseline
from pbrlib.seeds import mix

MAX_TEXTURES = 64
"""Number of training textures baked for gain and class colours; all other statistics come from the index."""

WINDOW = 256
"""Side in pixels of the crop that is read of each of these textures."""


@dataclass(frozen=True)
class TrainingStatistics:
    """Statistics of the training split that baselines use.

    Attributes:
        num_textures: Number of textures of the training split.
        num_baked: Number of textures used for gain and colours.
        gain: Least-squares factor per channel from the old diffuse to the albedo, on sRGB values.
        means: Mean of each map with a mean baseline; its fill value if no texture has the map.
        class_means: Mean by class of each map with a class-mean baseline. A class without textures has the
            mean of all textures; a map without textures has 0.5.
        majority: The most frequent class id over all pixels.
        colours: Mean old diffuse by class, sRGB; NaN for a class without pixels.
    """

    num_textures: int
    num_baked: int
    gain: Float[Tensor, 3]
    means: Mapping[str, float]
    class_means: Mapping[str, Float[Tensor, " k"]]
    majority: int
    colours: Float[Tensor, "k 3"]

    def as_dict(self) -> dict[str, Any]:
        """Convert to a dict for the JSON report."""
        named = [None if bool(colour.isnan().any()) else colour.tolist() for colour in self.colours]
        return {
            "num_training_textures": self.num_textures,
            "num_baked_textures": self.num_baked,
            "albedo_gain": self.gain.tolist(),
            **{
                f"class_mean_{name}": dict(zip(CLASSES, means.tolist(), strict=True))
                for name, means in self.class_means.items()
            },
            **{f"mean_{name}": mean for name, mean in self.means.items()},
            "majority_class": CLASSES[self.majority],
            "class_mean_diffuse": dict(zip(CLASSES, named, strict=True)),
        }


def training_statistics(shards: DataSet) -> TrainingStatistics:
    """Compute the statistics from the index, and from the pixels of evenly spread training textures."""
    rows = [row for row in shards.rows if row.split == "train"]
    fit = ColourFit()
    readable = [row for row in rows if NORMAL.name in row.maps and ALBEDO.name in row.maps]
    for row in readable[:: max(1, -(-len(readable) // MAX_TEXTURES))]:
        fit.add(_training_texture(shards, row))
    pixels = [sum(row.class_pixels[number] for row in rows) for number in range(len(CLASSES))]
    return TrainingStatistics(
        num_textures=len(rows),
        num_baked=fit.num_textures,
        gain=fit.gain,
        means={name: _overall_mean(rows, name) for name in _maps_with_baseline("training mean")},
        class_means={
            name: _class_means(rows, name) for name in _maps_with_baseline("mean of the true class")
        },
        majority=pixels.index(max(pixels)),
        colours=fit.colours,
    )


class ColourFit:
    """Accumulates sums over textures for the diffuse's gain and its mean colour by class."""

    def __init__(self) -> None:
        self.num_textures = 0
        self._cross, self._square = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        self._sums = torch.zeros(len(CLASSES), 3, dtype=torch.float64)
        self._counts = torch.zeros(len(CLASSES), 1, dtype=torch.float64)

    def add(self, texture: Texture) -> None:
        """Add a texture, weighted by its pixels."""
        self.num_textures += 1
        diffuse = texture.given.diffuse.flatten(1).double()
        if ALBEDO.name in texture.truth:
            albedo = texture.truth[ALBEDO.name].flatten(1).double()
            self._cross += (diffuse * albedo).sum(dim=1)
            self._square += diffuse.square().sum(dim=1)
        labels = texture.mask.flatten()
        for label in torch.bincount(labels[labels != IGNORE]).nonzero().flatten().tolist():
            self._sums[label] += diffuse[:, labels == label].sum(dim=1)
            self._counts[label] += (labels == label).sum()

    @property
    def gain(self) -> Float[Tensor, 3]:
        """The least-squares gain, sum(diffuse albedo) / sum(diffuse^2); 1 without textures."""
        known = self._square > 0
        gain: Tensor = torch.where(known, self._cross / self._square.clamp_min(1e-12), 1.0).float()
        return gain

    @property
    def colours(self) -> Float[Tensor, "k 3"]:
        """The mean diffuse by class; NaN for a class without pixels."""
        return (self._sums / self._counts).float()


def map_baselines(texture: Texture, statistics: TrainingStatistics) -> dict[str, dict[str, Tensor]]:
    """Compute the baselines of each map, (C, H, W) in [0, 1], as `pbrlib.maps` lists them."""
    return _baselines_of_maps(texture, gain=statistics.gain, statistics=statistics)


def untrained_baselines(texture: Texture, *, gain: Float[Tensor, 3]) -> dict[str, dict[str, Tensor]]:
    """Compute those baselines of ``map_baselines`` that need only the old texture and a gain."""
    return _baselines_of_maps(texture, gain=gain, statistics=None)


def class_baselines(texture: Texture, statistics: TrainingStatistics) -> dict[str, Int64[Tensor, "h w"]]:
    """Compute the class ids of the segmentation's baselines."""
    assert isinstance(MASK.target, ClassTarget)
    return {name: _class_baseline(name, texture, statistics) for name in MASK.target.baselines}


def _baselines_of_maps(
    texture: Texture, *, gain: Tensor, statistics: TrainingStatistics | None
) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, target in TARGETS.items():
        computed = {
            baseline: _map_baseline(baseline, MAPS[name], texture, gain=gain, statistics=statistics)
            for baseline in target.baselines
        }
        found[name] = {baseline: x for baseline, x in computed.items() if x is not None}
    return found


def _map_baseline(
    baseline: MapBaseline,
    kind: MapType,
    texture: Texture,
    *,
    gain: Tensor,
    statistics: TrainingStatistics | None,
) -> Tensor | None:
    """Compute a baseline, (C, H, W); None if the texture or the statistics lack its input."""
    given = texture.given
    empty = given.diffuse.new_zeros((kind.channels, *given.diffuse.shape[-2:]))
    match baseline:
        case "0":
            return empty
        case "1":
            return empty + 1.0
        case "diffuse":
            return given.diffuse
        case "diffuse x fitted gain":
            return (given.diffuse * gain.view(3, 1, 1)).clamp(0.0, 1.0)
        case "1 - gloss":
            return None if given.gloss is None else 1.0 - given.gloss
        case "Poisson":
            return relief(given.normal[None], tileable=given.tileable)[0, :1] * 0.5 + 0.5
        case "training mean":
            return None if statistics is None else empty + statistics.means[kind.name]
        case "mean of the true class":
            return None if statistics is None else _class_mean_map(texture, statistics.class_means[kind.name])
        case "true class is metal":
            return None if statistics is None else (texture.mask == class_id("metal")).float()[None]
        case _:
            assert_never(baseline)


def _class_mean_map(texture: Texture, means: Float[Tensor, " k"]) -> Float[Tensor, "1 h w"]:
    """Return the mean of each pixel's class; an unknown class has the mean of all class means."""
    labels = texture.mask.clamp(max=len(CLASSES))
    return torch.cat((means, means.mean()[None]))[labels][None]


def _class_baseline(
    baseline: ClassBaseline, texture: Texture, statistics: TrainingStatistics
) -> Int64[Tensor, "h w"]:
    """Compute a class baseline: the most frequent class, or each pixel's nearest class colour."""
    match baseline:
        case "majority class":
            return torch.full_like(texture.mask, statistics.majority)
        case "nearest class colour":
            diffuse = texture.given.diffuse
            differences = diffuse.flatten(1).T[:, None] - statistics.colours.to(diffuse)
            distances = differences.square().sum(dim=-1).nan_to_num(nan=torch.inf)
            return distances.argmin(dim=1).view(texture.mask.shape)
        case _:
            assert_never(baseline)


def _training_texture(shards: DataSet, row: IndexRow) -> Texture:
    height, width = min(row.height, WINDOW), min(row.width, WINDOW)
    window = Window((row.height - height) // 2, (row.width - width) // 2, height, width)
    maps = [name for name in READ if name in row.maps]
    raw = stack(
        [shards.read_crop(row, window, maps)], rows=[row], seeds=[mix("statistics", row.id)], maps=READ
    )
    return as_texture(raw, row)


def _maps_with_baseline(baseline: MapBaseline) -> list[str]:
    """Return the maps with a given baseline; these baselines need maps with one channel."""
    names = [name for name, target in TARGETS.items() if baseline in target.baselines]
    assert all(MAPS[name].channels == 1 for name in names), f"{baseline}: needs maps with one channel"
    return names


def _overall_mean(rows: Sequence[IndexRow], name: str) -> float:
    known = [row.means[name][0] for row in rows if name in row.means]
    return _mean(known, otherwise=MAPS[name].fills[0] / MAPS[name].maximum)


def _class_means(rows: Sequence[IndexRow], name: str) -> Float[Tensor, " k"]:
    known = [(row.label, row.means[name][0]) for row in rows if name in row.means]
    overall = _mean([value for _, value in known], otherwise=0.5)
    return torch.tensor(
        [_mean([value for label, value in known if label == own], otherwise=overall) for own in CLASSES]
    )


def _mean(values: Sequence[float], *, otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
