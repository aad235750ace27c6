"""Draws line charts as inline SVG that shows values under the pointer without scripts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

Line = Sequence[tuple[float, float]]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7f3c8d", "#666666")
"""The colours of Okabe and Ito, which suit all kinds of colour vision; repeated for more lines."""

MAX_POINTS = 400
MAX_READINGS = 120
"""Maximum number of steps per chart that show values under the pointer, evenly spaced."""

_WIDTH, _HEIGHT = 560, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 12, 12, 28


def line_chart(title: str, lines: Mapping[str, Line], *, mark: tuple[float, float] | None = None) -> str:
    """Draw one or several lines over steps, with a legend and an optional marked point.

    NaN values are gaps. The values of the step under the pointer are shown.
    """
    points = [point for line in lines.values() for point in line if math.isfinite(point[1])]
    if not points:
        return ""
    scale = _Scale.over(points)
    body = [*_axes(scale)]
    legend = []
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        body += _paths(_thinned(line), scale, colour)
        legend.append(f'<span><i style="background:{colour}"></i>{escape(name)}</span>')
    body += _readings(lines, scale)
    if mark is not None and math.isfinite(mark[1]):
        x, y = scale(*mark)
        body.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="mark"><title>step {mark[0]:g}: {mark[1]:.5g}'
            "</title></circle>"
        )
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(body)}</svg>'
        f'<div class="legend">{"".join(legend)}</div></figure>'
    )


class _Scale:
    """Converts values to pixels."""

    def __init__(self, *, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x, self.y = x, y

    @classmethod
    def over(cls, points: Line) -> _Scale:
        """Return the scale of all points, with a margin; it starts at 0 instead of a negative margin."""
        xs, ys = [x for x, _ in points], [y for _, y in points]
        margin = (max(ys) - min(ys)) * 0.05 or abs(ys[0]) * 0.05 or 1.0
        low = min(ys) - margin
        if low < 0 <= min(ys):
            low = 0.0
        return cls(x=(min(xs), max(max(xs), min(xs) + 1)), y=(low, max(ys) + margin))

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )


def _axes(scale: _Scale) -> Iterator[str]:
    for share in (0.0, 0.5, 1.0):
        value = scale.y[0] + share * (scale.y[1] - scale.y[0])
        _, y = scale(scale.x[0], value)
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        if share == 0.5 and scale.x[1] - scale.x[0] < 2:
            continue  # the middle is not a whole step
        step = scale.x[0] + share * (scale.x[1] - scale.x[0])
        x, _ = scale(step, scale.y[0])
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[share]
        label = "step " if share == 0.0 else ""
        yield f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{label}{step:.0f}</text>'


def _paths(line: Line, scale: _Scale, colour: str) -> Iterator[str]:
    parts: list[list[tuple[float, float]]] = [[]]
    for x, y in line:
        if math.isfinite(y):
            parts[-1].append(scale(x, y))
        elif parts[-1]:
            parts.append([])
    for part in filter(None, parts):
        if len(part) == 1:
            (x, y) = part[0]
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
        else:
            spots = " ".join(f"{x:.1f},{y:.1f}" for x, y in part)
            yield f'<polyline points="{spots}" fill="none" stroke="{colour}" stroke-width="1.6"/>'


def _readings(lines: Mapping[str, Line], scale: _Scale) -> Iterator[str]:
    """Yield an invisible band per step, which shows the values of the step under the pointer.

    It uses ``<title>`` and ``:hover`` and therefore needs no script.
    """
    steps = sorted({x for line in lines.values() for x, y in line if math.isfinite(y)})
    if len(steps) > MAX_READINGS:
        last = MAX_READINGS - 1
        steps = [steps[round(number * (len(steps) - 1) / last)] for number in range(MAX_READINGS)]
    values = {name: dict(line) for name, line in lines.items()}
    places = [scale(step, scale.y[0])[0] for step in steps]
    middles = [(left + right) / 2 for left, right in itertools.pairwise(places)]
    edges = [float(_LEFT), *middles, float(_WIDTH - _RIGHT)]
    for step, x, (left, right) in zip(steps, places, itertools.pairwise(edges), strict=True):
        shown = [f"step {step:g}"]
        dots = []
        for number, (name, known) in enumerate(values.items()):
            if step in known and math.isfinite(known[step]):
                shown.append(f"{name}: {known[step]:.5g}")
                y = scale(step, known[step])[1]
                dots.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[number % len(COLOURS)]}"/>'
                )
        title = escape("\n".join(shown))
        yield (
            f'<g class="at"><title>{title}</title>'
            f'<rect x="{left:.1f}" y="{_TOP}" width="{max(right - left, 0.1):.1f}" '
            f'height="{_HEIGHT - _TOP - _BOTTOM}"/>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>{"".join(dots)}</g>'
        )


def _thinned(line: Line) -> Line:
    """Average neighbouring points of a line with more than ``MAX_POINTS`` points."""
    if len(line) <= MAX_POINTS:
        return line
    shares = [
        line[number * len(line) // MAX_POINTS : (number + 1) * len(line) // MAX_POINTS]
        for number in range(MAX_POINTS)
    ]
    return [
        (sum(x for x, _ in share) / len(share), sum(y for _, y in share) / len(share)) for share in shares
    ]
