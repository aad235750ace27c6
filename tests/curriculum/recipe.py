"""The tables of the recipe, typed by hand from its text; nothing here is read from the configurations.

A rate stands as (first, peak, last) of its schedule, for each part of the network; an absent part is frozen.
"""

from __future__ import annotations

from typing import Any

Rates = tuple[float, float, float]

WAVES = [["segformer"], ["albedo"], ["roughness", "metallic", "height", "ao"]]

PHASES = {
    "segformer": ["S0", "S1", "S2", "S3", "S4"],
    "albedo": ["A1", "A2", "A3", "A4"],
    "roughness": ["M0", "M1"],
    "metallic": ["M0", "M1"],
    "height": ["P0", "P1", "P2", "P3"],
    "ao": ["P0", "P1", "P2", "P3"],
}

CLASS_ORDER = ["ceramic", "fabric", "ground", "leather", "metal", "stone", "wood"]

INPUTS = {
    "segformer": {"colour": 3, "normal": 3},
    "albedo": {"colour": 3, "normal": 3},
    "roughness": {"colour": 3, "normal": 3, "classes": 7},
    "metallic": {"colour": 3, "classes": 7},
    "height": {"normal": 3, "relief": 2},
    "ao": {"normal": 3, "relief": 2},
}

OUTPUTS = {
    "segformer": dict.fromkeys(CLASS_ORDER, 1),
    "albedo": {"albedo": 3},
    "roughness": {"roughness": 1},
    "metallic": {"metallic": 1},
    "height": {"height": 1},
    "ao": {"ao": 1},
}

FROZEN_BEFORE = {
    "segformer": {},
    "albedo": {"segformer": "segformer"},
    "roughness": {"segformer": "segformer", "albedo": "albedo"},
    "metallic": {"segformer": "segformer", "albedo": "albedo"},
    "height": {"segformer": "segformer"},
    "ao": {"segformer": "segformer"},
}

# crop, batch, epochs
SIZES = {
    "S0": (256, 40, 30),
    "S1": (512, 12, 15),
    "S2": (768, 12, 12),
    "S3": (1024, 6, 6),
    "S4": (1024, 6, 6),
    "A1": (256, 16, 45),
    "A2": (512, 8, 14),
    "A3": (768, 4, 12),
    "A4": (1024, 4, 3),
    "M0": (768, 4, 6),
    "M1": (1024, 4, 12),
    "P0": (256, 16, 8),
    "P1": (512, 8, 8),
    "P2": (768, 4, 14),
    "P3": (1024, 4, 5),
}

STARTS_FROM = {
    "S0": None,
    "S1": "S0",
    "S2": "S1",
    "S3": "S2",
    "S4": "S3",
    "A1": None,
    "A2": "A1",
    "A3": "A2",
    "A4": "A3",
    "M0": "albedo.A4",
    "M1": "M0",
    "P0": None,
    "P1": "P0",
    "P2": "P1",
    "P3": "P2",
}

SKYRIM = {"skyrim": 1.0}
HALF_HALF = {"skyrim": 0.5, "matsynth": 0.5}
DATA = {name: HALF_HALF if name.startswith("P") else SKYRIM for name in SIZES}

SEGFORMER_STAGES = ("encoder.stages.0", "encoder.stages.1", "encoder.stages.2", "encoder.stages.3")
UNET_STAGES = (*SEGFORMER_STAGES, "encoder.stages.4")


def stages(*rates: Rates) -> dict[str, Rates]:
    """Rates of the encoder's stages, the first one's first."""
    return dict(zip(UNET_STAGES, rates, strict=False))


def same(names: tuple[str, ...], rates: Rates) -> dict[str, Rates]:
    return dict.fromkeys(names, rates)


