"""Quantities foretold along a stream, and what came: a table, numbers, and a page with the band that follows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from foretell.doubt.adaptive import AdaptiveThreshold
from foretell.log import finite, write_whole
from foretell.serve.plots import Area, Line, plot
from foretell.train.forecaster import Forecaster

RECENT = 100
"""Forecasts over which the share that held is drawn."""
SHOWN = 30
"""Forecasts, the last ones, that are drawn with what came."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One forecast of H steps and Q quantities."""

    file: str
    first: int
    """The first step that is foretold, in its video."""
    mean: np.ndarray
    """(H, Q)."""
    spread: np.ndarray
    """(H, Q) stated deviation."""
    truth: np.ndarray
    """(H, Q) what came; NaN where nobody knows."""
    abstained: np.ndarray
    """(H,) bool: of these nothing is claimed."""
    spreads: float
    """How many spreads the band leaves; infinite where that is everything."""
    miss: float | None
    """The largest miss of what was claimed, in spreads; None if nothing was, or nobody knows what came."""
    missed: bool | None
    """Whether that lay outside."""


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """What tracking a stream came to. Shares are of the forecasts that were claimed and of which it is known what came."""

    folder: Path
    names: tuple[str, ...]
    level: float
    """Share that should stay inside, over the whole horizon and all quantities."""
    horizon: int
    forecasts: int
    judged: int
    """Of these, claimed and known."""
    silent: int
    """Forecasts of which nothing at all was claimed."""
    inside: float | None
    """Share inside the band that follows."""
    inside_fixed: float | None
    """Share inside the band as it was calibrated."""
    unbounded: int
    """Of those judged, in which the band was everything: nothing could miss it."""
    bound: float
    """How far `inside` can be from `level` after so many, whatever comes."""
    skipped: int
    """Videos that could not be read."""
    too_short: int

    def __str__(self) -> str:
        """In words."""
        lines = [
            f"{self.folder}: {self.forecasts} forecasts of {', '.join(self.names)}, {self.horizon} steps each; "
            f"{self.skipped} videos could not be read, {self.too_short} were too short"
        ]
        if self.inside is not None:
            lines.append(
                f"  {self.inside:.1%} of {self.judged} stayed inside the band that follows (stated {self.level:.0%}, and never more than "
                f"{100 * self.bound:.1f} points off after so many); {self.inside_fixed:.1%} inside the fixed one"
            )
        if self.silent or self.unbounded:
            lines.append(f"  {self.silent} times: I don't know; {self.unbounded} times the band was everything")
        return "\n".join(lines)


def write_tracked(
    out: Path,
    steps: Sequence[Step],
    forecaster: Forecaster,
    follows: AdaptiveThreshold,
    *,
    fps: float,
    skipped: int,
    too_short: int,
) -> Tracked:
    """Write tracked.csv, tracked.json and report.html into `out`. Raises DataError if they cannot be written."""
    names, band = forecaster.quantities.config.names, forecaster.band
    known = [step for step in steps if step.miss is not None and step.missed is not None]
    fixed = [step.miss is not None and step.miss <= band.joint for step in known]
    found = Tracked(
        folder=out,
        names=names,
        level=band.level,
        horizon=len(steps[0].mean),
        forecasts=len(steps),
        judged=len(known),
        silent=sum(bool(step.abstained.all()) for step in steps),
        inside=1 - float(np.mean([step.missed for step in known])) if known else None,
        inside_fixed=float(np.mean(fixed)) if known else None,
        unbounded=sum(step.spreads == np.inf for step in known),
        bound=follows.bound(),
        skipped=skipped,
        too_short=too_short,
    )
    write_whole(out / "tracked.csv", _table(names, steps, fps))
    write_whole(out / "tracked.json", json.dumps(finite(asdict(found) | {"folder": str(out)}), indent=1) + "\n")
    folder = jinja2.PackageLoader("foretell.serve")
    page = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    write_whole(
        out / "report.html",
        page.get_template("tracked.html").render(
            css=Markup(page.get_template("report.css").render()),
            found=found,
            shares=_shares(known, fixed, band.level),
            width=_width(steps, band.joint),
            charts=[_courses(name, number, steps[-SHOWN:], fps) for number, name in enumerate(names)],
            shown=min(SHOWN, len(steps)),
            recent=RECENT,
        ),
    )
    return found


