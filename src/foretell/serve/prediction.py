"""A forecast of quantities as a page: what was seen, the mean with its band, possible courses, and where it does not know."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from foretell.log import finite, write_whole
from foretell.serve.pictures import png_bytes
from foretell.serve.plots import Area, Line, plot
from foretell.train.forecaster import Forecast, Forecaster

SHOWN_COURSES = 12


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What is said of one clip. Lists have a number for each of the H steps; quantities are in their own units."""

    clip: str
    at: int
    """Steps that were before it; the first step that is foretold."""
    fps: float
    """Steps a second."""
    level: float
    """Share of clips like those calibrated on whose quantities stay inside the band at all steps at once, at least."""
    names: tuple[str, ...]
    mean: dict[str, list[float]]
    low: dict[str, list[float]]
    """Of the band; None where abstained."""
    high: dict[str, list[float]]
    spread: dict[str, list[float]]
    """Stated deviation."""
    apart: dict[str, list[float]]
    """Deviation between heads: what more footage would mend."""
    abstained: list[bool]
    """Steps of which nothing is claimed."""
    strange: float
    """Share of normal clips at least as unlike all others as what was seen of this one."""
    samples: dict[str, list[list[float]]]
    """Possible courses."""
    page: str

    def __str__(self) -> str:
        """In words, for the command line."""
        lines = [f"{self.clip}: foretold from step {self.at} on -> {self.page}"]
        for step in sorted({1, (len(self.abstained) + 1) // 2, len(self.abstained)}):
            ahead = f"  {step} ahead ({step / self.fps:.2g} s): "
            if self.abstained[step - 1]:
                lines.append(ahead + "I don't know")
                continue
            said = [
                f"{n} {self.mean[n][step - 1]:.4g} [{self.low[n][step - 1]:.4g}, {self.high[n][step - 1]:.4g}]"
                for n in self.names
            ]
            lines.append(ahead + ", ".join(said))
        if all(self.abstained):
            lines.append(
                f"  what was seen is unlike what the model knows: of normal clips {self.strange:.1%} are as strange"
            )
        return "\n".join(lines)


def write_prediction(
    out: Path,
    clip: Path,
    seen: np.ndarray,
    came: np.ndarray,
    forecaster: Forecaster,
    forecast: Forecast,
    at: int,
    samples: int,
    fps: float,
) -> Prediction:
    """Write the page `out` and its numbers beside it.

    seen, came: frames uint8 (T, H, W, 3) before and from `at` on, for the pictures alone. Raises DataError if it cannot be written.
    """
    names = forecaster.quantities.config.names

    def listed(values: np.ndarray) -> dict[str, Any]:
        return {name: values[..., k].tolist() for k, name in enumerate(names)}

    found = Prediction(
        clip=str(clip),
        at=at,
        fps=fps,
        level=forecaster.band.level,
        names=names,
        mean=listed(forecast.mean[0]),
        low=listed(forecast.low[0]),
        high=listed(forecast.high[0]),
        spread=listed(forecast.spread[0]),
        apart=listed(forecast.apart[0]),
        abstained=forecast.abstained[0].tolist(),
        strange=float(forecast.strange[0]),
        samples=listed(forecast.samples(samples)[:, 0]),
        page=str(out),
    )
    write_whole(out, render(found, seen, came))
    write_whole(out.with_suffix(".json"), json.dumps(finite(asdict(found)), indent=1, allow_nan=False) + "\n")
    return found


def render(found: Prediction, seen: np.ndarray, came: np.ndarray) -> str:
    """The page as text."""
    folder = jinja2.PackageLoader("foretell.serve")
    page = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return page.get_template("prediction.html").render(
        css=Markup(page.get_template("report.css").render()),
        found=found,
        charts=[(name, _chart(found, name)) for name in found.names],
        seen=_film(seen),
        came=_film(came) if len(came) else None,
        silent=sum(found.abstained),
    )


def _chart(found: Prediction, name: str) -> Markup:
    seconds = [(step + 1) / found.fps for step in range(len(found.abstained))]
    claimed = [not silent for silent in found.abstained]

    def where_claimed(values: Sequence[float]) -> list[tuple[float, float]]:
        return [(s, v if ok else float("nan")) for s, v, ok in zip(seconds, values, claimed, strict=True)]

    courses = [Line(points=where_claimed(course), kind="course") for course in found.samples[name][:SHOWN_COURSES]]
    band = [(s, low, high) for s, low, high in zip(seconds, found.low[name], found.high[name], strict=True)]
    whole = [found.mean[name], found.low[name], found.high[name]]
    reach = [v for values in whole for v in values if np.isfinite(v)]
    silence = [
        (s, min(reach), max(reach)) if not ok else (s, float("nan"), float("nan"))
        for s, ok in zip(seconds, claimed, strict=True)
    ]
    lines = [*courses, Line(points=where_claimed(found.mean[name]), kind="mean")]
    return plot("seconds ahead", name, lines, [Area(edges=band, kind="band"), Area(edges=silence, kind="silence")])


def _film(frames: np.ndarray) -> str:
    """Frames side by side, as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(np.concatenate(list(frames), axis=1))).decode()
