"""report.html: one file that anyone can open, without network, and understand without a manual."""

from __future__ import annotations

import base64
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from foretell.serve.gallery import SHOWN, Gallery, Shown
from foretell.serve.pictures import HEAT_COLOURS, enlarge, heat_levels, heat_overlay, jpeg_bytes
from foretell.serve.summary import FileResult, Promise, WatchSummary, expected_by_chance, number, write_text
from foretell.serve.timeline import Ruler, Timeline, runs, timeline

MOMENTS = 6
MOMENT_SECONDS_BEFORE, MOMENT_SECONDS_AFTER = 1.0, 1.0


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A short stretch around a peak, played in a loop. Frames count in the embedded video."""

    card: int
    first: int
    last: int
    time: str
    times_alarm_line: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """One video of the page."""

    number: int
    result: FileResult
    timeline: Timeline
    moments: list[Moment]
    verdict: str
    rarity: str
    """How normal footage compares; empty without calibration."""
    excerpt: str
    """What is left out of the embedded video; empty if it is whole."""
    unscored_percent: float
    """How much of the start has no score yet."""
    duration: str
    video: str
    poster: str
    heat_poster: str


def write_report(path: Path, summary: WatchSummary, gallery: Gallery) -> None:
    """Write the page for what was found."""
    write_text(path, render(summary, gallery))


def render(summary: WatchSummary, gallery: Gallery) -> str:
    """The page as text."""
    shown, scale, fps = gallery.shown(), gallery.heat_scale(), gallery.fps
    rulers = _rulers(shown)
    cards = [_card(i, video, summary.promise, rulers, scale, fps) for i, video in enumerate(shown)]
    alarmed = [card for card in cards if card.result.alarm]
    # The worst of every video first, then the second worst of each.
    by_rank = itertools.zip_longest(*(card.moments for card in alarmed or cards))
    moments = [moment for rank in by_rank for moment in rank if moment is not None][:MOMENTS]
    page = _templates().get_template("report.html")
    return page.render(
        summary=summary,
        promise=summary.promise,
        counts=summary.counts,
        by_chance=expected_by_chance(summary.promise, summary.files),
        controls=_controls(summary),
        cards=cards,
        moments=moments,
        moments_are_alarms=bool(alarmed),
        hidden=max(0, int(summary.counts["scored"]) - len(cards)),
        most_shown=SHOWN,
        rows=_rows(summary, cards),
        data={"colours": HEAT_COLOURS.tolist(), "videos": [_player(video, scale, fps) for video in shown]}
        | {"values": [card.timeline.values for card in cards]},
        view=summary.protocol["view"],
        context_seconds=max(0, summary.protocol["context_steps"] - summary.protocol["smoothed_over_steps"] // 2) / fps,
    )


def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("foretell.serve", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["duration"] = duration
    environment.filters["clock"] = clock
    environment.filters["number"] = number
    environment.globals["asset"] = lambda name: Markup(
        loader.get_source(environment, name)[0]
    )  # our own text, not the user's
    return environment


def _rulers(shown: list[Shown]) -> dict[str, Ruler]:
    if not shown:
        return {}
    rulers = {"": Ruler.over([video.surprise for video in shown])}
    for name in shown[0].controls:
        rulers[name] = Ruler.over([video.controls[name] for video in shown])
    return rulers


def _card(
    index: int, shown: Shown, promise: Promise, rulers: dict[str, Ruler], scale: tuple[float, float], fps: float
) -> Card:
    drawn = timeline(shown, rulers, fps)
    worst = shown.peaks[0]
    still = shown.worst_frame[None]
    painted = heat_overlay(still, shown.heat[worst : worst + 1], scale)
    scored = np.flatnonzero(np.isfinite(shown.surprise.values))
    return Card(
        number=index,
        result=shown.result,
        timeline=drawn,
        moments=[
            _moment(index, shown, peak, drawn, fps) for peak in shown.peaks if _is_worth_showing(shown, peak, drawn)
        ],
        verdict=_verdict(shown.result),
        rarity=_rarity(shown.result, promise),
        excerpt=_excerpt(shown, fps),
        unscored_percent=100 * (scored[0] + 0.5) / len(shown.surprise.values) if scored[0] else 0.0,
        duration=duration(shown.result.seconds),
        video="data:video/mp4;base64," + base64.b64encode(shown.mp4).decode(),
        poster=_image(still),
        heat_poster=_image(painted),
    )


def _value_at(shown: Shown, peak: int, drawn: Timeline) -> float:
    part = int(shown.steps[peak]) * len(drawn.values) // shown.length
    return drawn.values[part] or 0.0


def _is_worth_showing(shown: Shown, peak: int, drawn: Timeline) -> bool:
    """The worst moment always; the others if they are alarms, or at least half as surprising."""
    worst = _value_at(shown, shown.peaks[0], drawn)
    return peak == shown.peaks[0] or _value_at(shown, peak, drawn) >= (1.0 if drawn.alarm_y is not None else worst / 2)


def _moment(index: int, shown: Shown, peak: int, drawn: Timeline, fps: float) -> Moment:
    """Up to a second before and after the peak, as far as the embedded video has it without a gap."""
    middle = int(shown.steps[peak])
    first, last = next((a, b - 1) for a, b in runs(shown.steps) if a <= middle < b)
    first = max(first, middle - round(MOMENT_SECONDS_BEFORE * fps))
    last = min(last, middle + round(MOMENT_SECONDS_AFTER * fps))
    value = _value_at(shown, peak, drawn)
    return Moment(
        card=index,
        first=int(np.searchsorted(shown.steps, first)),
        last=int(np.searchsorted(shown.steps, last)),
        time=clock(middle / fps),
        times_alarm_line=f"{number(round(value, 2))} × the alarm line" if drawn.alarm_y is not None else "",
    )


def _verdict(result: FileResult) -> str:
    if result.unknown and not result.alarm:
        return f"Not known from {clock(result.unknown[0][0])}"
    if result.alarm is None:
        return "No alarm line"
    if not result.alarm:
        return "No alarm"
    more = f" (+{len(result.alarms) - 1})" if len(result.alarms) > 1 else ""
    return f"Alarm at {clock(result.alarms[0][0])}{more}"


def _rarity(result: FileResult, promise: Promise) -> str:
    """The p-value as one would count it: (1 + units that came as far) / (1 + units)."""
    if result.p_value is None or promise.calibration_units is None:
        return ""
    units = promise.calibration_units
    reached = round(result.p_value * (units + 1)) - 1
    who = f"{'None' if reached == 0 else reached} of the {units:,} normal {promise.unit}s used for calibration"
    return f"{who} came this far (p = {result.p_value:.2g})."


def _excerpt(shown: Shown, fps: float) -> str:
    if len(shown.steps) == shown.length:
        return ""
    stretches = len(runs(shown.steps))
    where = (
        "the stretch around its worst moment" if stretches == 1 else f"{stretches} stretches around its worst moments"
    )
    kept, whole = duration(len(shown.steps) / fps), duration(shown.length / fps)
    return f"To keep this page small it holds {where}: {kept} of {whole}."


def _controls(summary: WatchSummary) -> list[dict[str, Any]]:
    """How many files each control would have alarmed on; None without its own calibration."""
    scored = [file for file in summary.files if file.status == "scored"]
    names = scored[0].controls if scored else {}
    found = []
    for name in names:
        alarms = [file.controls[name].alarm for file in scored]
        found.append({"name": name, "with_alarm": None if None in alarms else sum(map(bool, alarms))})
    return found


def _rows(summary: WatchSummary, cards: list[Card]) -> list[dict[str, Any]]:
    """The table of all files, the most surprising first; what is not scored comes last."""
    cards_by_file = {card.result.file: card.number for card in cards}
    files = sorted(summary.files, key=lambda file: -(file.max_surprise if file.max_surprise is not None else -np.inf))
    return [{"result": file, "card": cards_by_file.get(file.file), "verdict": _verdict(file)} for file in files]


def _player(shown: Shown, scale: tuple[float, float], fps: float) -> dict[str, Any]:
    """What the page's script needs to play one video with its heat: one byte a token."""
    levels = np.round(255 * heat_levels(shown.heat, scale)).astype(np.uint8)
    return {
        "fps": fps,
        "length": shown.length,
        "runs": runs(shown.steps),
        "grid": levels.shape[1:],
        "heat": base64.b64encode(levels.tobytes()).decode(),
    }


def _image(frames: np.ndarray) -> str:
    """The one frame of (1, H, W, 3) as JPEG for an img tag."""
    height, width = frames.shape[1:3]
    factor = max(1, round(192 / min(height, width)))
    image = next(enlarge(frames, factor))
    return "data:image/jpeg;base64," + base64.b64encode(jpeg_bytes(image)).decode()


def clock(seconds: float) -> str:
    """A moment in a video, as a player shows it: 1.2 s, 3:05, 2:07:33."""
    if seconds < 60:
        return duration(seconds)
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """A length of time as one would say it: 1.2 s, 3 min 05 s, 2 h 07 min."""
    if seconds < 60:
        return f"{round(seconds, 1):g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
