"""The tasks of albedo and the scalar maps: one U-Net each, conditioned on the frozen networks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.data.augment.augmentspec import CategorySpec
from pbrlib.data.augment.category import apply_changes, draw_changes, predicted_classes
from pbrlib.data.draws.batch import Batch
from pbrlib.inference.chain import Chain, Condition
from pbrlib.losses.lossspec import LossSpec
from pbrlib.losses.recipe import Recipe
from pbrlib.losses.target import LossContext, LossTarget
from pbrlib.maps import CLASSES, IGNORE, TARGETS
from pbrlib.metrics.images import map_metrics
from pbrlib.metrics.sums import Sums
from pbrlib.models.build import build_network, init_head_bias
from pbrlib.models.inputs import colour_input, gloss_input, map_input
from pbrlib.models.roles import MapDeclaration
from pbrlib.seeds import uniform
from pbrlib.tasks.supervised import Example, SupervisedPlayer, add_loss, logits_of, side_by_side
from pbrlib.tasks.taskspec import AlbedoSpec, GlossInput, MapSpec
from pbrlib.train.task import Turn, Turns


def map_network(spec: AlbedoSpec | MapSpec, *, condition_channels: int) -> MapDeclaration:
    """Return the declaration of a map task's network."""
    return MapDeclaration(
        role=spec.kind,
        model=spec.model,
        condition_channels=condition_channels,
        use_normal=spec.kind == "metallic" and spec.use_normal,
        use_gloss=isinstance(spec, GlossInput) and bool(spec.use_gloss),
    )


class MapTask:
    """Learns one map in [0, 1] from the old texture; ``chain`` holds the frozen networks."""

    def __init__(
        self,
        spec: AlbedoSpec | MapSpec,
        *,
        chain: Chain,
        loss: LossSpec,
        category: CategorySpec | None = None,
    ) -> None:
        self.role = spec.kind
        self.chain = chain
        self.category = category
        self.declared = map_network(spec, condition_channels=chain.segmentation.feature_channels)
        self.gloss_dropout = spec.gloss_dropout or 0.0 if isinstance(spec, GlossInput) else 0.0
        self.network = build_network(self.declared)
        if spec.kind == "metallic":
            assert not isinstance(spec.initial_share, str), "initial_share must be measured before"
            init_head_bias(self.network, spec.initial_share)
        recipe = Recipe(loss, LossContext(class_weights=None, classes=CLASSES))
        self.players = (SupervisedPlayer(self.declared, network=self.network, recipe=recipe),)

    @torch.no_grad()
    def condition(self, batch: Batch) -> Condition:
        """Return the frozen SegFormer's probabilities and features for a batch."""
        return self.chain.condition(batch.maps["diffuse"], batch.maps["normal"])

    @torch.no_grad()
    def inputs(self, batch: Batch, *, condition: Condition, gloss_dropout: float) -> Tensor:
        """Build the network's input; this runs the frozen albedo network."""
        diffuse, normal, reads = batch.maps["diffuse"], batch.maps["normal"], self.declared.inputs
        if self.role == "albedo":
            return colour_input(diffuse, normal)
        given = {
            "colour": self.chain.albedo_of(diffuse, normal, condition) if "colour" in reads else None,
            "normal": normal,
            "classes": condition.probabilities,
            "relief": batch.maps.get("relief"),
            "gloss": shown_gloss(batch, dropout=gloss_dropout) if "gloss" in reads else None,
        }
        return map_input(self.declared, given)

    def prepare(self, batch: Batch, *, training: bool) -> Example:
        """Build the map network's input and the target of its loss."""
        condition = self.condition(batch)
        if training and self.category:
            batch, condition = self._with_confident_classes(batch, condition, self.category)
        gloss_dropout = self.gloss_dropout if training else 0.0
        x = self.inputs(batch, condition=condition, gloss_dropout=gloss_dropout)
        target = LossTarget(
            map=batch.maps[self.role],
            labels=None,
            valid=batch.valid,
            normal=batch.maps["normal"],
            regions=batch.regions,
        )
        if TARGETS[self.role].ignores_seams:
            target = replace(target, valid=target.ignores_seams)
        return Example(x=x, condition=condition.features, target=target)

    @torch.no_grad()
    def _with_confident_classes(
        self, batch: Batch, condition: Condition, spec: CategorySpec
    ) -> tuple[Batch, Condition]:
        """Augment unlabelled samples by their confidently predicted class, and predict those again."""
        labels = batch.classes.tolist()
        if IGNORE not in labels:
            return batch, condition
        if batch.regions is not None:  # a mosaic has several materials, which were augmented one by one
            mosaics = batch.regions.flatten(1).any(dim=1).tolist()
            labels = [None if mosaic else label for mosaic, label in zip(mosaics, labels, strict=True)]
        sure = predicted_classes(condition.probabilities, confidence=spec.confidence)
        unlabelled = [c if label == IGNORE else IGNORE for c, label in zip(sure, labels, strict=True)]
        changes = draw_changes(unlabelled, seeds=batch.seeds.tolist(), spec=spec)
        if not changes:
            return batch, condition
        batch = replace(batch, maps=apply_changes(batch.maps, changes))
        index = torch.tensor(list(changes)).to(batch.maps["diffuse"].device)
        again = self.chain.condition(*(batch.maps[name][index] for name in ("diffuse", "normal")))
        return batch, Condition(
            probabilities=condition.probabilities.index_copy(0, index, again.probabilities),
            features=condition.features.index_copy(0, index, again.features),
        )

    def turns(self, batch: Batch, *, awake: Collection[str]) -> Turns:
        """Yield the only turn: the example of the network."""
        yield Turn(self.players[0].name, self.prepare(batch, training=True))

    def predict(self, batch: Batch) -> Float[Tensor, "n c h w"]:
        """Predict the map of whole textures in [0, 1]; sides must be multiples of the chain's stride."""
        return logits_of(self.network, self.prepare(batch, training=False)).float().sigmoid()

    def evaluate(self, batch: Batch) -> Sums:
        """Compute L1, RMSE, SSIM and the loss of one texture."""
        example = self.prepare(batch, training=False)
        logits = logits_of(self.network, example)
        sums = map_metrics(logits.float().sigmoid(), batch.maps[self.role], batch.valid, prefix=self.role)
        add_loss(sums, self.players[0].recipe, logits, example.target, role=self.role)
        return sums

    def picture(self, batch: Batch) -> Float[Tensor, "3 h w"]:
        """Return diffuse, prediction and truth side by side."""
        prediction = self.predict(batch)
        return side_by_side(batch.maps["diffuse"][0], prediction[0], batch.maps[self.role][0])


def shown_gloss(batch: Batch, *, dropout: float) -> Float[Tensor, "n 2 h w"]:
    """Build the gloss input with dropout per sample, drawn from the samples' own seeds."""
    present = batch.present["gloss"]
    kept = [uniform(seed, "gloss") >= dropout for seed in batch.seeds.tolist()]
    return gloss_input(batch.maps["gloss"], shown=present & torch.tensor(kept, device=present.device))
