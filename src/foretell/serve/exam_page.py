"""The exam in intuitive physics as one page: the figures drawn, then for each property one quadruplet to look at."""

from __future__ import annotations

import base64
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from foretell.evals.intuitive_physics import Verdicts, example
from foretell.log import write_whole
from foretell.serve.pictures import png_bytes
from foretell.surprise.panel import MODEL
from foretell.worlds.physics import Physics
from foretell.worlds.stage import PROPERTIES

ORACLE = "state oracle"
"""The ceiling: it is shown apart from the baselines."""
CHANCE = 0.5
EVERY = 2
"""Of so many frames a film strip shows the first."""

IMPOSSIBLE = {
    "permanence": "An object goes behind the screen and never comes out, or one comes out that never went in.",
    "continuity": "A ball gets from one screen to the other without being seen between them, or is only ever seen there.",
    "colour": "An object goes behind the screen in one colour and comes out in another.",
    "shape": "An object goes behind the screen in one shape and comes out in another.",
    "inertia": "An object changes its course behind the screen, where nothing is that could turn it.",
    "gravity": "Half way, weight turns over: what pulled the ball down now pulls it up, or the other way round.",
    "solidity": "A ball goes through the wall that was seen, or comes back where there was none.",
    "collision": "A ball comes through the heavy one in its way, or turns back with nothing in its way.",
    "support": "A ball goes on in the air beyond the end of its ledge, or falls through the ledge.",
}
"""What is wrong with the two impossible clips. What is possible is said by the property's own docstring."""

FIGURES = (
    ("relative", "Relative accuracy", "%", "the impossible two of four surprise more; 50 by guessing"),
    ("auroc", "AUROC of single clips", "", "an impossible clip peaks higher than a possible one; 0.5 by guessing"),
    ("accuracy", "Accuracy at the alarm line", "%", "impossible clips alarm, possible ones do not; 50 by guessing"),
    ("caught", "Caught", "%", "impossible clips that alarm"),
    ("delay", "Delay", "frames", "from the first frame that shows it to the peak of surprise, median"),
)
"""Of each judge for each property: its name in the result, heading, unit, meaning."""

SHAPES = (
    "M-3.4-3.4H3.4V3.4H-3.4Z",
    "M0-4.8 4.8 0 0 4.8-4.8 0Z",
    "M0-4.6 4.6 3.6H-4.6Z",
    "M0 4.6 4.6-3.6H-4.6Z",
    "M-4.2-2.2-2.2-4.2 0-2 2.2-4.2 4.2-2.2 2 0 4.2 2.2 2.2 4.2 0 2-2.2 4.2-4.2 2.2-2 0Z",
    "M-1.5-4.6H1.5V-1.5H4.6V1.5H1.5V4.6H-1.5V1.5H-4.6V-1.5H-1.5Z",
)
"""A mark for each baseline, around 0 0: who cannot tell the colours apart has the shapes, and the order of the lanes."""
MODEL_LANE, FIRST_LANE, LANE = 18.0, 37.0, 9.0
"""Pixels from the top of a row to the model, to the first baseline, and from one baseline to the next."""

AXES = ((40, 10), (30, 10), (0, 25))
"""Where the axis of the drawing may begin, and its pace, in percent."""

Figure = Mapping[str, Any]
"""value, low, high, n as a result file has them; None where a number was not finite."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One figure in a drawing. Across in percent, down in pixels."""

    x: float
    low: float
    high: float
    y: float
    shape: int = 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """The figures of one property: the model's above, one lane for each baseline below."""

    name: str
    figure: Figure | None
    model: Mark | None
    baselines: list[Mark]
    ceiling: Mark | None


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Rows over one axis."""

    rows: list[Row]
    row_height: float
    ticks: list[tuple[float, int]]
    """Place, and what is written there; both in percent."""
    chance: float


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One clip, and how surprising it was."""

    name: str
    impossible: bool
    film: str
    """All frames side by side, as a data URI."""
    takes: list[tuple[int, int, int]]
    """Stretches (first frame, frames, 0 or 1): from which of the two possible clips they come."""
    path: str
    area: str
    mean: str
    """Mean surprise: what the four are compared by."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One property: what it is about, how the model did, and one quadruplet."""

    kind: str
    possible: str
    impossible: str
    relative: Figure | None
    verdict: str
    right: bool
    strips: list[Strip]
    swaps: tuple[int, ...]
    shows: int
    first_scored: int
    top: str
    """What the upper edge of the four curves stands for."""


