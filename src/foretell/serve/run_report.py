"""What a person sees of a guarded run: a film of seen, foreseen and goal, and a page that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from foretell.data.writers import write_video
from foretell.log import write_whole
from foretell.plan.decisions import Audit, Decision
from foretell.serve.pictures import INK, MARK, PAPER, write_words

SCALE, EDGE, HEAD = 3, 6, 22
SHOWN_DECISIONS = 400
"""Decisions that the page lists; the log has all."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One decision, and what stood before it."""

    seen: np.ndarray
    """uint8 (H, W, 3)."""
    foreseen: np.ndarray | None
    """uint8 (H, W, 3), what had been imagined of this very moment one step before, decoded; None at the first."""
    goal: np.ndarray | None
    """uint8 (H, W, 3); None in a run whose goal is no picture."""
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One task, from start to goal or to the end of its budget."""

    steps: Sequence[Step]
    reached: int | None
    """Frames until the goal was reached; 0: it was not; None: nobody can say."""


def film(episodes: Sequence[Episode]) -> np.ndarray:
    """All episodes one after another, uint8 (T, H, W, 3): seen, foreseen and, if there is one, the goal.

    A red edge where the fallback was done.
    """
    return np.stack([_picture(number, step) for number, episode in enumerate(episodes) for step in episode.steps])


def goals_reached(reached: Sequence[int | None]) -> str:
    """In words, from the frames that each task took."""
    count, known = len(reached), [when for when in reached if when is not None]
    goals = "goal" if count == 1 else "goals"
    if len(known) < count:
        return f"nobody can say whether {count} {goals} were reached"
    return f"{sum(when > 0 for when in known)} of {count} {goals} reached"


def _picture(number: int, step: Step) -> np.ndarray:
    height, width = (SCALE * side for side in step.seen.shape[:2])
    blank = np.full(step.seen.shape, 200, np.uint8)
    columns = {"seen": step.seen, "foreseen": blank if step.foreseen is None else step.foreseen}
    columns |= {} if step.goal is None else {"goal": step.goal}
    page = np.empty((height + HEAD + 2 * EDGE, len(columns) * (width + EDGE) + EDGE, 3), np.uint8)
    page[:] = MARK if step.decision.status == "fallback" else PAPER
    page[:HEAD] = PAPER
    for column, (name, picture) in enumerate(columns.items()):
        left = EDGE + column * (width + EDGE)
        words = f"{name} {number + 1}.{step.decision.step}" if column == 0 else name
        write_words(page[4:HEAD, left : left + width], words, 2, INK)
        page[HEAD + EDGE : HEAD + EDGE + height, left : left + width] = picture.repeat(SCALE, 0).repeat(SCALE, 1)
    return page[: page.shape[0] // 2 * 2, : page.shape[1] // 2 * 2]


def write_run(
    out: Path, episodes: Sequence[Episode], names: Sequence[str], audit: Audit, facts: dict[str, str], fps: float
) -> Path:
    """Write out/run.mp4 and out/report.html; returns the page. Raises DataError if they cannot be written."""
    write_video(out / "run.mp4", film(episodes), fps)
    loader = jinja2.PackageLoader("foretell.serve", "templates")
    templates = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    rows = [(number, step.decision) for number, episode in enumerate(episodes, 1) for step in episode.steps]
    page = templates.get_template(
        "run.html"
    ).render(
        css=Markup(loader.get_source(templates, "report.css")[0]),  # our own text, not the user's
        video=base64.b64encode((out / "run.mp4").read_bytes()).decode(),
        episodes=episodes,
        goals=goals_reached([episode.reached for episode in episodes]),
        pictured=any(step.goal is not None for episode in episodes for step in episode.steps),
        rows=rows[:SHOWN_DECISIONS],
        left_out=max(0, len(rows) - SHOWN_DECISIONS),
        names=names,
        audit=audit,
        facts=facts,
    )
    write_whole(out / "report.html", page.encode("utf-8", "backslashreplace").decode())
    return out / "report.html"
