"""Lines and bands over two plain axes, as SVG inside a page: colours come from the page's own style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 30, 40
TICKS = 5


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points (x, y) that are joined; where y is not finite the line is broken."""

    points: Sequence[tuple[float, float]]
    kind: str
    """Class of the stroke in the page's style."""


@dataclass(frozen=True, kw_only=True)
class Area:
    """Between low and high, (x, low, high); where these are not finite it is left out."""

    edges: Sequence[tuple[float, float, float]]
    kind: str


def plot(
    across: str, up: str, lines: Sequence[Line], areas: Sequence[Area] = (), *, floor: float | None = None
) -> Markup:
    """One picture. `across` and `up` name the axes; `floor` is a value that the upright axis must reach down to."""
    points = [point for line in lines for point in line.points] + [
        (x, y) for area in areas for x, *both in area.edges for y in both
    ]
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    xs, ys = (
        [axis for axis in of if math.isfinite(axis)] or [0.0] for of in zip(*(finite or [(0.0, 0.0)]), strict=True)
    )
    if floor is not None:
        ys = [*ys, floor]
    to_x, x_ticks = _axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    to_y, y_ticks = _axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    drawn = [
        f'<path class="rule" d="M{LEFT} {to_y(y):.1f}H{WIDTH - RIGHT}"/>'
        f'<text text-anchor="end" x="{LEFT - 7}" y="{to_y(y) + 4:.1f}">{_number(y)}</text>'
        for y in y_ticks
    ]
    drawn += [
        f'<text text-anchor="middle" x="{to_x(x):.1f}" y="{HEIGHT - BOTTOM + 17}">{_number(x)}</text>' for x in x_ticks
    ]
    for area in areas:
        for stretch in _whole([(x, (low, high)) for x, low, high in area.edges]):
            there = [f"{to_x(x):.1f} {to_y(low):.1f}" for x, (low, _) in stretch]
            back = [f"{to_x(x):.1f} {to_y(high):.1f}" for x, (_, high) in reversed(stretch)]
            drawn.append(f'<path class="{area.kind}" d="M{"L".join(there + back)}Z"/>')
    for line in lines:
        for stretch in _whole([(x, (y,)) for x, y in line.points]):
            way = "L".join(f"{to_x(x):.1f} {to_y(y):.1f}" for x, (y,) in stretch)
            drawn.append(f'<path class="stroke {line.kind}" d="M{way}"/>')
    names = (
        f'<text text-anchor="end" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}">{escape(across)}</text>'
        f'<text x="{LEFT}" y="14">{escape(up)}</text>'
    )
    return Markup(f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(drawn)}{names}</svg>')


def _whole(points: Sequence[tuple[float, tuple[float, ...]]]) -> list[list[tuple[float, tuple[float, ...]]]]:
    """Stretches of points without one that is not finite."""
    stretches: list[list[tuple[float, tuple[float, ...]]]] = [[]]
    for x, values in points:
        if all(math.isfinite(value) for value in (x, *values)):
            stretches[-1].append((x, values))
        elif stretches[-1]:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]


def _axis(low: float, high: float, start: float, end: float) -> tuple[Callable[[float], float], list[float]]:
    """How a value becomes a place, and round values to mark."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    pace = next(power * step for step in (1, 2, 5, 10) if span / (power * step) <= TICKS)
    low, high = math.floor(low / pace + 1e-9) * pace, math.ceil(high / pace - 1e-9) * pace
    high = max(high, low + pace)
    ticks = [low + pace * k for k in range(round((high - low) / pace) + 1)]
    return (lambda value: start + (end - start) * (value - low) / (high - low)), ticks


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) > 1e-9 else "0"
