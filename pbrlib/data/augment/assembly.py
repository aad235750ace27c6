"""Mosaics from their augmented parts: every part is a whole crop, of which its region stays."""

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


def assembled(parts: Batch, layouts: Sequence[Layout]) -> Batch:
    """One sample a draw from the rows of their parts, masks and all other maps alike.

    A mosaic has a map where all its parts have it, a class where all agree, the seed of its first part, and
    their ids joined by ``+``.
    """
    rows, device = _rows(layouts), parts.valid.device
    index = rows.to(device, non_blocking=True)
    regions = region_map(layouts, size=(parts.valid.shape[-2], parts.valid.shape[-1]), device=device)
    classes = parts.classes[rows.to(parts.classes.device)]
    agree = (classes == classes[:, :1]).all(dim=1)
    return replace(
        parts,
        maps={name: _joined(x, index, regions) for name, x in parts.maps.items()},
        valid=_joined(parts.valid, index, regions),
        seeds=parts.seeds[rows[:, 0]],
        ids=tuple("+".join(parts.ids[row] for row in dict.fromkeys(of)) for of in rows.tolist()),
        classes=torch.where(agree, classes[:, 0], IGNORE),
        present={name: has[rows.to(has.device)].all(dim=1) for name, has in parts.present.items()},
        regions=regions,
    )


def region_map(
    layouts: Sequence[Layout], *, size: tuple[int, int], device: torch.device
) -> UInt8[Tensor, "n 1 h w"]:
    """The number of the part that each pixel shows; parts go left to right, then down."""
    height, width = size
    down = (torch.arange(height, device=device) >= height // 2).to(torch.uint8).view(-1, 1).expand(size)
    right = (torch.arange(width, device=device) >= width // 2).to(torch.uint8).view(1, -1).expand(size)
    by_layout = torch.stack([torch.zeros_like(down), right, down, 2 * down + right])
    return by_layout[torch.tensor(layouts, dtype=torch.int64, device=device)].unsqueeze(1)


def _rows(layouts: Sequence[Layout]) -> Int64[Tensor, "n p"]:
    """For each draw the rows of its parts; the first one again where it has fewer than another draw."""
    most = max((layout.parts for layout in layouts), default=1)
    firsts = accumulate((layout.parts for layout in layouts), initial=0)
    rows = [
        [first + (number if number < layout.parts else 0) for number in range(most)]
        for layout, first in zip(layouts, firsts, strict=False)
    ]
    return torch.tensor(rows, dtype=torch.int64).view(-1, most)


def _joined(x: Tensor, rows: Tensor, regions: Tensor) -> Tensor:
    """Of every part the pixels of its region; ``x`` is ``(rows, c, h, w)`` or ``(rows, h, w)``."""
    joined = x.index_select(0, rows[:, 0])
    shown = regions if x.dim() == 4 else regions[:, 0]
    for number in range(1, rows.shape[1]):
        joined = torch.where(shown == number, x.index_select(0, rows[:, number]), joined)
    return joined
