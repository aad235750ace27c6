"""Renders the first draws of a phase, with the real plan and augmentation."""

from __future__ import annotations

from typing import Any

from pbrlib.curriculum.draws import phase_plan
from pbrlib.curriculum.scale import scaled
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.augment.pipeline import augment
from pbrlib.data.augment.preview import preview_sheet
from pbrlib.data.draws.collate import collate
from pbrlib.data.draws.fetch import fetch, parts_of
from pbrlib.data.draws.mosaic import Layout
from pbrlib.data.shards.dataset import DataSet
from pbrlib.maps import MASK
from pbrlib.tasks.taskspec import maps_read, target_map


def preview(curriculum: Curriculum, phase: str, *, shards: DataSet, count: int) -> bytes:
    """Render the first ``count`` draws of a phase before and after augmentation, as a PNG file.

    Masks are always shown. The augmentation of samples without a label is not shown, since it needs a trained
    segmentation.

    Raises:
        DataError: The shard set has no texture for the phase, or is damaged.
    """
    curriculum = scaled(curriculum)
    spec = curriculum.phases[phase]
    plan = phase_plan(curriculum, phase, shards.rows)
    maps = tuple(dict.fromkeys((*maps_read(curriculum.task), MASK.name)))
    draws = plan.table.slice(0, count)
    raw = collate(fetch(draws, shards, maps), shards, maps=maps)
    before = augment(raw, AugmentSpec(bake=spec.augment.bake), device="cpu")
    after = augment(raw, spec.augment, device="cpu")
    shown = dict.fromkeys(("diffuse", "albedo", "normal", MASK.name, target_map(curriculum.task)))
    return preview_sheet(
        before,
        after,
        maps=[name for name in shown if name in after.maps],
        captions=[_caption(draw, shards) for draw in draws.to_pylist()],
    )


def _caption(draw: dict[str, Any], shards: DataSet) -> str:
    """Return the caption of a draw: its materials with their classes and windows."""
    parts = []
    for part in parts_of(draw):
        row = shards.rows[part["sample"]]
        parts.append(f"{row.id} ({row.label or 'several or unknown'}) at {part['y']}, {part['x']}")
    layout = Layout(draw["layout"])
    kind = "" if layout is Layout.SINGLE else f"   {layout.name.lower().replace('_', ' ')}"
    minority = "   minority tile" if draw["minority"] else ""
    return f"{' + '.join(parts)}   {draw['crop']} px{kind}{minority}"
