"""Computes the draw plan of a phase: the sample, window and seed at every position of every step.

The plan is a pure function of index, phase and seed. It does not depend on the number of workers, so the
global batch of a step is the same for any number of workers, before and after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pbrlib.data.draws.balance import Tiles, minority_of, minority_tiles, sampler_weights, tile_side
from pbrlib.data.draws.drawspec import BalanceSpec, MosaicSpec
from pbrlib.data.draws.mosaic import Layout, draw_layouts
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import DataError
from pbrlib.seeds import mix


@dataclass(frozen=True)
class PlanRequest:
    """The inputs of a plan besides the index: settings of the phase and the seed of the run."""

    mix: Mapping[str, float]
    crop: int
    batch: int
    epochs: int
    maps: tuple[str, ...]
    balance: BalanceSpec
    seed: int
    phase: str
    steps_per_epoch: int | None = None
    mosaic: MosaicSpec | None = None


@dataclass(frozen=True)
class DrawPlan:
    """The draws of a phase, ordered by step and position, and their division into epochs.

    ``table`` has the columns step, position, sample (row of the index), y, x, crop, seed, minority (whether
    the window is a minority tile), layout (a :class:`pbrlib.data.draws.mosaic.Layout`) and partners: for each
    further part of a mosaic its sample, y, x and seed.
    ``left_out`` counts the training textures that the phase cannot use, by reason.
    """

    table: pa.Table
    steps_per_epoch: int
    total_steps: int
    batch: int
    left_out: Mapping[str, int]

    def rows_of(self, *, rank: int, world: int, first_step: int) -> pa.Table:
        """Return the draws of one rank from a step on: an equal consecutive part of every global batch.

        If the world size does not divide the batch, parts differ by at most one draw.
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
    """Return the half-open range of ``total`` items that belongs to one rank."""
    return rank * total // world, (rank + 1) * total // world


def usable_rows(
    rows: Sequence[IndexRow], *, maps: Sequence[str], crop: int
) -> tuple[list[int], dict[str, int]]:
    """Return the training rows that a phase can draw, and the number of unusable rows by reason.

    A texture smaller than the crop is usable if it is tileable, since windows wrap around its border.
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
    """Return integers in proportion to ``shares`` that sum to ``total`` (largest remainder method)."""
    scale = total / sum(shares.values())
    counts = {name: int(share * scale) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name] * scale)
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def make_plan(rows: Sequence[IndexRow], request: PlanRequest) -> DrawPlan:
    """Compute the plan of a phase.

    An epoch has as many draws as there are usable training textures, rounded up to complete batches, or
    ``steps_per_epoch`` batches. The mix divides the draws of an epoch exactly. Raises DataError if a source
    of the mix has no usable texture.
    """
    kept, left_out = usable_rows(rows, maps=request.maps, crop=request.crop)
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
    sources = _sources(rows, pools, request)
    chosen = np.concatenate(
        [_epoch(sources, request, epoch=e, draws=steps * request.batch) for e in range(request.epochs)]
    )
    total = steps * request.epochs
    table = _with_mosaics(_windows(rows, chosen, request, total=total), rows, pools, request)
    return DrawPlan(
        table=table, steps_per_epoch=steps, total_steps=total, batch=request.batch, left_out=left_out
    )


@dataclass(frozen=True)
class _Source:
    """The textures of a source, with their sampler weights and minority tiles."""

    pool: np.ndarray
    weights: np.ndarray | None
    tiles: Tiles | None


def _sources(
    rows: Sequence[IndexRow], pools: Mapping[str, list[int]], request: PlanRequest
) -> dict[str, _Source]:
    balance = request.balance
    minority = minority_of([rows[i] for pool in pools.values() for i in pool], balance)
    weights: dict[str, np.ndarray | None] = dict.fromkeys(pools)
    if balance.sampler is not None:
        for name, pool in pools.items():
            weights[name] = sampler_weights([rows[i] for i in pool], spec=balance.sampler, minority=minority)
    tiles = minority_tiles(rows, crop=request.crop, minority=minority) if balance.minority_tiles else None
    return {
        name: _Source(np.asarray(pool), weights[name], tiles.among(pool) if tiles else None)
        for name, pool in pools.items()
    }


def _epoch(sources: Mapping[str, _Source], request: PlanRequest, *, epoch: int, draws: int) -> np.ndarray:
    """Return the draws of an epoch, shape (draws, 3): sample, and the corner of its minority tile or -1."""
    rng = np.random.default_rng(mix(request.seed, request.phase, "epoch", epoch))
    parts = []
    for name, count in apportion(draws, request.mix).items():
        source = sources[name]
        in_tiles = _tile_draws(source, count, request.balance)
        samples = _sample_textures(source, count - in_tiles, rng)
        parts.append(np.stack([samples, *np.full((2, len(samples)), -1)], axis=1))
        if source.tiles is not None and in_tiles:
            tile = rng.integers(len(source.tiles), size=in_tiles)
            parts.append(
                np.stack([source.tiles.row[tile], source.tiles.y[tile], source.tiles.x[tile]], axis=1)
            )
    together = np.concatenate(parts).astype(np.int64)
    order: np.ndarray = together[rng.permutation(len(together))]
    return order


def _tile_draws(source: _Source, count: int, balance: BalanceSpec) -> int:
    """Return the number of a source's draws that are minority tiles: the declared share, rounded to draws."""
    if not (balance.minority_tiles and source.tiles):
        return 0
    return apportion(count, {"tile": balance.minority_tiles, "whole": 1.0 - balance.minority_tiles})["tile"]


