"""The same questions, asked of public benchmarks: which clips of a group are impossible, and is this one?

All scorers of a model's panel answer: the model, and beside it motion and the untrained network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from foretell.errors import DataError
from foretell.evals.detect import auroc
from foretell.evals.intervals import Figure, bootstrap, share
from foretell.evals.layouts import LabelledClip, clip_frames
from foretell.log import progress
from foretell.surprise.panel import Panel, surprise_of

Surprises = dict[str, dict[str, np.ndarray]]
"""scorer -> name of the clip -> surprise (T,), NaN where not scored."""


def surprises_of(panel: Panel, clips: Sequence[LabelledClip]) -> Surprises:
    """What each scorer says of each clip. Raises DataError for a clip that is too short to be scored at all."""
    found: Surprises = {name: {} for name in panel.scorers}
    with progress(len(clips), "clips", "clip") as bar:
        for clip in clips:
            frames = clip_frames(clip, panel.view)
            for name, scorer in panel.scorers.items():
                surprise = surprise_of(scorer, frames)
                if np.isnan(surprise).all():
                    needed = scorer.context + 1
                    raise DataError(f"{clip.path}: {len(frames)} steps, expected at least {needed}: too short to score")
                found[name][clip.name] = surprise
            bar.update()
    return found


def figures_of(surprises: Mapping[str, np.ndarray], clips: Sequence[LabelledClip]) -> dict[str, Figure]:
    """relative and auroc of each property, and of all together; clips without a label, or without a partner, are left out.

    relative: a group counts 1 if its impossible clips surprise more on average (over steps, then clips), 0.5 for a tie.
    auroc: of the largest surprise of single clips, drawn anew by group.
    """
    found: dict[str, Figure] = {}
    groups = _whole_groups(clips)
    for kind in [*sorted({clip.property for clip in clips}), "all"]:
        chosen = [group for group in groups if kind in ("all", group[0].property)]
        if not chosen:
            continue
        found[f"{kind}/relative"] = share([_relative(surprises, group) for group in chosen])
        found[f"{kind}/auroc"] = bootstrap(partial(_auroc, surprises, chosen), len(chosen))
    return found


def plausibilities(surprises: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Clip -> 0..1, higher for what surprises less: the share of clips whose mean surprise is at least as high."""
    means = {name: float(np.nanmean(of_clip)) for name, of_clip in surprises.items()}
    ordered = np.sort(list(means.values()))
    return {name: float(np.mean(ordered >= mean)) for name, mean in means.items()}


def _whole_groups(clips: Sequence[LabelledClip]) -> list[list[LabelledClip]]:
    groups: dict[str, list[LabelledClip]] = defaultdict(list)
    for clip in clips:
        if clip.possible is not None:
            groups[clip.group].append(clip)
    return [group for group in groups.values() if len({clip.possible for clip in group}) == 2]


def _relative(surprises: Mapping[str, np.ndarray], group: Sequence[LabelledClip]) -> float:
    possible, impossible = (
        np.mean([np.nanmean(surprises[clip.name]) for clip in group if clip.possible is kind]) for kind in (True, False)
    )
    return 0.5 if impossible == possible else float(impossible > possible)


def _auroc(surprises: Mapping[str, np.ndarray], groups: Sequence[Sequence[LabelledClip]], drawn: np.ndarray) -> float:
    clips = [clip for i in drawn for clip in groups[i]]
    largest = np.array([np.nanmax(surprises[clip.name]) for clip in clips])
    return auroc(largest, np.array([not clip.possible for clip in clips]))
