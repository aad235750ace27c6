"""Learning a material class per pixel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.data.batch import Batch
from pbrlib.inference.networks import SegmentationNetwork, build_segformer, colour_input
from pbrlib.losses.recipe import LossContext, LossTarget, Recipe
from pbrlib.losses.spec import LossSpec
from pbrlib.maps import CLASSES
from pbrlib.metrics.segmentation import confusion
from pbrlib.metrics.sums import Sums
from pbrlib.seeds import uniform
from pbrlib.tasks.spec import SegmentationSpec
from pbrlib.tasks.supervised import SupervisedPlayer, class_colours, side_by_side
from pbrlib.train.task import Example


class SegmentationTask:
    """SegFormer on (diffuse or albedo) and normal; mean IoU over whole textures."""

    def __init__(self, spec: SegmentationSpec, *, loss: LossSpec, class_weights: Tensor | None) -> None:
        self.spec = spec
        network = SegmentationNetwork(model=spec.model)
        self.network = build_segformer(network)
        recipe = Recipe(loss, LossContext(class_weights=class_weights, classes=CLASSES))
        self.players = (SupervisedPlayer(network, network=self.network, recipe=recipe),)

    def prepare(self, batch: Batch, *, training: bool) -> Example:
        """While training a sample shows its albedo with probability ``albedo_share``, else its diffuse."""
        colour = batch.maps["diffuse"]
        if training and "albedo" in batch.maps:
            shown = [uniform(seed, "albedo") < self.spec.albedo_share for seed in batch.seeds.tolist()]
            choose = torch.tensor(shown) & batch.present["albedo"]
            colour = torch.where(choose.to(colour.device)[:, None, None, None], batch.maps["albedo"], colour)
        target = LossTarget(map=None, labels=batch.maps["mask"], valid=batch.valid, normal=None)
        return Example(x=colour_input(colour, batch.maps["normal"]), condition=None, target=target)

    def predict(self, batch: Batch) -> Float[Tensor, "n k h w"]:
        """Class logits of whole textures whose sides the stride divides."""
        logits: Tensor = self.network(self.prepare(batch, training=False).x).logits
        return logits

    def evaluate(self, batch: Batch) -> Sums:
        """One confusion matrix: mean IoU and the IoU of every class."""
        predicted = self.predict(batch).argmax(dim=1)
        sums = Sums()
        matrix = confusion(predicted, batch.maps["mask"], num_classes=len(CLASSES), valid=batch.valid[:, 0])
        sums.add_confusion("segmentation", matrix)
        return sums

    def picture(self, batch: Batch) -> Float[Tensor, "3 h w"]:
        """Diffuse, predicted classes, true classes."""
        predicted = self.predict(batch).argmax(dim=1)
        return side_by_side(
            batch.maps["diffuse"][0], class_colours(predicted[0]), class_colours(batch.maps["mask"][0])
        )