RATES: dict[str, dict[str, Rates]] = {
    "S0": same((*SEGFORMER_STAGES, "decoder", "head"), (1e-4, 4e-4, 1e-5)),
    "S1": {
        "encoder.stages.1": (8.1e-5, 8.1e-5, 6.48e-6),
        "encoder.stages.2": (9e-5, 9e-5, 7.2e-6),
        "encoder.stages.3": (1e-4, 1e-4, 8e-6),
        **same(("decoder", "head"), (1e-4, 1e-4, 8e-6)),
    },
    "S2": {
        **stages(
            (5.832e-5, 5.832e-5, 5.832e-6),
            (6.48e-5, 6.48e-5, 6.48e-6),
            (7.2e-5, 7.2e-5, 7.2e-6),
            (8e-5, 8e-5, 8e-6),
        ),
        **same(("decoder", "head"), (8e-5, 8e-5, 8e-6)),
    },
    "S3": {
        **stages(
            (3.645e-6, 3.645e-6, 1.458e-6),
            (4.05e-6, 4.05e-6, 1.62e-6),
            (4.5e-6, 4.5e-6, 1.8e-6),
            (5e-6, 5e-6, 2e-6),
        ),
        **same(("decoder", "head"), (1e-5, 1e-5, 5e-6)),
    },
    "S4": same(("decoder", "head"), (1e-5, 1e-5, 1e-6)),
    "A1": {
        **same((*UNET_STAGES, "decoder"), (8e-6, 2e-4, 1e-5)),
        "film": (1.2e-5, 3e-4, 1e-5),
        "head": (1e-5, 2.5e-4, 1e-5),
    },
    "A2": {
        **same(UNET_STAGES, (8e-6, 8e-6, 5e-6)),
        "decoder": (3e-5, 3e-5, 5e-6),
        "film": (4e-5, 4e-5, 5e-6),
        "head": (3e-5, 3e-5, 5e-6),
    },
    "A3": {
        **same(UNET_STAGES, (5e-6, 5e-6, 3e-6)),
        "decoder": (4e-5, 4e-5, 3e-6),
        "film": (5e-5, 5e-5, 3e-6),
        "head": (4e-5, 4e-5, 3e-6),
    },
    "A4": {"decoder": (2e-5, 2e-5, 2e-5), "head": (3e-5, 3e-5, 3e-5)},
    "M0": {
        **stages(
            (3.2805e-5, 3.2805e-5, 3.2805e-6),
            (3.645e-5, 3.645e-5, 3.645e-6),
            (4.05e-5, 4.05e-5, 4.05e-6),
            (4.5e-5, 4.5e-5, 4.5e-6),
            (5e-5, 5e-5, 5e-6),
        ),
        **same(("decoder", "film", "head"), (2e-4, 2e-4, 5e-6)),
    },
    "M1": {
        **stages(
            (6.561e-6, 6.561e-6, 6.561e-7),
            (7.29e-6, 7.29e-6, 7.29e-7),
            (8.1e-6, 8.1e-6, 8.1e-7),
            (9e-6, 9e-6, 9e-7),
            (1e-5, 1e-5, 1e-6),
        ),
        **same(("decoder", "film", "head"), (4e-5, 4e-5, 1e-6)),
    },
    "P0": {
        **same(UNET_STAGES, (3e-5, 1e-4, 5e-6)),
        **same(("decoder", "film", "head"), (6e-5, 2e-4, 5e-6)),
    },
    "P1": {
        **stages(
            (1.2288e-5, 4.096e-5, 2.048e-6),
            (1.536e-5, 5.12e-5, 2.56e-6),
            (1.92e-5, 6.4e-5, 3.2e-6),
            (2.4e-5, 8e-5, 4e-6),
            (3e-5, 1e-4, 5e-6),
        ),
        **same(("decoder", "film", "head"), (6e-5, 2e-4, 5e-6)),
    },
    "P2": {
        **stages(
            (9.8304e-6, 3.2768e-5, 1.6384e-6),
            (1.2288e-5, 4.096e-5, 2.048e-6),
            (1.536e-5, 5.12e-5, 2.56e-6),
            (1.92e-5, 6.4e-5, 3.2e-6),
            (2.4e-5, 8e-5, 4e-6),
        ),
        **same(("decoder", "film", "head"), (4.8e-5, 1.6e-4, 4e-6)),
    },
    "P3": same(("decoder", "film", "head"), (3e-5, 1e-4, 5e-6)),
}

# From the first stage of the encoder to the deepest.
LAYER_FACTORS = {
    "S1": (0.81, 0.9, 1.0),
    "S2": (0.729, 0.81, 0.9, 1.0),
    "S3": (0.729, 0.81, 0.9, 1.0),
    "M0": (0.6561, 0.729, 0.81, 0.9, 1.0),
    "M1": (0.6561, 0.729, 0.81, 0.9, 1.0),
    "P1": (0.4096, 0.512, 0.64, 0.8, 1.0),
    "P2": (0.4096, 0.512, 0.64, 0.8, 1.0),
}

WARM_UP = {"kind": "warmup_cosine", "warmup_epochs": 1, "start_factor": 0.3}
SCHEDULES: dict[str, dict[str, object]] = {
    "S0": {"kind": "one_cycle", "pct_start": 0.15, "div_factor": 4, "final": 1e-5},
    "S1": {"kind": "cosine", "final": 8e-6},
    "S2": {"kind": "cosine", "final": 8e-6},
    "S3": {"kind": "cosine", "final": 5e-6},
    "S4": {"kind": "cosine", "final": 1e-6},
    "A1": {"kind": "one_cycle", "pct_start": 0.2, "div_factor": 25, "final": 1e-5},
    "A2": {"kind": "cosine", "final": 5e-6},
    "A3": {"kind": "cosine", "final": 3e-6},
    "A4": {"kind": "constant"},
    "M0": {"kind": "cosine", "final": 5e-6},
    "M1": {"kind": "cosine", "final": 1e-6},
    "P0": {**WARM_UP, "final_factor": 0.05},
    "P1": {**WARM_UP, "final_factor": 0.05},
    "P2": {**WARM_UP, "final_factor": 0.05},
    "P3": {**WARM_UP, "final": 5e-6},
}

