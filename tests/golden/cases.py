"""The golden runs: materials made of integers, and a few steps of every kind of phase.

The generated materials of the program are floating-point pictures, whose bytes differ between instruction
sets. These are integers of numpy's frozen Mersenne Twister, so raw batches are the same bytes everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pbrlib.data.materials.material import Material
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.maps import CLASSES, MAPS

OLD = ("diffuse", "gloss", "albedo", "normal", "roughness", "metallic", "ao", "height", "mask", "relief")
MODERN = OLD[2:]
BLOCK = 32
"""Side of the patches of one class and colour, in pixels."""


@dataclass(frozen=True)
class Case:
    """One curriculum, as parsed from YAML, and how it is trained.

    Attributes:
        curriculum: What is learned; donors are curricula before it.
        batch_per_device: The largest micro-batch; None is one micro-batch a step.
        stop_before: The run ends when it asks for the batch of this step, and is started again.
        ranks: Processes that train it together.
    """

    curriculum: dict[str, Any]
    batch_per_device: int | None = None
    stop_before: int | None = None
    ranks: int = 1


def make_shards(root: Path) -> ShardSet:
    """Ten textures to train on, two for validation; half of them old ones with a diffuse and a gloss."""
    info, rows = write_shard(
        root / shard_name(version=1, ordinal=0),
        (_material(number) for number in range(12)),
        split_for=lambda material: "val" if material.id in ("old5", "modern11") else "train",
    )
    publish(root, shards=[info], rows=[rows], previous=None)
    return ShardSet.open(root)


def _material(number: int) -> Material:
    rng = np.random.RandomState(number)
    source, maps = ("old", OLD) if number < 6 else ("modern", MODERN)
    size = (128, 128) if number in (5, 11) else (192, 160)
    several = number % 3 == 0
    own = number % len(CLASSES)
    return Material(
        id=f"{source}{number}",
        family=f"family{number}",
        source=source,
        label=None if several else CLASSES[own],
        tileable=number % 2 == 0,
        licence="CC0-1.0",
        attribution="nobody",
        maps={
            name: _map(name, size, rng, classes=(own, (own + 2) % 7) if several else (own,)) for name in maps
        },
    )


def _map(name: str, size: tuple[int, int], rng: np.random.RandomState, *, classes: tuple[int, ...]) -> Any:
    """Patches with noise on them: on even surfaces the sign of a gradient would be one of rounding errors."""
    kind = MAPS[name]
    grid = (size[0] // BLOCK, size[1] // BLOCK, kind.channels)
    if name == "mask":
        patches = np.array(classes)[rng.randint(len(classes), size=grid)]
    else:
        least = np.array([64, 64, 200])[: kind.channels] if name == "normal" else 0
        patches = least + (rng.randint(32, 192, size=grid) - least) % (224 - least)
    stored = patches.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    if name != "mask":
        stored = (stored + rng.randint(-32, 32, size=stored.shape)) * (kind.maximum // 255)
    return stored.astype(kind.dtype)


# AdamW makes a whole step of a gradient that is nothing but rounding errors, and weights would differ by the
# rate between instruction sets. Clipped to 1e-8, AdamW's epsilon, a step is in proportion to its gradient.
PHASE = {"epochs": 1, "crop": 64, "batch": 5, "segment_steps": 1, "grad_clip": 1e-8}
TURNED = {"flip": True, "rotate90": True}
ADAMW = {"kind": "adamw", "lr": 0.05, "weight_decay": 0.01}
BALANCE = {
    "sampler": {"exponent": 0.4, "floor": 0.3},
    "minority": ["metal", "wood"],
    "minority_tiles": 0.4,
}
MOSAIC = {"sources": ["modern"], "two": 0.4, "four": 0.3}
CATEGORY = {
    "p": 0.7,
    "confidence": 0.1,
    "may": {
        "wood": {"brightness": 0.1, "hue": 0.05, "grain": 0.15},
        "stone": {"brightness": 0.08, "dirt": 0.3},
        "metal": {"specular": 0.15},
        "fabric": {"hue": 0.12, "saturation": 0.12, "warp": 0.01},
        "ground": {"brightness": 0.1, "dirt": 0.3},
    },
}
SEGFORMER = {
    "backbone": "custom",
    "hidden_sizes": [4, 4, 8, 8],
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "decoder_width": 8,
}
UNET = {"width": 4, "depth": 2, "norm_groups": 2, "film_dropout": 0.2}
SMALL = {**UNET, "depth": 1}

S0 = {
    **PHASE,
    "steps_per_epoch": 3,
    "data": {"old": 0.6, "modern": 0.4},
    "balance": {**BALANCE, "class_weights": True, "mask_dropout": {"stone": 0.2, "wood": 0.2}},
    "mosaic": MOSAIC,
    "augment": {**TURNED, "sky_photometric": {"p": 0.6, "preset": "rev7"}},
    "optimizer": ADAMW,
    "schedule": {"kind": "one_cycle", "pct_start": 0.4, "div_factor": 4, "final": 1e-3},
    "loss": {
        "cross_entropy": 0.6,
        "focal": {"weight": 0.3, "gamma": {"stone": 2.0, "wood": 1.5, "fabric": 0.5}},
        "dice": 0.1,
    },
}
S1 = {
    **PHASE,
    "starts_from": "S0",
    "steps_per_epoch": 2,
    "data": {"old": 1.0},
    "augment": TURNED,
    "optimizer": {
        **ADAMW,
        "layer_decay": 0.9,
        "groups": {"stem": {"match": "encoder.stages.0.*", "freeze": True}},
    },
    "schedule": {"kind": "cosine", "final": 1e-3},
    "loss": {"cross_entropy": 0.8, "dice": 0.2},
}
A1 = {
    **PHASE,
    "steps_per_epoch": 3,
    "data": {"old": 0.5, "modern": 0.5},
    "balance": BALANCE,
    "mosaic": MOSAIC,
    "augment": {
        **TURNED,
        "sky_photometric": {"p": 0.8, "preset": "v4"},
        "colour_jitter": {"hue": 0.05, "saturation": 0.05},
        "category": CATEGORY,
    },
    "optimizer": {
        **ADAMW,
        "groups": {"film": {"match": "film.*", "lr": 0.06}, "head": {"match": "head.*", "final": 0.02}},
    },
    "schedule": {"kind": "one_cycle", "pct_start": 0.4, "div_factor": 25, "final": 1e-3},
    "loss": {"l1": 1.0, "ms_ssim": 0.15, "lpips": {"weight": 0.05, "backbone": "random", "net": "squeeze"}},
}
ROUGHNESS = {
    **PHASE,
    "starts_from": "albedo",
    "steps_per_epoch": 4,
    "segment_steps": 2,
    "data": {"old": 0.7, "modern": 0.3},
    "augment": TURNED,
    "optimizer": {
        **ADAMW,
        "groups": {"encoder": {"match": "encoder.*", "lr": 0.02, "layer_decay": 0.9}},
    },
    "schedule": {"kind": "cosine", "final": 1e-3},
    "loss": {"focal_relative_l1": {"weight": 1.0, "gamma": 1.0}, "sobel": 0.05, "laplacian_pyramid": 0.1},
}
METALLIC = {
    **PHASE,
    "starts_from": "albedo",
    "steps_per_epoch": 3,
    "data": {"old": 0.4, "modern": 0.6},
    "balance": BALANCE,
    "mosaic": MOSAIC,
    "augment": {**TURNED, "category": CATEGORY},
    "optimizer": ADAMW,
    "schedule": {"kind": "constant"},
    "loss": {"focal_bce": {"weight": 1.0, "alpha": 0.25}, "focal_tversky": 0.7, "sobel": 0.05, "l1": 0.05},
}
HEIGHT = {
    **PHASE,
    "steps_per_epoch": 3,
    "data": {"old": 0.5, "modern": 0.5},
    "balance": BALANCE,
    "mosaic": MOSAIC,
    "augment": {**TURNED, "colour_jitter": {"hue": 0.05, "saturation": 0.05}},
    "optimizer": {**ADAMW, "layer_decay": 0.8},
    "schedule": {"kind": "warmup_cosine", "warmup_epochs": 0.4, "start_factor": 0.3, "final_factor": 0.05},
    "loss": {
        "l1": 1.0,
        "grad_diff": 0.25,
        "tv": 0.06,
        "normal_reproj": {"weight": 0.15, "final_weight": 0.1},
        "ms_ssim": 0.06,
        "laplacian_pyramid": 0.1,
    },
}
AO = {
    **PHASE,
    "steps_per_epoch": 2,
    "batch": 3,
    "data": {"modern": 1.0},
    "optimizer": ADAMW,
    "schedule": {"kind": "constant"},
    "loss": {"l1": 1.0, "sobel": 0.15, "bce": {"weight": 0.2, "pos_weight": 1.5}},
}


def segmentation(name: str, phases: dict[str, Any]) -> dict[str, Any]:
    """The curriculum of a segmentation."""
    task = {"kind": "segmentation", "merge": {"ceramic": "stone"}, "model": SEGFORMER}
    return {"name": name, "seed": 7, "task": task, "phases": phases}


def map_of(
    kind: str, phase: dict[str, Any], *, name: str = "", scale: Any = None, **task: Any
) -> dict[str, Any]:
    """The curriculum of a map, of one phase."""
    task = {"kind": kind, "model": UNET, **task}
    return {"name": name or kind, "seed": 7, "batch_scale": scale, "task": task, "phases": {"only": phase}}


CASES = (
    Case(segmentation("segformer", {"S0": S0, "S1": S1}), batch_per_device=2),
    Case(map_of("albedo", A1), batch_per_device=3),
    Case(map_of("roughness", ROUGHNESS, use_gloss=True, gloss_dropout=0.3), stop_before=3),
    Case(map_of("metallic", METALLIC, use_normal=True, initial_share="measured")),
    Case(map_of("height", HEIGHT, model=SMALL)),
    Case(map_of("ao", AO, model=SMALL, scale={"factor": 2, "learning_rate": "sqrt"})),
    Case(segmentation("segformer-ranks", {"S0": S0}), ranks=2),
    Case(map_of("metallic", METALLIC, name="metallic-ranks"), batch_per_device=2, ranks=2),
)
"""Every kind of phase; the later ones begin from networks of the earlier ones, or are conditioned on them."""
