"""What anyone could answer without a network: the figures that a network has to beat.

Whatever is fitted is fitted on the training split. Where a baseline is told the class, it is told the true
one, pixel by pixel, so it knows more than the networks do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pbrlib.data.draws.collate import stack
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.window import Window
from pbrlib.evaluate.samples import READ, Texture, as_texture
from pbrlib.geometry import relief
from pbrlib.inference.chain import TextureInput
from pbrlib.maps import CLASSES, IGNORE, class_id
from pbrlib.seeds import mix

MOST_TEXTURES = 64
"""Training textures that are baked for the gain and the class colours; the index gives all other figures."""

WINDOW = 256
"""Pixels of a side of what is read of each."""


@dataclass(frozen=True)
class TrainingStatistics:
    """What baselines know, of the training split alone.

    Attributes:
        num_textures: Textures of the training split.
        num_baked: Of these, the baked ones behind gain and colours.
        gain: By which the old diffuse is multiplied, channel by channel on sRGB values, to come nearest to
            the albedo (least squares).
        roughness: Mean roughness by class; of all textures where a class has none.
        ao: Mean ambient occlusion.
        majority: The class id of most pixels.
        colours: Mean old diffuse by class, sRGB; NaN for a class without pixels.
    """

    num_textures: int
    num_baked: int
    gain: Float[Tensor, 3]
    roughness: Float[Tensor, " k"]
    ao: float
    majority: int
    colours: Float[Tensor, "k 3"]

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        named = [None if bool(colour.isnan().any()) else colour.tolist() for colour in self.colours]
        return {
            "num_training_textures": self.num_textures,
            "num_baked_textures": self.num_baked,
            "albedo_gain": self.gain.tolist(),
            "class_mean_roughness": dict(zip(CLASSES, self.roughness.tolist(), strict=True)),
            "mean_ao": self.ao,
            "majority_class": CLASSES[self.majority],
            "class_mean_diffuse": dict(zip(CLASSES, named, strict=True)),
        }


def training_statistics(shards: ShardSet) -> TrainingStatistics:
    """Reads the index, and evenly spread training textures for what only pixels tell."""
    rows = [row for row in shards.rows if row.split == "train"]
    fit = ColourFit()
    readable = [row for row in rows if "normal" in row.maps and "albedo" in row.maps]
    for row in readable[:: max(1, -(-len(readable) // MOST_TEXTURES))]:
        fit.add(_training_texture(shards, row))
    pixels = [sum(row.class_pixels[number] for row in rows) for number in range(len(CLASSES))]
    return TrainingStatistics(
        num_textures=len(rows),
        num_baked=fit.num_textures,
        gain=fit.gain,
        roughness=_class_means(rows),
        ao=_mean([row.means["ao"][0] for row in rows if "ao" in row.means], otherwise=1.0),
        majority=pixels.index(max(pixels)),
        colours=fit.colours,
    )


class ColourFit:
    """Sums over textures for the gain of the diffuse and its mean by class."""

    def __init__(self) -> None:
        self.num_textures = 0
        self._cross, self._square = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        self._sums = torch.zeros(len(CLASSES), 3, dtype=torch.float64)
        self._counts = torch.zeros(len(CLASSES), 1, dtype=torch.float64)

    def add(self, texture: Texture) -> None:
        """Adds a texture; every texture weighs by its pixels."""
        self.num_textures += 1
        diffuse = texture.given.diffuse.flatten(1).double()
        if "albedo" in texture.truth:
            albedo = texture.truth["albedo"].flatten(1).double()
            self._cross += (diffuse * albedo).sum(dim=1)
            self._square += diffuse.square().sum(dim=1)
        labels = texture.mask.flatten()
        for label in torch.bincount(labels[labels != IGNORE]).nonzero().flatten().tolist():
            self._sums[label] += diffuse[:, labels == label].sum(dim=1)
            self._counts[label] += (labels == label).sum()

    @property
    def gain(self) -> Float[Tensor, 3]:
        """Least squares through zero: sum(diffuse albedo) / sum(diffuse^2); 1 without any texture."""
        known = self._square > 0
        gain: Tensor = torch.where(known, self._cross / self._square.clamp_min(1e-12), 1.0).float()
        return gain

    @property
    def colours(self) -> Float[Tensor, "k 3"]:
        """Mean diffuse by class, NaN where no pixel has it."""
        return (self._sums / self._counts).float()


def map_baselines(texture: Texture, statistics: TrainingStatistics) -> dict[str, dict[str, Tensor]]:
    """Baselines (C, H, W) in [0, 1] of each map, by a name that says what they are."""
    found = untrained_baselines(texture.given, gain=statistics.gain)
    empty = torch.zeros_like(texture.given.diffuse[:1])
    means = torch.cat((statistics.roughness, statistics.roughness.mean()[None]))
    labels = texture.mask.clamp(max=len(CLASSES))
    found["roughness"] = {"mean of the true class": means[labels][None]} | found["roughness"]
    found["metallic"]["true class is metal"] = (texture.mask == class_id("metal")).float()[None]
    found["ao"]["training mean"] = empty + statistics.ao
    return found


def untrained_baselines(given: TextureInput, *, gain: Float[Tensor, 3]) -> dict[str, dict[str, Tensor]]:
    """The baselines that know the old texture and a gain alone."""
    diffuse = given.diffuse
    empty = torch.zeros_like(diffuse[:1])
    poisson = relief(given.normal[None], tileable=given.tileable)[0, :1]
    return {
        "albedo": {
            "diffuse": diffuse,
            "diffuse x fitted gain": (diffuse * gain.view(3, 1, 1)).clamp(0.0, 1.0),
        },
        "roughness": {} if given.gloss is None else {"1 - gloss": 1.0 - given.gloss},
        "metallic": {"0": empty},
        "ao": {"1": empty + 1.0},
        "height": {"Poisson": poisson * 0.5 + 0.5},
    }


def class_baselines(texture: Texture, statistics: TrainingStatistics) -> dict[str, Int64[Tensor, "h w"]]:
    """Class ids: the most frequent class everywhere, and the class of the nearest mean colour a pixel."""
    diffuse = texture.given.diffuse
    colours = statistics.colours
    differences = diffuse.flatten(1).T[:, None] - colours.to(diffuse)
    distances = differences.square().sum(dim=-1).nan_to_num(nan=torch.inf)
    return {
        "majority class": torch.full_like(texture.mask, statistics.majority),
        "nearest class colour": distances.argmin(dim=1).view(texture.mask.shape),
    }


def _training_texture(shards: ShardSet, row: IndexRow) -> Texture:
    height, width = min(row.height, WINDOW), min(row.width, WINDOW)
    window = Window((row.height - height) // 2, (row.width - width) // 2, height, width)
    maps = [name for name in READ if name in row.maps]
    raw = stack(
        [shards.read_crop(row, window, maps)], rows=[row], seeds=[mix("statistics", row.id)], maps=READ
    )
    return as_texture(raw, row)


def _class_means(rows: Sequence[IndexRow]) -> Float[Tensor, " k"]:
    known = [(row.label, row.means["roughness"][0]) for row in rows if "roughness" in row.means]
    overall = _mean([value for _, value in known], otherwise=0.5)
    return torch.tensor(
        [_mean([value for label, value in known if label == name], otherwise=overall) for name in CLASSES]
    )


def _mean(values: Sequence[float], *, otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
