"""Several futures on one page that needs nothing else: films on one clock, strips, curves with bands, effects in words."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jinja2
import numpy as np
from markupsafe import Markup

from foretell.plan.effects import Effect
from foretell.serve.pictures import png_bytes

WIDTH, HEIGHT = 340.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 26.0
COLOURS = 6
"""Colours of lines in what_if.css."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """One future."""

    name: str
    """What it is called."""
    film: np.ndarray
    """uint8 (K + T, H, W, 3): the last K frames seen, then T decoded ones."""
    past: np.ndarray
    """(K, Q) quantities as read from what was seen."""
    quantities: np.ndarray
    """(T, Q) and from what was imagined."""
    margin: np.ndarray
    """(T, Q) half the width of the bands around them; inf where nothing was calibrated."""
    other: int | None
    """Which future it is compared with; None for the first."""
    effect: Effect | None
    """What is different from that."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """All of them."""

    told: list[Told]
    """In the order of the page."""
    came: np.ndarray | None
    """uint8 (K + T, H, W, 3): what truly came, if the clip goes on so far."""
    removed: bool
    """Whether something was painted over in the past of some."""
    seen: int
    """K."""
    names: tuple[str, ...]
    """Of the Q quantities."""
    seconds: float
    """How long a step of the model lasts."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One future in a drawing."""

    colour: int
    path: str
    band: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One quantity over time."""

    name: str
    lines: list[Line]
    rules: list[tuple[float, str]]
    marks: list[tuple[float, str]]
    now: float


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The effect of one future on one quantity, in words."""

    kind: Literal["higher", "lower", "passing", "none", "unknown"]
    """passing: there for a while, and not told from chance in the end."""
    size: str
    when: str

    @property
    def clear(self) -> bool:
        """Whether there is an effect that can be told from chance."""
        return self.kind in ("higher", "lower", "passing")

    def __str__(self) -> str:
        """As text."""
        return f"{self.size} {self.when}".strip()

    @classmethod
    def of(cls, effect: Effect, quantity: int, seconds: float) -> Cell:
        """Of steps that last so many seconds; judged are those that have a band."""
        difference, margin, sign = (x[:, quantity].tolist() for x in effect)
        judged = sum(math.isfinite(m) for m in margin)
        if not judged:
            return cls(kind="unknown", size="not known", when="(no band)")
        last = judged - 1
        if sign[last]:
            first = last
            while first and sign[first - 1] == sign[last]:
                first -= 1
            kind: Literal["higher", "lower"] = "higher" if sign[last] > 0 else "lower"
            when = f"after {(last + 1) * seconds:g} s, clear from {(first + 1) * seconds:g} s on"
            return cls(kind=kind, size=f"{kind} by {_about(abs(difference[last]), margin[last])}", when=when)
        if any(sign[:judged]):
            step = max(range(judged), key=lambda k: abs(difference[k]) * (sign[k] != 0))
            word = "higher" if sign[step] > 0 else "lower"
            when = f"after {(step + 1) * seconds:g} s, not clear in the end"
            return cls(kind="passing", size=f"{word} by {_about(abs(difference[step]), margin[step])}", when=when)
        return cls(
            kind="none",
            size=_about(difference[last], margin[last], "+"),
            when="",
        )


def _about(size: float, margin: float, sign: Literal["+", "-"] = "-") -> str:
    """Both to as many places as two figures of the margin need; + also marks what is above zero."""
    places = max(0, 1 - math.floor(math.log10(max(margin, 1e-9))))
    return f"{round(size, places) + 0.0:{sign}.{places}f} ± {margin:.{places}f}"  # + 0.0 makes zero of minus zero


@dataclass(frozen=True, kw_only=True)
class Row:
    """The effects of one future, quantity by quantity."""

    name: str
    colour: int
    other: str
    cells: list[Cell]


def in_words(story: Story) -> list[str]:
    """The effects of every future in a line of text."""
    lines = []
    for told in story.told:
        if told.other is None or told.effect is None or not story.names:
            continue
        cells = [Cell.of(told.effect, q, story.seconds) for q in range(len(story.names))]
        clear = [f"{name} {cell}" for name, cell in zip(story.names, cells, strict=True) if cell.clear]
        rest = [name for name, cell in zip(story.names, cells, strict=True) if not cell.clear]
        words = [*clear, *([f"no clear effect on {', '.join(rest)}"] if rest else [])]
        lines.append(f"{told.name}, beside {story.told[told.other].name}: {'; '.join(words)}")
    return lines


