"""Regular periodic arrangements of pieces: courses of bricks or planks, hexagons, parquet blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pbrlib.data.sources.generated.canvas import Canvas


@dataclass(frozen=True)
class Tiles:
    """Pieces side by side, with lengths in widths of the texture.

    ``across`` and ``down`` are the distances to the nearest vertical and horizontal border, ``x`` and ``y``
    the position within the piece in [-0.5, 0.5], ``index`` the number of the piece (of ``count`` pieces).
    """

    across: Float[Tensor, "h w"]
    down: Float[Tensor, "h w"]
    x: Float[Tensor, "h w"]
    y: Float[Tensor, "h w"]
    index: Int[Tensor, "h w"]
    count: int

    def edge(self, *, corner: float = 0.0) -> Float[Tensor, "h w"]:
        """Return the distance to the border of a piece with corners rounded by the radius ``corner``."""
        straight = torch.minimum(self.across, self.down)
        if corner == 0.0:
            return straight
        dx, dy = (corner - self.across).clamp_min(0.0), (corner - self.down).clamp_min(0.0)
        return torch.where((dx > 0) & (dy > 0), corner - torch.hypot(dx, dy), straight)


def courses(
    canvas: Canvas,
    *,
    rows: int,
    columns: int,
    shift: float | Float[Tensor, " rows"] = 0.0,
    jitter: float = 0.0,
    warp: tuple[Tensor, Tensor] | None = None,
) -> Tiles:
    """Return horizontal courses of ``columns`` pieces each.

    Args:
        canvas: The canvas that gives coordinates and random numbers.
        rows: Number of courses; even if ``shift`` is a number other than 0.
        columns: Number of pieces in a course.
        shift: Offset of every second course, or of each course, in pieces.
        jitter: Maximum displacement of vertical joints, in pieces (below 0.5).
        warp: Horizontal and vertical displacements of the coordinates, in widths of the texture.
    """
    u, v = (canvas.u, canvas.v) if warp is None else (canvas.u + warp[0], canvas.v + warp[1])
    y = v * rows
    row = y.floor()
    fy = y - row
    course = row.long() % rows
    moves = shift if isinstance(shift, Tensor) else torch.arange(rows, device=u.device) % 2 * shift
    x = u * columns + moves[course]
    joints = (canvas.table(rows * columns) - 0.5) * 2.0 * jitter

    def joint(column: Tensor) -> Tensor:
        return column + joints[course * columns + column.long() % columns]

    column = x.floor()
    column = torch.where(x < joint(column), column - 1, column)
    column = torch.where(x >= joint(column + 1), column + 1, column)
    start, end = joint(column), joint(column + 1)
    return Tiles(
        torch.minimum(x - start, end - x) / columns,
        torch.minimum(fy, 1.0 - fy) / rows,
        (x - start) / (end - start) - 0.5,
        fy - 0.5,
        course * columns + column.long() % columns,
        rows * columns,
    )


def hexagons(canvas: Canvas, *, columns: int) -> Tiles:
    """Return hexagons with vertical sides, as regular as an integer number of rows allows.

    The distance to the border is exact only for regular hexagons; ``across`` and ``down`` are equal.
    """
    pairs = max(1, round(columns / 3.0**0.5))
    x, y = canvas.u * columns, canvas.v * pairs
    tall = 3.0**0.5
    best, edge = None, torch.zeros_like(x)
    index, bx, by = torch.zeros_like(x, dtype=torch.long), x, y
    for lattice, offset in enumerate((0.0, 0.5)):
        column, row = (x - offset).round(), (y - offset).round()
        dx, dy = x - offset - column, (y - offset - row) * tall
        distance = dx * dx + dy * dy
        number = (row.long() % pairs * columns + column.long() % columns) * 2 + lattice
        inside = 0.5 - torch.maximum(dx.abs(), dx.abs() * 0.5 + dy.abs() * (tall / 2.0))
        if best is None:
            best, edge, index, bx, by = distance, inside, number, dx, dy
            continue
        closer = distance < best
        edge, index = torch.where(closer, inside, edge), torch.where(closer, number, index)
        bx, by = torch.where(closer, dx, bx), torch.where(closer, dy, by)
    side = edge.clamp_min(0.0) / columns
    return Tiles(side, side, bx, by, index, pairs * columns * 2)


def parquet(canvas: Canvas, *, blocks: int, strips: int) -> tuple[Tiles, Tensor]:
    """Return square blocks of parallel strips, and 1 for the pixels of blocks with vertical strips, else 0.

    Horizontal and vertical blocks alternate. ``x`` is the position along the strip, ``y`` across it.
    ``blocks`` must be even.
    """
    x, y = canvas.u * blocks, canvas.v * blocks
    column, row = x.floor(), y.floor()
    fx, fy = x - column, y - row
    turned = (column + row) % 2
    along, over = torch.where(turned > 0, fy, fx), torch.where(turned > 0, fx, fy) * strips
    strip = over.floor()
    over = over - strip
    block = row.long() % blocks * blocks + column.long() % blocks
    tiles = Tiles(
        torch.minimum(along, 1.0 - along) / blocks,
        torch.minimum(over, 1.0 - over) / (blocks * strips),
        along - 0.5,
        over - 0.5,
        block * strips + strip.long().clamp(0, strips - 1),
        blocks * blocks * strips,
    )
    return tiles, turned
