"""Matched quadruplets: two possible clips, and two impossible ones made of the very same frames.

The two possible clips share a moment to the pixel. Each impossible one goes over from one to the other there, so that
every frame, and every step from frame to frame, occurs in the possible ones, too: what compares neighbouring frames sees
no difference (after IntPhys, arXiv 1803.07616).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foretell.data.clip import Clip
from foretell.errors import ConfigError
from foretell.worlds.dynamics import simulate
from foretell.worlds.physics import Physics
from foretell.worlds.stage import PROPERTIES, draw_pair

HIDDEN = 2
"""Frames in a row, at least, that the clips of a pair share where something is hidden."""
_MOST_DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class Quadruplet:
    """Two possible clips, and where each impossible one goes over from one to the other."""

    kind: str
    possible: tuple[Clip, Clip]
    swaps: tuple[int, ...]
    """Frames, the first that come from the other clip: one, or two for continuity."""
    shows: int
    """First frame at which an impossible clip shows what the possible one would not."""

    @property
    def order(self) -> np.ndarray:
        """int (T,): 0 where the first impossible clip takes its frame from the first possible one, 1 from the second."""
        steps = np.arange(len(self.possible[0].frames))
        return np.sum([steps >= swap for swap in self.swaps], axis=0) % 2

    @property
    def impossible(self) -> tuple[np.ndarray, np.ndarray]:
        """Frames uint8 (T, H, W, 3) of the two impossible clips."""
        first, second = (clip.frames for clip in self.possible)
        taken = self.order[:, None, None, None].astype(bool)
        return np.where(taken, second, first), np.where(taken, first, second)


def quadruplet(world: Physics, kind: str, seed: int) -> Quadruplet:
    """The quadruplet of `seed` for one of stage.PROPERTIES, drawn from `world.part` as `world` looks.

    Raises ConfigError for an unknown property, or if clips of `world.frames` hardly ever share a moment.
    """
    if kind not in PROPERTIES:
        raise ConfigError(f"quadruplet: got property {kind!r}, expected one of {', '.join(PROPERTIES)}")
    rng = np.random.default_rng([seed, list(PROPERTIES).index(kind)])
    for _ in range(_MOST_DRAWS):
        scenes = draw_pair(rng, kind, world.part)
        look = world.draw_look(rng)
        paths = [simulate(scene, world.frames, world.fps) for scene in scenes]
        pair = [world.clip(f"{kind}-{seed}", s, path, look) for s, path in zip(scenes, paths, strict=True)]
        same = (pair[0].frames == pair[1].frames).all((1, 2, 3))
        swaps = _swaps(kind, same, round(1.2 * world.fps))
        if swaps is not None:
            shows = swaps[0] + int(np.argmin(same[swaps[0] :]))
            return Quadruplet(kind=kind, possible=(pair[0], pair[1]), swaps=swaps, shows=shows)
    raise ConfigError(f"{world}: no pair for {kind} shares a moment; use 24 frames or more at 10 fps")


def _swaps(kind: str, same: np.ndarray, meeting: int) -> tuple[int, ...] | None:
    """Where to go over, given bool (T,): frames that the two clips share. None: nowhere."""
    if kind == "gravity":
        return (meeting,) if same[meeting] and not same[meeting - 1] and not same[meeting + 1] else None
    runs = [run for run in shared_runs(same) if len(run) >= HIDDEN]
    wanted = 2 if kind == "continuity" else 1
    if len(runs) != wanted:
        return None
    return tuple(run[len(run) // 2] for run in runs)


def shared_runs(same: np.ndarray) -> list[range]:
    """Stretches of shared frames with other frames before and after: from `a` to `b` where same[a:b], bool (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(int), [0]])))
    runs = [range(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [run for run in runs if run.start > 0 and run.stop < len(same)]
