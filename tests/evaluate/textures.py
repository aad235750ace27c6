"""Textures without files, and predictors that know or do not know the truth."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pbrlib.data.shards.reader import ShardSet
from pbrlib.evaluate.baselines import TrainingStatistics
from pbrlib.evaluate.samples import Texture, validation_textures
from pbrlib.inference.chain import TextureInput
from pbrlib.maps import CLASSES, IGNORE, TARGETS


def texture(name: str = "a", *, side: int = 32, truth: tuple[str, ...] = ("albedo",)) -> Texture:
    """Noise of a seed that follows from the name; the left half is class 0, the right half metal."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    channels = {"albedo": 3}
    mask = torch.zeros(side, side, dtype=torch.int64)
    mask[:, side // 2 :] = CLASSES.index("metal")
    flat = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).expand(3, side, side)
    return Texture(
        id=name,
        label=None,
        given=TextureInput(
            diffuse=torch.rand(3, side, side, generator=generator),
            normal=flat,
            gloss=torch.rand(1, side, side, generator=generator),
            tileable=True,
        ),
        truth={n: torch.rand(channels.get(n, 1), side, side, generator=generator) for n in truth},
        mask=mask,
        valid=torch.ones(1, side, side, dtype=torch.bool),
    )


def statistics() -> TrainingStatistics:
    """Round numbers: red for class 0, blue for class 1, the others without colour."""
    colours = torch.full((len(CLASSES), 3), torch.nan)
    colours[0], colours[1] = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    return TrainingStatistics(
        num_textures=3,
        num_baked=3,
        gain=torch.tensor([0.5, 1.0, 2.0]),
        means=dict.fromkeys(TARGETS, 0.75),
        class_means=dict.fromkeys(TARGETS, torch.arange(len(CLASSES)) / 10),
        majority=5,
        colours=colours,
    )


@dataclass
class Oracle:
    """Answers the truth of a shard set's validation textures."""

    shards: ShardSet

    def __post_init__(self) -> None:
        self.known = list(validation_textures(self.shards))

    def predict(self, given: TextureInput) -> dict[str, Tensor]:
        for known in self.known:
            if torch.equal(known.given.diffuse, given.diffuse):
                labels = known.mask.masked_fill(known.mask == IGNORE, 0)
                return {
                    **known.truth,
                    "segmentation": F.one_hot(labels, len(CLASSES)).permute(2, 0, 1).float(),
                }
        raise AssertionError("asked for a texture that is not validation's")


class Copycat:
    """Answers what the trivial baselines would, and so beats none of them."""

    def predict(self, given: TextureInput) -> dict[str, Tensor]:
        empty = torch.zeros_like(given.diffuse[:1])
        return {"albedo": given.diffuse, "metallic": empty, "ao": empty + 1.0}
