"""Error over horizon as an SVG picture, by hand: it opens in any browser and needs no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from foretell.serve.summary import number

WIDTH, HEIGHT = 470, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 114, 58, 48
LINE_OF_TEXT = 15.0

STYLE = """
svg { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1d2428; }
.paper { fill: #fafaf8; } .title { font-weight: 600; font-size: 15px; } .quiet { fill: #626c73; font-size: 12px; }
.rule { stroke: #e2e0d9; } .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round; }
"""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One error for each step ahead."""

    name: str
    values: Sequence[float]
    colour: str
    dashes: str = ""
    """Lengths of stroke and gap, as SVG has them; empty for an unbroken line."""
    may_leave: bool = False
    """Whether it may run out of the top, rather than flatten all others."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Curves over the steps ahead 1, 2, ..."""

    title: str
    unit: str
    curves: Sequence[Curve]


def draw_charts(charts: Sequence[Chart], note: str) -> str:
    """Charts side by side as one SVG, with a line of small print below. Charts without values say that there are none."""
    width, height = WIDTH * len(charts), HEIGHT + 28
    drawn = "".join(
        f'<g transform="translate({WIDTH * place} 0)">{_chart(chart)}</g>\n' for place, chart in enumerate(charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f'<style>{STYLE}</style>\n<rect class="paper" width="{width}" height="{height}"/>\n{drawn}'
        f'<text class="quiet" x="{LEFT}" y="{HEIGHT + 8}">{escape(note)}</text>\n</svg>\n'
    )


def _chart(chart: Chart) -> str:
    head = (
        f'<text class="title" x="{LEFT}" y="26">{escape(chart.title)}</text>\n'
        f'<text class="quiet" x="{LEFT}" y="44">{escape(chart.unit)}</text>\n'
    )
    steps = max(len(curve.values) for curve in chart.curves)
    if not steps:
        return head + f'<text class="quiet" x="{LEFT}" y="{HEIGHT / 2}">the clip ends where imagining begins</text>\n'
    top = _top(chart.curves)
    staying = [curve for curve in chart.curves if curve.values[-1] <= top]
    names = _spread([_y(curve.values[-1], top) for curve in staying])
    lines = [_line(curve, top) for curve in chart.curves]
    lines += [_name(curve, WIDTH - RIGHT, y) for curve, y in zip(staying, names, strict=True)]
    lines += [_name_where_it_leaves(curve, top) for curve in chart.curves if curve not in staying]
    return head + _axes(steps, top) + "".join(lines)


def _top(curves: Sequence[Curve]) -> float:
    highest = max(max(curve.values) for curve in curves if not curve.may_leave)
    return 1.1 * highest if highest > 0 else 1.0


def _axes(steps: int, top: float) -> str:
    """Rules at round values, and the steps ahead below."""
    pace = _round_pace(top / 4)
    rules = [
        f'<path class="rule" d="M{LEFT} {_y(value, top):.1f}H{WIDTH - RIGHT}"/>'
        f'<text class="quiet" text-anchor="end" x="{LEFT - 8}" y="{_y(value, top) + 4:.1f}">{number(value)}</text>\n'
        for value in (pace * k for k in range(int(top / pace) + 1))
    ]
    every = max(1, math.ceil(steps / 8))
    marks = [
        f'<text class="quiet" text-anchor="middle" x="{_x(step, steps):.1f}" y="{HEIGHT - BOTTOM + 18}">{step}</text>\n'
        for step in range(every, steps + 1, every)
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    under = f'<text class="quiet" text-anchor="middle" x="{middle}" y="{HEIGHT - BOTTOM + 36}">steps imagined</text>\n'
    return "".join(rules + marks) + under


def _line(curve: Curve, top: float) -> str:
    steps = len(curve.values)
    points = " ".join(f"{_x(step, steps):.1f},{_y(value, top):.1f}" for step, value in _until_it_leaves(curve, top))
    dashes = f' stroke-dasharray="{curve.dashes}"' if curve.dashes else ""
    return f'<polyline class="line" stroke="{curve.colour}"{dashes} points="{points}"/>\n'


def _name(curve: Curve, x: float, y: float) -> str:
    return f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{curve.colour}">{escape(curve.name)}</text>\n'


def _name_where_it_leaves(curve: Curve, top: float) -> str:
    points = _until_it_leaves(curve, top)
    return _name(curve, _x(points[-1][0], len(curve.values)) if points else LEFT, TOP)


def _until_it_leaves(curve: Curve, top: float) -> list[tuple[float, float]]:
    """(step, value) up to the point, between two steps if need be, where the line crosses `top`."""
    points: list[tuple[float, float]] = []
    for step, value in enumerate(curve.values, start=1):
        if value > top:
            if points:
                before = points[-1][1]
                points.append((step - 1 + (top - before) / (value - before), top))
            break
        points.append((float(step), value))
    return points


def _spread(heights: Sequence[float]) -> list[float]:
    """The same heights, moved down as far as needed so that names beside them do not touch, then all up if they ran out."""
    placed: dict[int, float] = {}
    lowest = -math.inf
    for index in sorted(range(len(heights)), key=lambda i: heights[i]):
        lowest = max(heights[index], lowest + LINE_OF_TEXT)
        placed[index] = lowest
    over = max(0.0, lowest - (HEIGHT - BOTTOM))
    return [placed[index] - over for index in range(len(heights))]


def _round_pace(least: float) -> float:
    """The next of 1, 2, 5, 10, ... at or above `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= least * (1 - 1e-9))


def _x(step: float, steps: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (step / steps)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top
