"""Watching fresh episodes of a world: how often it alarms for nothing, and how soon when the picture is spoilt half way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from foretell.evals.intervals import Figure, bootstrap, share
from foretell.surprise.panel import MODEL, Panel, surprise_of
from foretell.worlds.world import World

ALPHA = 0.05
Spoil = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def watch_figures(
    panel: Panel, world: World, spoilt: Mapping[str, Spoil], first_seed: int, episodes: int
) -> dict[str, Figure]:
    """False alarms an hour at alpha 0.05, and for each way of spoiling the share that alarms and the median delay in steps.

    None where the model has no alarm line, or one on too few clips for alpha.
    """
    calibration = panel.calibrations.get(MODEL)
    if calibration is None or len(calibration.scores) < 1 / ALPHA:
        return {}
    bar, scorer = calibration.threshold(ALPHA), panel.scorers[MODEL]
    clips = [world.episode(first_seed + k) for k in range(episodes)]
    normal = np.array([np.nanmax(surprise_of(scorer, clip.frames)) > bar for clip in clips])
    hours = len(clips[0].frames) / panel.view.fps / 3600
    per_hour = share(normal)
    figures: dict[str, Figure] = {
        "false alarms, share of clips": per_hour,
        "false alarms an hour": {k: v / hours if k != "n" else v for k, v in per_hour.items()},
    }
    for kind, spoil in spoilt.items():
        onset = (scorer.context + len(clips[0].frames)) // 2
        delays = []
        for number, (clip, alarmed) in enumerate(zip(clips, normal, strict=True)):
            if alarmed:
                continue  # who alarms at what is normal cannot show that it noticed
            frames = clip.frames.copy()
            changed = spoil(np.concatenate([frames[onset - 1 : onset], frames[onset:]]), np.random.default_rng(number))
            frames[onset:] = changed[1:]
            over = np.flatnonzero(surprise_of(scorer, frames)[onset:] > bar)
            delays.append(over[0] if len(over) else np.inf)
        caught = np.isfinite(delays)
        figures[f"alarmed, {kind} from half way"] = share(caught)
        if caught.any():
            late = np.array(delays)[caught]
            figures[f"delay, {kind}, steps"] = bootstrap(lambda at, late=late: float(np.median(late[at])), len(late))  # type: ignore[misc]
    return figures
