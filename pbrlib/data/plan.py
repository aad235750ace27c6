"""Index, phase and seed to a draw plan: which sample, window and seed at every position of every step.

A pure function: the plan does not know how many workers will run it, so a step's global batch is the
same for any number of them, before and after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import Field

from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import DataError
from pbrlib.maps import CLASSES
from pbrlib.seeds import mix
from pbrlib.spec import Spec


class SamplerSpec(Spec):
    """Weighted sampling with replacement: ``max(minority_fraction ** exponent, floor)``, mean 1."""

    exponent: float = Field(default=0.4, gt=0.0)
    floor: float = Field(default=0.3, gt=0.0, le=1.0)


class BalanceSpec(Spec):
    """What counters the rarity of classes. Without a sampler every sample of a source is drawn equally often.

    ``class_weights`` switches w_c = 1 / sqrt(pixel share), mean 1 over the classes present, in the loss.
    ``minority`` names the minority classes; None computes them from the index (share under half of the
    median share).
    """

    sampler: SamplerSpec | None = None
    class_weights: bool = True
    minority: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PlanRequest:
    """What a plan depends on besides the index: the phase's figures and the run's seed."""

    mix: Mapping[str, float]
    crop: int
    batch: int
    epochs: int
    maps: tuple[str, ...]
    balance: BalanceSpec
    seed: int
    phase: str
    steps_per_epoch: int | None = None


@dataclass(frozen=True)
class DrawPlan:
    """A phase's draws, ordered by step and position, and how they divide into epochs.

    ``table`` has the columns step, position, sample (row of the index), y, x, crop and seed (uint64).
    ``left_out`` counts the training textures that the phase cannot use, by reason.
    """

    table: pa.Table
    steps_per_epoch: int
    total_steps: int
    batch: int
    left_out: Mapping[str, int]

    def rows_of(self, *, rank: int, world: int, first_step: int) -> pa.Table:
        """The draws of one rank from a step on: an equal consecutive part of every global batch.

        Parts differ by at most one draw where the world does not divide the batch.
        """
        start, stop = share(self.batch, rank=rank, world=world)
        positions = np.concatenate(
            [
                np.arange(step * self.batch + start, step * self.batch + stop)
                for step in range(first_step, self.total_steps)
            ]
            or [np.arange(0)]
        )
        return self.table.take(pa.array(positions))


def share(total: int, *, rank: int, world: int) -> tuple[int, int]:
    """The half-open range of ``total`` items that belongs to one rank."""
    return rank * total // world, (rank + 1) * total // world


def minority_classes(class_pixels: Sequence[int]) -> tuple[int, ...]:
    """The classes present whose pixel share is under half of the median share of the classes present."""
    pixels = np.asarray(class_pixels, dtype=np.float64)
    present = pixels > 0
    if not present.any():
        return ()
    threshold = 0.5 * np.median(pixels[present])
    return tuple(int(c) for c in np.flatnonzero(present & (pixels < threshold)))


def class_weights(class_pixels: Sequence[int]) -> np.ndarray:
    """w_c = 1 / sqrt(share of c), mean 1 over the classes present; an absent class weighs 1. Shape (K,)."""
    pixels = np.asarray(class_pixels, dtype=np.float64)
    weights = np.ones_like(pixels)
    present = pixels > 0
    if present.any():
        raw = 1.0 / np.sqrt(pixels[present] / pixels.sum())
        weights[present] = raw / raw.mean()
    return weights


def sampler_weights(rows: Sequence[IndexRow], *, spec: SamplerSpec, minority: Sequence[int]) -> np.ndarray:
    """One weight per row, mean 1: ``max(minority_fraction ** exponent, floor)``. Shape (n,)."""
    pixels = np.asarray([row.class_pixels for row in rows], dtype=np.float64).reshape(len(rows), len(CLASSES))
    fraction = pixels[:, list(minority)].sum(axis=1) / np.maximum(pixels.sum(axis=1), 1.0)
    weights = np.maximum(fraction**spec.exponent, spec.floor)
    normalised: np.ndarray = weights / weights.mean()
    return normalised


def usable(rows: Sequence[IndexRow], *, maps: Sequence[str], crop: int) -> tuple[list[int], dict[str, int]]:
    """The training rows that a phase can draw, and how many it cannot, by reason.

    A texture smaller than the crop is drawn where it tiles (it wraps) and left out otherwise.
    """
    kept: list[int] = []
    left_out: dict[str, int] = {}
    for number, row in enumerate(rows):
        if row.split != "train":
            continue
        missing = [name for name in maps if name not in row.maps]
        if missing:
            reason = f"no {', '.join(missing)}"
        elif not row.tileable and min(row.height, row.width) < crop:
            reason = f"smaller than {crop} px and not tileable"
        else:
            kept.append(number)
            continue
        left_out[reason] = left_out.get(reason, 0) + 1
    return kept, left_out


def apportion(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers in proportion to ``shares`` that sum to ``total`` (largest remainder)."""
    scale = total / sum(shares.values())
    counts = {name: int(share * scale) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name] * scale)
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def make_plan(rows: Sequence[IndexRow], request: PlanRequest) -> DrawPlan:
    """Draws every step of a phase.

    One epoch is as many draws as there are usable training textures, rounded up to whole batches (or
    ``steps_per_epoch`` batches), divided exactly by the mix. Raises DataError when a source of the mix
    has no usable texture.
    """
    kept, left_out = usable(rows, maps=request.maps, crop=request.crop)
    pools = {name: [i for i in kept if rows[i].source == name] for name in request.mix}
    for name, pool in pools.items():
        if not pool:
            known = ", ".join(sorted({row.source for row in rows})) or "none"
            reasons = (
                "; ".join(f"{count} with {reason}" for reason, count in left_out.items())
                or "nothing left out"
            )
            raise DataError(
                f"phases.{request.phase}.data.{name}: no usable training texture of this source "
                f"(sources in the shard set: {known}; {reasons}). Prepare such textures or change the mix."
            )
    drawable = sum(len(pool) for pool in pools.values())
    steps = request.steps_per_epoch or -(-drawable // request.batch)
    weights = _pool_weights(rows, pools, request.balance)
    samples = np.concatenate(
        [_epoch(pools, weights, request, epoch=e, draws=steps * request.batch) for e in range(request.epochs)]
    )
    total = steps * request.epochs
    table = _windows(rows, samples, request, total=total)
    return DrawPlan(
        table=table, steps_per_epoch=steps, total_steps=total, batch=request.batch, left_out=left_out
    )


def _pool_weights(
    rows: Sequence[IndexRow], pools: Mapping[str, list[int]], balance: BalanceSpec
) -> dict[str, np.ndarray | None]:
    if balance.sampler is None:
        return dict.fromkeys(pools)
    everything = [rows[i] for pool in pools.values() for i in pool]
    if balance.minority is None:
        minority = minority_classes(np.sum([row.class_pixels for row in everything], axis=0).tolist())
    else:
        minority = tuple(CLASSES.index(name) for name in balance.minority)
    return {
        name: sampler_weights([rows[i] for i in pool], spec=balance.sampler, minority=minority)
        for name, pool in pools.items()
    }


def _epoch(
    pools: Mapping[str, list[int]],
    weights: Mapping[str, np.ndarray | None],
    request: PlanRequest,
    *,
    epoch: int,
    draws: int,
) -> np.ndarray:
    """The samples of one epoch in order. Shape (draws,)."""
    rng = np.random.default_rng(mix(request.seed, request.phase, "epoch", epoch))
    parts = []
    for name, count in apportion(draws, request.mix).items():
        pool, weight = np.asarray(pools[name]), weights[name]
        if weight is None:
            rounds = [rng.permutation(pool) for _ in range(-(-count // len(pool)))]
            parts.append(np.concatenate([np.arange(0), *rounds])[:count])
        else:
            parts.append(rng.choice(pool, size=count, p=weight / weight.sum()))
    order: np.ndarray = rng.permutation(np.concatenate(parts)).astype(np.int64)
    return order


def _windows(rows: Sequence[IndexRow], samples: np.ndarray, request: PlanRequest, *, total: int) -> pa.Table:
    """A window for every draw: anywhere where the texture tiles (it wraps), inside it elsewhere."""
    rng = np.random.default_rng(mix(request.seed, request.phase, "windows"))
    u, v = rng.random((2, len(samples)))
    tileable = np.asarray([row.tileable for row in rows])[samples]
    height = np.asarray([row.height for row in rows])[samples]
    width = np.asarray([row.width for row in rows])[samples]
    y = np.floor(u * np.where(tileable, height, height - request.crop + 1)).astype(np.int32)
    x = np.floor(v * np.where(tileable, width, width - request.crop + 1)).astype(np.int32)
    step = np.repeat(np.arange(total, dtype=np.int32), request.batch)
    position = np.tile(np.arange(request.batch, dtype=np.int32), total)
    seeds = [mix(request.seed, request.phase, int(s), int(p)) for s, p in zip(step, position, strict=True)]
    return pa.table(
        {
            "step": step,
            "position": position,
            "sample": samples.astype(np.int32),
            "y": y,
            "x": x,
            "crop": np.full(len(samples), request.crop, dtype=np.int32),
            "seed": pa.array(seeds, type=pa.int64()),
        }
    )