def _sample_textures(source: _Source, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw textures by weight with replacement, or without weights in random rounds. Shape (count,)."""
    if source.weights is not None:
        return rng.choice(source.pool, size=count, p=source.weights / source.weights.sum())
    rounds = [rng.permutation(source.pool) for _ in range(-(-count // len(source.pool)))]
    return np.concatenate([np.arange(0), *rounds])[:count]


def _windows(rows: Sequence[IndexRow], chosen: np.ndarray, request: PlanRequest, *, total: int) -> pa.Table:
    """Draw a window for every draw: anywhere in a tileable texture, else inside of the texture.

    The window of a minority tile is inside of the tile, which it fills if the crop has the same side.
    """
    rng = np.random.default_rng(mix(request.seed, request.phase, "windows"))
    samples, corners = chosen[:, 0], chosen[:, 1:].T
    minority = corners[0] >= 0
    num_corners = np.where(
        minority, tile_side(request.crop) - request.crop + 1, _num_corners(rows, samples, crop=request.crop)
    )
    places = np.floor(rng.random(num_corners.shape) * num_corners) + np.where(minority, corners, 0)
    y, x = places.astype(np.int32)
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
            "minority": minority,
        }
    )


def _num_corners(rows: Sequence[IndexRow], samples: np.ndarray, *, crop: int) -> np.ndarray:
    """Return the number of possible corners of a window along y and x, shape (2, n)."""
    tileable = np.asarray([row.tileable for row in rows])[samples]
    size = np.asarray([(row.height, row.width) for row in rows])[samples].T
    num_corners: np.ndarray = np.where(tileable, size, size - crop + 1)
    return num_corners


PARTNERS = pa.list_(
    pa.struct([("sample", pa.int32()), ("y", pa.int32()), ("x", pa.int32()), ("seed", pa.int64())])
)


def _with_mosaics(
    table: pa.Table, rows: Sequence[IndexRow], pools: Mapping[str, list[int]], request: PlanRequest
) -> pa.Table:
    """Add the layout of every draw, and the further parts of mosaics from textures of their sources."""
    layouts = np.zeros(table.num_rows, dtype=np.int8)
    partners: list[list[dict[str, int]]] = [[] for _ in layouts]
    if spec := request.mosaic:
        belongs = np.asarray([row.source in spec.sources for row in rows])
        layouts = draw_layouts(
            spec,
            belongs[table["sample"].to_numpy()],
            whole=table["minority"].to_numpy(),
            epochs=request.epochs,
            seed=mix(request.seed, request.phase),
        )
        pool = [number for name in spec.sources for number in pools.get(name, [])]
        rng = np.random.default_rng(mix(request.seed, request.phase, "partners"))
        owners = np.repeat(np.arange(len(layouts)), [Layout(layout).parts - 1 for layout in layouts])
        samples = rng.choice(pool, size=len(owners)) if len(owners) else np.arange(0)
        num_corners = _num_corners(rows, samples, crop=request.crop)
        places = np.floor(rng.random(num_corners.shape) * num_corners).astype(int)
        seeds = table["seed"].to_pylist()
        for owner, sample, y, x in zip(owners, samples.tolist(), *places.tolist(), strict=True):
            seed = mix(seeds[owner], "partner", len(partners[owner]))
            partners[owner].append({"sample": sample, "y": y, "x": x, "seed": seed})
    table = table.append_column("layout", pa.array(layouts))
    return table.append_column("partners", pa.array(partners, type=PARTNERS))