GAMMA = {
    "stone": 2.0,
    "metal": 1.5,
    "wood": 1.5,
    "fabric": 1.2,
    "ground": 1.2,
    "leather": 1.0,
    "ceramic": 0.5,
}


def weights(**terms: float) -> dict[str, dict[str, object]]:
    return {name: {"weight": weight} for name, weight in terms.items()}


ALBEDO_LOSS = {**weights(l1=1.0, ms_ssim=0.15), "lpips": {"weight": 0.05, "net": "alex"}}
HEIGHT_LOSS = weights(
    l1=1.0, grad_diff=0.25, tv=0.06, normal_reproj=0.15, ms_ssim=0.06, laplacian_pyramid=0.1
)
AO_LOSS = weights(l1=1.0, sobel=0.15, ms_ssim=0.1)
ROUGHNESS_LOSS = {
    "focal_relative_l1": {"weight": 1.0, "gamma": 1.0},
    **weights(ms_ssim=0.1, sobel=0.02),
}
METALLIC_LOSS = {
    "focal_bce": {"weight": 1.0, "alpha": 0.25, "gamma": 2.0},
    "focal_tversky": {"weight": 0.7, "false_positive": 0.7, "false_negative": 0.3, "gamma": 1.5},
    **weights(sobel=0.05, l1=0.05),
}
LOSSES: dict[str, dict[str, Any]] = {
    "segformer.S0": {**weights(cross_entropy=0.6, dice=0.1), "focal": {"weight": 0.3, "gamma": GAMMA}},
    "segformer.S1": {**weights(cross_entropy=0.6, dice=0.15), "focal": {"weight": 0.25, "gamma": GAMMA}},
    "segformer.S2": {**weights(cross_entropy=0.6, dice=0.2), "focal": {"weight": 0.2, "gamma": GAMMA}},
    "segformer.S3": weights(cross_entropy=0.8, dice=0.2),
    "segformer.S4": weights(cross_entropy=0.9, dice=0.1),
    **{f"albedo.{name}": ALBEDO_LOSS for name in ("A1", "A2", "A3", "A4")},
    **{f"roughness.{name}": ROUGHNESS_LOSS for name in ("M0", "M1")},
    **{f"metallic.{name}": METALLIC_LOSS for name in ("M0", "M1")},
    "height.P0": HEIGHT_LOSS,
    "height.P1": HEIGHT_LOSS,
    "height.P2": {**HEIGHT_LOSS, "normal_reproj": {"weight": 0.15, "final_weight": 0.10}},
    "height.P3": {**HEIGHT_LOSS, "normal_reproj": {"weight": 0.10}},
    **{f"ao.{name}": AO_LOSS for name in ("P0", "P1", "P2", "P3")},
}

TURNED = {"flip": True, "rotate90": True}
STILL = {"flip": False, "rotate90": False}


def lit(p: float) -> dict[str, object]:
    return {**TURNED, "sky_photometric": {"p": p, "preset": "rev7"}}


JITTERED = {**TURNED, "colour_jitter": {"hue": 0.05, "saturation": 0.05}}
AUGMENT: dict[str, dict[str, object]] = {
    "S0": lit(0.6),
    "S1": lit(0.6),
    "S2": lit(0.6),
    "S3": STILL,
    "S4": STILL,
    "A1": lit(0.6),
    "A2": lit(0.6),
    "A3": lit(0.3),
    "A4": lit(0.15),
    "M0": TURNED,
    "M1": STILL,
    "P0": JITTERED,
    "P1": JITTERED,
    "P2": JITTERED,
    "P3": STILL,
}

SAMPLER = {"exponent": 0.4, "floor": 0.3}
SAMPLED = ("S0", "S1", "S2", "A1", "A2", "A3", "M0", "P0", "P1", "P2")
MINORITY_TILES = {256: 0.30, 512: 0.20, 768: 0.10, 1024: None}
MASK_DROPOUT = {"S0": {"stone": 0.2, "wood": 0.2}, "S1": {"stone": 0.2, "wood": 0.2}}
MOSAICS = {
    "P0": {"sources": ["matsynth"], "two": 0.30, "four": 0.15},
    "P1": {"sources": ["matsynth"], "two": 0.25, "four": 0.10},
}

GATED = {"segformer": {"S1": "S0"}, "albedo": {"A2": "A1"}, "height": {"P1": "P0"}, "ao": {"P1": "P0"}}
GATED |= {"roughness": {"M1": "M0"}, "metallic": {"M1": "M0"}}

# Real set sizes of the recipe's author, and their steps: textures / batch, rounded up.
STEPS = {
    "segformer": (2880, {"S0": 72, "S1": 240, "S2": 240, "S3": 480, "S4": 480}),
    "albedo": (2440, {"A1": 153, "A2": 305, "A3": 610, "A4": 610}),
    "roughness": (2880, {"M0": 720, "M1": 720}),
}