def write_exam_page(
    path: Path,
    result: dict[str, Any],
    verdicts: dict[str, dict[str, Verdicts]],
    world: Physics,
    seed: int,
) -> None:
    """Write the page of one exam.

    result: as read back from the result file. verdicts: property -> judge -> what it said. world, seed: where the
    quadruplets came from. Raises DataError if the page cannot be written.
    """
    # a name of a file that is not valid text is shown by its escaped bytes
    write_whole(path, render(result, verdicts, world, seed).encode("utf-8", "backslashreplace").decode())


def render(result: dict[str, Any], verdicts: dict[str, dict[str, Verdicts]], world: Physics, seed: int) -> str:
    """The page as text."""
    figures = by_judge(result)
    baselines = [name for name in figures if name not in (MODEL, ORACLE)]
    page = _templates().get_template("exam.html")
    return page.render(
        model=MODEL,
        oracle=ORACLE if ORACLE in figures else None,
        baselines=baselines,
        judges=[MODEL, *baselines, *([ORACLE] if ORACLE in figures else [])],
        figures=figures,
        kinds=list(PROPERTIES),
        columns=[dict(zip(("key", "name", "unit", "says"), column, strict=True)) for column in FIGURES],
        shapes=SHAPES,
        above_chance=sum(_low(figures, MODEL, kind) > CHANCE for kind in PROPERTIES),
        above_all=sum(_is_above_all(figures, baselines, kind) for kind in PROPERTIES),
        relative=relative_chart(figures, baselines),
        alarms=alarms_of(result["metrics"]),
        lessons=[lesson(world, kind, seed, verdicts[kind][MODEL], figures) for kind in PROPERTIES],
        every=EVERY,
        frames=world.frames,
        fps=world.fps,
        columns_of_strip=math.ceil(world.frames / EVERY),
        result=result,
        machine={name: _plain(value) for name, value in result["machine"].items()},
        protocol={name: _plain(value) for name, value in result["protocol"].items()},
    )


def by_judge(result: Mapping[str, Any]) -> dict[str, dict[str, Figure]]:
    """judge -> "property/figure" -> figure, the model first, the others in the order of the result."""
    found: dict[str, dict[str, Figure]] = {MODEL: dict(result["metrics"])}
    for name, figure in result["baselines"].items():
        judge, kind, which = name.rsplit("/", 2)
        found.setdefault(judge, {})[f"{kind}/{which}"] = figure
    return found


def relative_chart(figures: Mapping[str, Mapping[str, Figure]], baselines: Sequence[str]) -> Chart:
    """Relative accuracy of all judges for all properties, on an axis that begins at the first of AXES to hold it all."""
    every = [of_judge.get(f"{kind}/relative") for of_judge in figures.values() for kind in PROPERTIES]
    lows = [float(figure["low"]) for figure in every if figure and figure["low"] is not None]
    start, pace = next((start, pace) for start, pace in AXES if start <= 100 * min(lows, default=0.0))
    height = FIRST_LANE + LANE * len(baselines) + 4

    def row(kind: str, top: float) -> Row:
        name = f"{kind}/relative"
        marks = [
            _mark(figures[judge].get(name), start, top + FIRST_LANE + LANE * lane, lane)
            for lane, judge in enumerate(baselines)
        ]
        return Row(
            name=kind,
            figure=figures[MODEL].get(name),
            model=_mark(figures[MODEL].get(name), start, top + MODEL_LANE),
            baselines=[mark for mark in marks if mark],
            ceiling=_mark(figures.get(ORACLE, {}).get(name), start, top + MODEL_LANE),
        )

    return Chart(
        rows=[row(kind, place * height) for place, kind in enumerate(PROPERTIES)],
        row_height=height,
        ticks=[(_across(percent, start), percent) for percent in range(start, 101, pace) if percent != 100 * CHANCE],
        chance=_across(100 * CHANCE, start),
    )


def alarms_of(metrics: Mapping[str, Figure]) -> dict[str, Any] | None:
    """What was said of single clips, whole and kind by kind; None if the model has no alarm line."""
    if "false_alarms" not in metrics:
        return None

    def below(name: str, but: set[str]) -> dict[str, Figure]:
        return {
            key.removeprefix(name): figure
            for key, figure in metrics.items()
            if key.startswith(name) and key.removeprefix(name) not in but
        }

    return {
        "false": metrics["false_alarms"],
        "worst": metrics.get("false_alarms/worst_slice"),
        "familiar": metrics.get("familiar_alarms"),
        "caught": metrics.get("visible/caught"),
        "delay": metrics.get("visible/delay"),
        "false_by_kind": below("false_alarms/", {"worst_slice"}),
        "caught_by_kind": below("visible/", {"caught", "delay"}),
    }


