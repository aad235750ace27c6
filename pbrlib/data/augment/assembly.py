"""Assembles mosaics from augmented parts; each part is a full crop, of which the mosaic shows one region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from pbrlib.data.draws.batch import Batch
from pbrlib.data.draws.mosaic import Layout
from pbrlib.maps import IGNORE


def assemble_mosaics(parts: Batch, layouts: Sequence[Layout]) -> Batch:
    """Return a batch with one sample per draw from a batch with one row per part.

    A mosaic has a map if all of its parts have it, and a class if all parts have the same one. It has the
    seed of the first part, and the ids of its parts joined by ``+``.
    """
    rows, device = _rows(layouts), parts.valid.device
    index = rows.to(device, non_blocking=True)
    regions = region_map(layouts, size=(parts.valid.shape[-2], parts.valid.shape[-1]), device=device)
    classes = parts.classes[rows.to(parts.classes.device)]
    agree = (classes == classes[:, :1]).all(dim=1)
    return replace(
        parts,
        maps={name: _join_regions(x, index, regions) for name, x in parts.maps.items()},
        valid=_join_regions(parts.valid, index, regions),
        seeds=parts.seeds[rows[:, 0]],
        ids=tuple("+".join(parts.ids[row] for row in dict.fromkeys(draw)) for draw in rows.tolist()),
        classes=torch.where(agree, classes[:, 0], IGNORE),
        present={name: has[rows.to(has.device)].all(dim=1) for name, has in parts.present.items()},
        regions=regions,
    )


def region_map(
    layouts: Sequence[Layout], *, size: tuple[int, int], device: torch.device
) -> UInt8[Tensor, "n 1 h w"]:
    """Return for each pixel the number of the part that it shows; parts are numbered row by row."""
    height, width = size
    down = (torch.arange(height, device=device) >= height // 2).to(torch.uint8).view(-1, 1).expand(size)
    right = (torch.arange(width, device=device) >= width // 2).to(torch.uint8).view(1, -1).expand(size)
    by_layout = torch.stack([torch.zeros_like(down), right, down, 2 * down + right])
    return by_layout[torch.tensor(layouts, dtype=torch.int64, device=device)].unsqueeze(1)


def _rows(layouts: Sequence[Layout]) -> Int64[Tensor, "n p"]:
    """Return the rows of the parts of each draw; draws with fewer parts repeat the row of the first part."""
    max_parts = max((layout.parts for layout in layouts), default=1)
    firsts = accumulate((layout.parts for layout in layouts), initial=0)
    rows = [
        [first + (number if number < layout.parts else 0) for number in range(max_parts)]
        for layout, first in zip(layouts, firsts, strict=False)
    ]
    return torch.tensor(rows, dtype=torch.int64).view(-1, max_parts)


def _join_regions(x: Tensor, rows: Tensor, regions: Tensor) -> Tensor:
    """Join the regions of the parts of each draw; ``x`` is ``(rows, c, h, w)`` or ``(rows, h, w)``."""
    joined = x.index_select(0, rows[:, 0])
    shown = regions if x.dim() == 4 else regions[:, 0]
    for number in range(1, rows.shape[1]):
        joined = torch.where(shown == number, x.index_select(0, rows[:, number]), joined)
    return joined
