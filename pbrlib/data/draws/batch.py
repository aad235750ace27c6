"""Batches: raw ones, which are copied to the device, and decoded and augmented ones, for networks."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Int, Int64, Shaped, UInt8
from torch import Tensor

from pbrlib.data.draws.mosaic import Layout


@dataclass(frozen=True)
class RawBatch:
    """Crops in the integer types of the shards, with a row for each draw, or for each part of a mosaic.

    The length is the number of draws. ``present``, ``seeds`` and ``classes`` stay on the CPU, since the
    augmentation branches on them, and reading values back from the device would stall it.

    Attributes:
        maps: Raw maps by name; a missing map of a sample has its fill value.
        present: For each map, which samples have it.
        seeds: One seed per row; two draws of one texture have different seeds.
        ids: Ids of the samples.
        classes: Class id of each sample, or 255 if it has no class or several.
        layouts: The layout of each draw, whose parts are consecutive rows; None if every row is a draw.
        replaced: For each replaced draw, the damaged material and its problem; empty in the results of
            ``split``.
    """

    maps: dict[str, Shaped[Tensor, "n c h w"]]
    present: dict[str, Bool[Tensor, " n"]]
    seeds: Int64[Tensor, " n"]
    ids: tuple[str, ...]
    classes: Int64[Tensor, " n"]
    layouts: tuple[Layout, ...] | None = None
    replaced: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.ids if self.layouts is None else self.layouts)

    def to(self, device: torch.device | str) -> RawBatch:
        """Return a copy with the maps on the device."""
        return replace(self, maps={name: x.to(device, non_blocking=True) for name, x in self.maps.items()})

    def split(self, num: int) -> list[RawBatch]:
        """Split the batch into exactly ``num`` consecutive parts, whose sizes differ by at most a draw.

        With more parts than draws the last parts are empty, since every rank needs as many micro-steps.
        """
        share, larger = divmod(len(self), num)
        bounds = [0]
        for part in range(num):
            bounds.append(bounds[-1] + share + (part < larger))
        return [self._part(start, end) for start, end in itertools.pairwise(bounds)]

    def _part(self, first: int, last: int) -> RawBatch:
        start, end, layouts = first, last, None
        if self.layouts is not None:
            start = sum(layout.parts for layout in self.layouts[:first])
            layouts = self.layouts[first:last]
            end = start + sum(layout.parts for layout in layouts)
        return RawBatch(
            maps={name: x[start:end] for name, x in self.maps.items()},
            present={name: flags[start:end] for name, flags in self.present.items()},
            seeds=self.seeds[start:end],
            ids=self.ids[start:end],
            classes=self.classes[start:end],
            layouts=layouts,
        )


@dataclass(frozen=True)
class Batch:
    """Decoded, augmented crops.

    Attributes:
        maps: float32 maps by name in the range of their encoding; ``mask`` is int64 ``(n, h, w)``.
        valid: Pixels that losses and metrics use.
        seeds: The seed of each draw, on the CPU.
        ids: Ids of the samples.
        classes: Class id of each sample, or 255 if it has no class or several.
        present: For each map, which samples have it, including baked maps; the others have its fill value,
            which is no target.
        regions: For each pixel the number of its part of a mosaic, and 0 in a crop without a mosaic; None if
            the batch has no mosaics.
    """

    maps: dict[str, Shaped[Tensor, "n ..."]]
    valid: Bool[Tensor, "n 1 h w"]
    seeds: Int64[Tensor, " n"]
    ids: tuple[str, ...]
    classes: Int[Tensor, " n"]
    present: dict[str, Bool[Tensor, " n"]] = field(default_factory=dict)
    regions: UInt8[Tensor, "n 1 h w"] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Batch:
        """Return a copy with every tensor on the device."""
        return replace(
            self,
            maps={name: x.to(device, non_blocking=True) for name, x in self.maps.items()},
            valid=self.valid.to(device, non_blocking=True),
            classes=self.classes.to(device, non_blocking=True),
            present={name: x.to(device, non_blocking=True) for name, x in self.present.items()},
            regions=None if self.regions is None else self.regions.to(device, non_blocking=True),
        )

    @staticmethod
    def concatenate(parts: list[Batch]) -> Batch:
        """Concatenate batches with the same maps and sizes, in order."""
        if len(parts) == 1:
            return parts[0]
        return Batch(
            maps={name: torch.cat([part.maps[name] for part in parts]) for name in parts[0].maps},
            valid=torch.cat([part.valid for part in parts]),
            seeds=torch.cat([part.seeds for part in parts]),
            ids=tuple(sample for part in parts for sample in part.ids),
            classes=torch.cat([part.classes for part in parts]),
            present={name: torch.cat([part.present[name] for part in parts]) for name in parts[0].present},
            regions=None
            if all(part.regions is None for part in parts)
            else torch.cat([_regions(part) for part in parts]),
        )


def _regions(batch: Batch) -> UInt8[Tensor, "n 1 h w"]:
    return torch.zeros_like(batch.valid, dtype=torch.uint8) if batch.regions is None else batch.regions


def sample_hashes(batch: Batch) -> list[str]:
    """Return for each sample a SHA-256 over its id and the names, types, shapes and bytes of its maps.

    The hash of a crop does not depend on whether other samples of the batch are mosaics.
    """
    tensors = {
        "valid": batch.valid,
        "classes": batch.classes,
        "regions": _regions(batch),
        **batch.maps,
    }
    host = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    hashes = []
    for number, sample in enumerate(batch.ids):
        digest = hashlib.sha256(sample.encode())
        for name, tensor in host.items():
            own = tensor[number].reshape(-1)
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape[1:])}".encode())
            digest.update(own.view(torch.uint8).numpy().tobytes())
        hashes.append(digest.hexdigest())
    return hashes
