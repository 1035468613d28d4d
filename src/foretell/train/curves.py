"""Numbers over training steps as curves, measured out for an SVG drawing; the card's template draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

WIDTH, HEIGHT = 480.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 16.0, 26.0
"""Room around the curves, for the axes."""
POINTS = 240
"""More steps than this are drawn as means over neighbours."""
DOTS = 24
"""Up to this many points are also drawn as dots: a run with one look has no line."""
DECADES = 4
"""The lowest that a logarithmic axis reaches below its top; what is lower (a hinge at 0) leaves a gap."""

Points = Sequence[tuple[float, float | None]]
"""(step, value), ascending; None where nothing was measured."""


class Tick(NamedTuple):
    """A place on an axis, or a line across the drawing, and what is written there."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a drawing."""

    name: str
    path: str
    dots: list[tuple[float, float]]
    value: float | None
    """What it measures at the marked step; None without a mark or a measurement there."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One drawing, WIDTH x HEIGHT."""

    title: str
    says: str
    curves: list[Curve]
    guides: list[Tick]
    """Heights of the lines to compare with."""
    across: list[Tick]
    up: list[Tick]
    mark: float | None
    """Where the chosen step is."""


def draw(
    title: str,
    says: str,
    lines: Mapping[str, Points],
    *,
    guides: Mapping[str, float],
    mark: float | None,
    log: bool,
) -> Chart | None:
    """A chart of `lines` (name -> points) over steps from 0, or None if none of them has a number to show.

    guides: label -> value to compare with. mark: the step that the legend speaks of. log: logarithmic height.
    """
    thin = {name: _thin(points) for name, points in lines.items()}
    values = [v for points in thin.values() for _, v in points if v is not None and _shown(v, log)]
    if not values:
        return None
    axis = _Axis.over([*values, *guides.values()], log)
    last = max(step for points in lines.values() for step, _ in points)

    def x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / max(last, 1), 1)

    curves = []
    for name, points in thin.items():
        places = [(x(s), axis.y(v)) if v is not None and _shown(v, log) and axis.holds(v) else None for s, v in points]
        known = [place for place in places if place]
        marked = next((v for s, v in lines[name] if s == mark), None)
        if known:
            curves.append(Curve(name=name, path=_path(places), dots=known if len(known) <= DOTS else [], value=marked))
    return Chart(
        title=title,
        says=says,
        curves=curves,
        guides=[Tick(axis.y(value), label) for label, value in guides.items()],
        across=[Tick(x(step), f"{step:,.0f}") for step in _round_numbers(0, last) if step == int(step)],
        up=[Tick(axis.y(value), f"{value:g}") for value in axis.ticks()],
        mark=None if mark is None else x(mark),
    )


@dataclass(frozen=True)
class _Axis:
    """The height of a value, from `low` at the bottom to `high` at the top."""

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], log: bool) -> _Axis:
        high = max(values)
        if not log:
            return cls(min(0.0, *values), high * 1.05 or 1.0, log)
        low = max(min(values), high / 10**DECADES)
        return cls(low / 1.25, high * 1.25, log)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def y(self, value: float) -> float:
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (at - low) / (high - low), 1)

    def ticks(self) -> list[float]:
        if not self.log:
            return _round_numbers(self.low, self.high)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ([1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]):
            ticks = [step * 10.0**d for d in decades for step in steps if self.holds(step * 10.0**d)]
            if len(ticks) >= 3:
                return ticks
        return _round_numbers(self.low, self.high)


def _round_numbers(low: float, high: float) -> list[float]:
    """Three to seven round numbers from low to high."""
    rough = (high - low) / 6 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _shown(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _thin(points: Points) -> Points:
    """At most POINTS points: means over as many neighbouring ones as it takes; unmeasured ones are left out of a mean."""
    size = math.ceil(len(points) / POINTS)
    if size == 1:
        return points
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    known = [[v for _, v in group if v is not None and math.isfinite(v)] for group in groups]
    return [(fmean(s for s, _ in group), fmean(of) if of else None) for group, of in zip(groups, known, strict=True)]


def _path(places: Sequence[tuple[float, float] | None]) -> str:
    """A line through the places, interrupted where there is none."""
    commands, pen_down = [], False
    for place in places:
        if place:
            commands.append(f"{'L' if pen_down else 'M'}{place[0]:g} {place[1]:g}")
        pen_down = place is not None
    return "".join(commands)