def render(story: Story, facts: dict[str, str], notes: Sequence[str]) -> str:
    """The page as text."""
    films = [(told.name, _film(told.film), k % COLOURS) for k, told in enumerate(story.told)]
    effects = [
        Row(
            name=told.name,
            colour=k % COLOURS,
            other=story.told[told.other].name,
            cells=[Cell.of(told.effect, q, story.seconds) for q in range(len(story.names))],
        )
        for k, told in enumerate(story.told)
        if told.other is not None and told.effect is not None
    ]
    changed = sum(any(cell.clear for cell in row.cells) for row in effects)
    moments = [(k + 1 - story.seen) * story.seconds for k in range(len(story.told[0].film))]
    page = _templates().get_template("what_if.html")
    return page.render(
        films=films,
        removed=story.removed,
        came=None if story.came is None else _film(story.came),
        frames=len(moments),
        seen=story.seen,
        ratio=story.told[0].film.shape[2] / story.told[0].film.shape[1],
        moments=[f"{moment:+.3g} s" if moment else "now" for moment in moments],
        panels=[panel(story, q) for q in range(len(story.names))],
        size=(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM),
        effects=effects,
        changed=changed,
        names=story.names,
        loop=len(moments) * max(0.35, story.seconds),
        facts=facts,
        notes=notes,
    )


def panel(story: Story, quantity: int) -> Panel:
    """The curves of one quantity, all in one scale that holds them and their bands."""
    margins = [told.margin[:, quantity] for told in story.told]
    values = [np.concatenate([told.past[:, quantity], told.quantities[:, quantity]]) for told in story.told]
    wide = [np.where(np.isfinite(margin), margin, 0) for margin in margins]
    ends = [v[story.seen :] + side * w for v, w in zip(values, wide, strict=True) for side in (-1, 1)]
    low, high = (float(f(np.concatenate([*values, *ends]))) for f in (np.min, np.max))
    room = 0.06 * max(high - low, 1e-6)
    low, high = low - room, high + room
    count = len(values[0])

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / max(1, count - 1)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low)

    def points(steps: Sequence[int], heights: Sequence[float]) -> str:
        return " ".join(f"{x(step):.1f},{y(height):.1f}" for step, height in zip(steps, heights, strict=True))

    lines = []
    for k, (value, margin) in enumerate(zip(values, margins, strict=True)):
        known = np.flatnonzero(np.isfinite(margin)).tolist()
        ahead = value[story.seen :]
        steps = [story.seen - 1, *(story.seen + i for i in known)]
        upper = [float(value[story.seen - 1]), *(float(ahead[i] + margin[i]) for i in known)]
        lower = [float(value[story.seen - 1]), *(float(ahead[i] - margin[i]) for i in known)]
        band = f"{points(steps, upper)} {points(steps[::-1], lower[::-1])}" if known else ""
        lines.append(Line(colour=k % COLOURS, path=points(range(count), value.tolist()), band=band))
    pace = _round_pace((high - low) / 4)
    ticks = [pace * k for k in range(math.ceil(low / pace), math.floor(high / pace) + 1)]
    every = max(1, math.ceil(count / 5))
    later = range(story.seen - 1, count, every)
    return Panel(
        name=story.names[quantity],
        lines=lines,
        rules=[(round(y(tick), 1), f"{tick:.6g}") for tick in ticks],
        marks=[(round(x(k), 1), f"{(k + 1 - story.seen) * story.seconds:.3g}") for k in later],
        now=round(x(story.seen - 1), 1),
    )


def _round_pace(least: float) -> float:
    """The next of 1, 2, 5, 10, ... at or above `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= least * (1 - 1e-9))


def _film(frames: np.ndarray) -> Markup:
    """All frames side by side, as a data URI."""
    picture = png_bytes(np.concatenate(list(frames), axis=1))
    return Markup("data:image/png;base64," + base64.b64encode(picture).decode())


def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("foretell.serve", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals["asset"] = lambda name: Markup(loader.get_source(environment, name)[0])  # our own text
    return environment
