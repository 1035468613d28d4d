"""Watching fresh episodes of a world: how often it alarms for nothing, or does not know, and what it notices of a spoilt picture."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from foretell.data.clip import View
from foretell.data.readers import find_sources, read
from foretell.data.writers import write_video
from foretell.evals.intervals import Figure, bootstrap, share
from foretell.surprise.panel import MODEL, STRANGE, Panel, scores_of
from foretell.worlds.world import World

ALPHA = 0.05
Spoil = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Noticed(NamedTuple):
    """Of each step of a clip (T,), whether it raises an alarm, and whether it does not know."""

    alarm: np.ndarray
    unknown: np.ndarray


def watch_figures(
    panel: Panel, world: World, spoilt: Mapping[str, Spoil], first_seed: int, episodes: int
) -> dict[str, Figure]:
    """At alpha 0.05: false alarms, and normal clips that are said not to be known; for each way of spoiling from half way on the
    share that alarms, the share that alarms or is said not to be known, and the median delay of that in steps.

    All is watched as a video file is, spoilt before it was written: what a codec does to a picture is part of what is normal.
    None where the model has no alarm line, or one on too few clips for alpha.
    """
    lines = {name: panel.calibrations.get(name) for name in (MODEL, STRANGE)}
    bars = {
        name: np.inf if line is None or len(line.scores) < 1 / ALPHA else line.threshold(ALPHA)
        for name, line in lines.items()
    }
    if not np.isfinite(bars[MODEL]):
        return {}

    def watched(frames: np.ndarray) -> Noticed:
        surprise, strange = scores_of(panel.scorers[MODEL], filmed(frames, panel.view))
        return Noticed(surprise > bars[MODEL], strange > bars[STRANGE])

    clips = [world.episode(first_seed + k).frames for k in range(episodes)]
    normal = [watched(frames) for frames in clips]
    alarmed = np.array([noticed.alarm.any() for noticed in normal])
    silent = np.array([not (noticed.alarm | noticed.unknown).any() for noticed in normal])
    hours = len(clips[0]) / panel.view.fps / 3600
    per_hour = share(alarmed)
    figures: dict[str, Figure] = {
        "false alarms, share of clips": per_hour,
        "false alarms an hour": {k: v / hours if k != "n" else v for k, v in per_hour.items()},
        "not known, share of normal clips": share(np.array([noticed.unknown.any() for noticed in normal])),
    }
    onset = (panel.scorers[MODEL].context + len(clips[0])) // 2
    for kind, spoil in spoilt.items():
        after = []
        for number in np.flatnonzero(silent):  # who says something of what is normal cannot show that it noticed
            frames = clips[number].copy()
            changed = spoil(np.concatenate([frames[onset - 1 : onset], frames[onset:]]), np.random.default_rng(number))
            frames[onset:] = changed[1:]
            after.append(Noticed(*(said[onset:] for said in watched(frames))))
        figures[f"alarmed, {kind} from half way"] = share(np.array([noticed.alarm.any() for noticed in after]))
        late = [np.flatnonzero(noticed.alarm | noticed.unknown) for noticed in after]
        delays = np.array([first[0] if len(first) else np.inf for first in late])
        figures[f"alarmed or not known, {kind} from half way"] = share(np.isfinite(delays))
        if np.isfinite(delays).any():
            known = delays[np.isfinite(delays)]
            figures[f"delay, {kind}, steps"] = bootstrap(
                lambda at, known=known: float(np.median(known[at])),  # type: ignore[misc]
                len(known),
            )
    return figures


def filmed(frames: np.ndarray, view: View) -> np.ndarray:
    """Frames uint8 (T, H, W, 3), a step each, as they are read from a video file that they were written to."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, view.fps)
        return np.concatenate([chunk.frames for chunk in read(find_sources(path)[0], view)])