def lesson(
    world: Physics, kind: str, seed: int, verdicts: Verdicts, figures: Mapping[str, Mapping[str, Figure]]
) -> Lesson:
    """The first quadruplet that was asked of one property, with what the model said of it."""
    four = example(world, kind, seed)
    surprise = verdicts.surprise[:, 0]
    assert surprise.shape == (4, world.frames), f"{kind}: surprise {surprise.shape} of clips of {world.frames} frames"
    highest = float(np.nanmax(surprise, initial=0.0)) or 1.0
    nothing, order = np.zeros_like(four.order), four.order
    clips = [
        ("Possible 1", four.possible[0].frames, nothing),
        ("Possible 2", four.possible[1].frames, nothing + 1),
        ("Impossible 1", four.impossible[0], order),
        ("Impossible 2", four.impossible[1], 1 - order),
    ]
    relative = float(verdicts.relative[0])
    return Lesson(
        kind=kind,
        possible=(getdoc(PROPERTIES[kind]) or "").split("\n")[0],
        impossible=IMPOSSIBLE[kind],
        relative=figures[MODEL].get(f"{kind}/relative"),
        verdict={1.0: "told apart", 0.5: "a tie"}.get(relative, "not told apart"),
        right=relative == 1.0,
        strips=[
            _strip(name, frames, taken, values, highest)
            for (name, frames, taken), values in zip(clips, surprise, strict=True)
        ],
        swaps=four.swaps,
        shows=four.shows,
        first_scored=int(np.isfinite(surprise).any(0).argmax()),
        top=f"{highest:.3g}",
    )


def _strip(name: str, frames: np.ndarray, taken: np.ndarray, values: np.ndarray, highest: float) -> Strip:
    """frames uint8 (T, H, W, 3); taken int (T,): from which possible clip; values (T,), NaN where not scored."""
    picture = png_bytes(np.concatenate(list(frames), axis=1))
    edges = [0, *(np.flatnonzero(np.diff(taken)) + 1).tolist(), len(taken)]
    points = [
        f"{step + 0.5:g} {100 - 94 * value / highest:.1f}" for step, value in enumerate(values) if np.isfinite(value)
    ]
    line = "L".join(points)
    return Strip(
        name=name,
        impossible=len(edges) > 2,
        film="data:image/png;base64," + base64.b64encode(picture).decode(),
        takes=[(a, b - a, int(taken[a])) for a, b in itertools.pairwise(edges)],
        path=f"M{line}" if points else "",
        area=f"M{points[0].split()[0]} 100L{line}L{points[-1].split()[0]} 100Z" if points else "",
        mean=f"{np.nanmean(values):#.3g}" if points else "–",
    )


def _mark(figure: Figure | None, start: float, y: float, shape: int = 0) -> Mark | None:
    """A figure on an axis from `start` to 100; None if it was not measured."""
    if figure is None or figure["value"] is None:
        return None
    at = {name: figure["value"] if figure[name] is None else figure[name] for name in ("value", "low", "high")}
    x, low, high = (_across(100 * value, start) for value in at.values())
    return Mark(x=x, low=low, high=high, y=y, shape=shape % len(SHAPES))


def _across(percent: float, start: float) -> float:
    """Where a value stands on an axis from `start` to 100, in percent of its length."""
    return round(100 * (percent - start) / (100 - start), 2)


def _low(figures: Mapping[str, Mapping[str, Figure]], judge: str, kind: str) -> float:
    value = figures[judge].get(f"{kind}/relative", {}).get("low")
    return -math.inf if value is None else float(value)


def _is_above_all(figures: Mapping[str, Mapping[str, Figure]], baselines: Sequence[str], kind: str) -> bool:
    """Whether the model's interval lies above that of every baseline."""
    theirs = [figures[judge].get(f"{kind}/relative", {}).get("high") for judge in baselines]
    return _low(figures, MODEL, kind) > max((float(high) for high in theirs if high is not None), default=CHANCE)


def told(value: float | None, unit: str) -> str:
    """A number of the result as the page shows it: shares in percent with one decimal, AUROC with three."""
    if value is None:
        return "–"
    if unit == "%":
        return f"{100 * value:.1f}"
    return f"{round(value, 2):g}" if unit == "frames" else f"{value:.3f}"


def _plain(value: Any) -> str:
    """A setting as one would write it down."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value)
    return value if isinstance(value, str) else json.dumps(value)


def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("foretell.serve", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["told"] = told
    environment.globals["asset"] = lambda name: Markup(
        loader.get_source(environment, name)[0]
    )  # our own text, not the user's
    return environment
