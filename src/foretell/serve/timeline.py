"""Scores over time as SVG: the alarm line is 1 for every score, however each is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretell.serve.gallery import Line, Shown
from foretell.serve.summary import number

# The drawing is 1000 wide and 100 high and stretched by the page.
WIDTH, HEIGHT = 1000.0, 100.0
# Above this the axis is drawn by square roots: a peak of forty times the alarm line must not flatten all else.
LINEAR_UP_TO = 4.0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One score of one video."""

    name: str
    path: str
    calibrated: bool


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All scores of one video in one drawing."""

    surprise: Curve
    area: str
    """The surprise curve closed down to the ground."""
    controls: list[Curve]
    alarm_y: float | None
    """Height of the alarm line, from the top in percent; None without calibration."""
    top: str
    """What the upper edge stands for."""
    alarms: list[tuple[float, float]]
    """Left edge and width of each stretch of alarm."""
    unknown: list[tuple[float, float]]
    """Left edge and width of each stretch that is not known."""
    seen: list[tuple[float, float]]
    """Left edge and width of each stretch that can be played; empty if all of it can."""
    values: list[float | None]
    """Surprise in units of the alarm line, for the readout."""


@dataclass(frozen=True)
class Ruler:
    """Brings one score to its own scale: 1 is its alarm line, or without calibration its highest value on the page."""

    floor: float
    one: float

    @classmethod
    def over(cls, lines: Sequence[Line]) -> Ruler:
        """The ruler that all videos of the page share for this score."""
        values = np.concatenate([line.values[np.isfinite(line.values)] for line in lines])
        lowest, highest = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        threshold = lines[0].threshold
        one = highest if threshold is None else threshold
        floor = min(0.0, lowest, one)
        return cls(floor, one if one > floor else floor + 1.0)

    def measure(self, line: Line) -> np.ndarray:
        """float (N,): the line on this ruler's scale."""
        return (line.values - self.floor) / (self.one - self.floor)


def timeline(shown: Shown, rulers: dict[str, Ruler], fps: float) -> Timeline:
    """Draw one video. rulers: name of score -> ruler, with "" for the model's own surprise."""
    surprise = rulers[""].measure(shown.surprise)
    controls = {name: rulers[name].measure(line) for name, line in shown.controls.items()}
    top = _top(surprise, list(controls.values()))
    path = _path(surprise, top)
    seconds = shown.length / fps
    calibrated = shown.surprise.threshold is not None
    return Timeline(
        surprise=Curve(name="", path=path, calibrated=calibrated),
        area="".join(_close(piece) for piece in path.split("M") if piece),
        controls=[
            Curve(name=name, path=_path(values, top), calibrated=shown.controls[name].threshold is not None)
            for name, values in controls.items()
        ],
        alarm_y=_y(1.0, top) if calibrated else None,
        top=f"{number(top)} × alarm line" if calibrated else "highest of all",
        alarms=[_span(start, end, seconds) for start, end in shown.result.alarms],
        unknown=[_span(start, end, seconds) for start, end in shown.result.unknown],
        seen=[] if len(shown.steps) == shown.length else [_span(a, b, shown.length) for a, b in runs(shown.steps)],
        values=[round(float(value), 3) if np.isfinite(value) else None for value in surprise],
    )


def runs(steps: np.ndarray) -> list[tuple[int, int]]:
    """Rising steps as stretches without a gap: (first, one past the last)."""
    breaks = np.flatnonzero(np.diff(steps) > 1) + 1
    return [(int(piece[0]), int(piece[-1]) + 1) for piece in np.split(steps, breaks)]


def _top(surprise: np.ndarray, controls: list[np.ndarray]) -> float:
    """The model's peak has room; a control far above it is cut off at the upper edge."""
    own = float(np.nanmax(surprise[np.isfinite(surprise)], initial=1.0))
    others = max((float(np.nanmax(values[np.isfinite(values)], initial=0.0)) for values in controls), default=0.0)
    return max(1.25, 1.05 * own, min(1.05 * others, 2 * own, LINEAR_UP_TO))


def _y(value: float, top: float) -> float:
    share = min(1.0, max(0.0, value / top))
    return round(HEIGHT * (1 - (share if top <= LINEAR_UP_TO else share**0.5)), 2)


def _path(values: np.ndarray, top: float) -> str:
    """A line through the middle of each part, interrupted where nothing was scored."""
    commands, pen_down = [], False
    for part, value in enumerate(values):
        if np.isnan(value):
            pen_down = False
            continue
        x = round((part + 0.5) * WIDTH / len(values), 1)
        commands.append(f"{'L' if pen_down else 'M'}{x:g} {_y(float(value), top):g}")
        pen_down = True
    return "".join(commands)


def _close(piece: str) -> str:
    """One unbroken piece of a line ("x yLx y..."), closed down to the ground."""
    points = piece.split("L")
    return f"M{points[0].split()[0]} {HEIGHT:g}L{piece}L{points[-1].split()[0]} {HEIGHT:g}Z"


def _span(start: float, end: float, length: float) -> tuple[float, float]:
    """Left edge and width; never too thin to be seen."""
    left, right = WIDTH * start / length, WIDTH * end / length
    return round(left, 1), round(max(3.0, right - left), 1)