def _table(names: Sequence[str], steps: Sequence[Step], fps: float) -> str:
    """A row for every step that was foretold; empty where nothing is claimed or known."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    parts = [f"{name}{what}" for name in names for what in ("", "_low", "_high", "_came")]
    rows.writerow(["file", "step", "time_s", "ahead", *parts])
    for step in steps:
        low, high = _edges(step)
        for ahead in range(len(step.mean)):
            at = step.first + ahead
            cells = np.stack([step.mean[ahead], low[ahead], high[ahead], step.truth[ahead]], 1)
            if step.abstained[ahead]:
                cells[:, :3] = np.nan
            told = [f"{value:.6g}" if np.isfinite(value) else "" for value in cells.ravel()]
            rows.writerow([step.file, at, f"{at / fps:.4f}", ahead + 1, *told])
    return text.getvalue()


def _edges(step: Step) -> tuple[np.ndarray, np.ndarray]:
    """Low and high of the band, (H, Q) each; NaN where it is everything, or nothing is claimed."""
    half = step.spreads * step.spread
    half[step.abstained | ~np.isfinite(half).all(1)] = np.nan
    return step.mean - half, step.mean + half


def _shares(known: Sequence[Step], fixed: Sequence[bool], level: float) -> Markup:
    """Share of the last forecasts that stayed inside, of the band that follows, and of the fixed one."""

    def recent(inside: Sequence[bool]) -> list[tuple[float, float]]:
        sums = np.concatenate([[0], np.cumsum(inside)])
        return [(k, 100 * (sums[k] - sums[k - RECENT]) / RECENT) for k in range(RECENT, len(sums))]

    stated = [(0.0, 100 * level), (float(max(1, len(known))), 100 * level)]
    lines = [
        Line(points=recent(fixed), kind="fixed"),
        Line(points=recent([not step.missed for step in known]), kind="mean"),
        Line(points=stated, kind="stated"),
    ]
    return plot("forecasts", f"% of the last {RECENT} inside", lines)


def _width(steps: Sequence[Step], joint: float) -> Markup:
    points = [(float(number), step.spreads / joint) for number, step in enumerate(steps)]
    return plot("forecasts", "width, in fixed bands", [Line(points=points, kind="mean")], floor=0.0)


def _courses(name: str, number: int, steps: Sequence[Step], fps: float) -> Markup:
    """One quantity in the last forecasts, end to end: band, mean, and what came. Between videos lines are broken."""
    mean: list[tuple[float, float]] = []
    came: list[tuple[float, float]] = []
    edges: list[tuple[float, float, float]] = []
    for count, (step, before) in enumerate(zip(steps, [None, *steps[:-1]], strict=True)):
        seconds = ((count * len(step.mean) + np.arange(len(step.mean))) / fps).tolist()
        low, high = (edge[:, number].tolist() for edge in _edges(step))
        said = np.where(step.abstained, np.nan, step.mean[:, number]).tolist()
        if before is None or before.file != step.file:
            came.append((seconds[0], np.nan))
        mean += [(seconds[0], np.nan), *zip(seconds, said, strict=True)]
        came += zip(seconds, step.truth[:, number].tolist(), strict=True)
        edges += [(seconds[0], np.nan, np.nan), *zip(seconds, low, high, strict=True)]
    lines = [Line(points=mean, kind="mean"), Line(points=came, kind="came")]
    return plot("seconds of what was foretold", name, lines, [Area(edges=edges, kind="band")])
