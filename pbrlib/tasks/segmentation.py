"""The segmentation task: a material class per pixel."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pbrlib.data.draws.batch import Batch
from pbrlib.losses.lossspec import LossSpec
from pbrlib.losses.recipe import Recipe
from pbrlib.losses.target import LossContext, LossTarget
from pbrlib.maps import CLASSES, IGNORE, class_id
from pbrlib.metrics.confusion import confusion
from pbrlib.metrics.sums import Sums
from pbrlib.models.build import build_network
from pbrlib.models.inputs import colour_input
from pbrlib.models.roles import SegmentationDeclaration
from pbrlib.seeds import mix, uniform
from pbrlib.tasks.supervised import (
    Example,
    SupervisedPlayer,
    add_loss,
    class_colours,
    logits_of,
    side_by_side,
)
from pbrlib.tasks.taskspec import SegmentationSpec, merged_classes
from pbrlib.train.task import Turn, Turns


class SegmentationTask:
    """Trains a SegFormer on diffuse or albedo, and normal; validated by the mean IoU over whole textures."""

    def __init__(
        self,
        spec: SegmentationSpec,
        *,
        loss: LossSpec,
        class_weights: Tensor | None,
        mask_dropout: Mapping[str, float] | None = None,
    ) -> None:
        self.spec = spec
        self._mask_dropout = mask_dropout or {}
        self.declared = SegmentationDeclaration(model=spec.model, merge=spec.merge)
        self.network = build_network(self.declared)
        recipe = Recipe(loss, LossContext(class_weights=class_weights, classes=CLASSES))
        self.players = (SupervisedPlayer(self.declared, network=self.network, recipe=recipe),)

    def prepare(self, batch: Batch, *, training: bool) -> Example:
        """Build the network's input and the target of its loss.

        In training a sample shows its albedo with probability ``albedo_share`` and otherwise its diffuse, and
        random pixels of the classes in ``mask_dropout`` are excluded from the loss.
        """
        colour = batch.maps["diffuse"]
        if training and "albedo" in batch.maps:
            shown = [uniform(seed, "albedo") < self.spec.albedo_share for seed in batch.seeds.tolist()]
            present = batch.present["albedo"]
            choose = present & torch.tensor(shown, device=present.device)
            colour = torch.where(choose[:, None, None, None], batch.maps["albedo"], colour)
        labels = self._labels(batch)
        if training and self._mask_dropout:
            labels = drop_labels(labels, seeds=batch.seeds.tolist(), shares=self._mask_dropout)
        target = LossTarget(map=None, labels=labels, valid=batch.valid, normal=None)
        return Example(x=colour_input(colour, batch.maps["normal"]), condition=None, target=target)

    def turns(self, batch: Batch, *, awake: Collection[str]) -> Turns:
        """Yield the only turn: the example of the network."""
        yield Turn(self.players[0].name, self.prepare(batch, training=True))

    def predict(self, batch: Batch) -> Float[Tensor, "n k h w"]:
        """Predict class logits of whole textures; their sides must be multiples of the stride."""
        return logits_of(self.network, self.prepare(batch, training=False))

    def evaluate(self, batch: Batch) -> Sums:
        """Compute the confusion matrix, for the mean IoU and the IoU of every class, and the loss."""
        example = self.prepare(batch, training=False)
        logits = logits_of(self.network, example)
        sums = Sums()
        labels = self._labels(batch)
        matrix = confusion(logits.argmax(dim=1), labels, num_classes=len(CLASSES), valid=batch.valid[:, 0])
        sums.add_confusion("segmentation", matrix)
        add_loss(sums, self.players[0].recipe, logits, example.target, role="segmentation")
        return sums

    def picture(self, batch: Batch) -> Float[Tensor, "3 h w"]:
        """Return diffuse, predicted classes and true classes side by side."""
        predicted = self.predict(batch).argmax(dim=1)
        shown = [class_colours(labels[0]) for labels in (predicted, self._labels(batch))]
        return side_by_side(batch.maps["diffuse"][0], *shown)

    def _labels(self, batch: Batch) -> Int64[Tensor, "n h w"]:
        """Return the true class ids after merging."""
        return merge_labels(batch.maps["mask"], merged_classes(self.spec))


def merge_labels(labels: Int64[Tensor, "*shape"], merge: Mapping[str, str]) -> Int64[Tensor, "*shape"]:
    """Merge classes by name: ``{ceramic: stone}`` turns every ceramic pixel into stone."""
    for source, target in merge.items():
        labels = torch.where(labels == class_id(source), class_id(target), labels)
    return labels


def drop_labels(
    labels: Int64[Tensor, "n h w"], *, seeds: Sequence[int], shares: Mapping[str, float]
) -> Int64[Tensor, "n h w"]:
    """Set a random share of the pixels of some classes to 255 (ignore), with one seed per sample."""
    generator = torch.Generator(device=labels.device)
    drawn = torch.empty(labels.shape, device=labels.device)
    for plane, seed in zip(drawn, seeds, strict=True):
        plane.uniform_(generator=generator.manual_seed(mix(seed, "mask dropout")))
    for name, share in shares.items():
        labels = torch.where((labels == class_id(name)) & (drawn < share), IGNORE, labels)
    return labels
