"""Does one clip, looked at alone, raise an alarm when it should, and only then? At the threshold of the calibration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from foretell.errors import ConfigError
from foretell.evals.intervals import Figure, bootstrap, share
from foretell.surprise.panel import surprise_of
from foretell.surprise.score import Scorer
from foretell.worlds.physics import Physics
from foretell.worlds.quadruplets import Quadruplet, quadruplet
from foretell.worlds.record import episode_seed

VISIBLE = {
    "permanence": "vanishes or appears",
    "colour": "changes colour",
    "shape": "changes shape",
    "inertia": "leaps",
}
"""Properties whose two possible clips, cut together while the object is in view, show what anyone can see to be wrong."""
EARLIEST, LATEST = 9, 4
"""A visible violation comes with so many frames before it, and so many from it on."""


@dataclass
class Alarms:
    """What was said of single clips, kind by kind."""

    raised: dict[str, list[float]] = field(default_factory=dict)
    """1 for a clip that raised an alarm (for violations: from the violation on), else 0."""
    delays: dict[str, list[int]] = field(default_factory=dict)
    """Frames from the violation to the first alarm, of violations that raised one."""

    def add(self, kind: str, alarms: np.ndarray, since: int = 0) -> None:
        """Take in one clip's alarms, bool (T,)."""
        found = np.flatnonzero(alarms[since:])
        self.raised.setdefault(kind, []).append(float(len(found) > 0))
        if len(found):
            self.delays.setdefault(kind, []).append(int(found[0]))

    def all(self) -> Figure:
        """Share of all clips that raised an alarm."""
        return share([raised for of_kind in self.raised.values() for raised in of_kind])

    def by_kind(self) -> dict[str, Figure]:
        """The same for each kind."""
        return {kind: share(raised) for kind, raised in self.raised.items()}

    def delay(self) -> Figure:
        """Median delay in frames over what was caught; NaN if nothing was."""
        delays = np.array([delay for of_kind in self.delays.values() for delay in of_kind], float)
        if not len(delays):
            return {"value": float("nan"), "low": float("nan"), "high": float("nan"), "n": 0}
        return bootstrap(lambda chosen: float(np.median(delays[chosen])), len(delays))


def together(parts: Iterable[Alarms]) -> Alarms:
    """What was said of all clips of all parts."""
    found = Alarms()
    for part in parts:
        for kind, raised in part.raised.items():
            found.raised.setdefault(kind, []).extend(raised)
        for kind, delays in part.delays.items():
            found.delays.setdefault(kind, []).extend(delays)
    return found


def false_alarms(scorer: Scorer, threshold: float, world: Physics, numbers: range, seed: int) -> Alarms:
    """Alarms on the fresh possible clips of these numbers, of a staged world."""
    found = Alarms()
    for i in numbers:
        clip = world.episode(episode_seed(seed, i))
        found.add(str(clip.states["scenario"][0]), surprise_of(scorer, clip.frames) > threshold)
    return found


def visible_violations(scorer: Scorer, threshold: float, world: Physics, count: int, seed: int) -> Alarms:
    """Alarms on `count` clips of each visible violation, in which the first frame that is wrong is known."""
    found = Alarms()
    for kind, name in VISIBLE.items():
        for frames, frame in _violations(world, kind, count, seed):
            found.add(name, surprise_of(scorer, frames) > threshold, frame)
    return found


def _violations(world: Physics, kind: str, count: int, seed: int) -> Iterator[tuple[np.ndarray, int]]:
    """`count` clips uint8 (T, H, W, 3) cut together in plain view, and the frame of the cut."""
    made = number = 0
    while made < count:
        if number > 50 * (made + 1):
            raise ConfigError(f"{world}: {kind} is hardly ever in plain view; use 24 frames or more at 10 fps")
        four = quadruplet(world, kind, episode_seed(seed, number))
        number += 1
        moments = visible_moments(four)
        if len(moments):
            cut = int(np.random.default_rng([seed, number]).choice(moments))
            first, second = (clip.frames for clip in four.possible[:: -1 if number % 2 else 1])
            yield np.concatenate([first[:cut], second[cut:]]), cut
            made += 1


def visible_moments(four: Quadruplet) -> np.ndarray:
    """Frames at which what moves in either clip is in view just before and at the cut, with enough frames around."""
    steps = np.arange(len(four.possible[0].frames))
    shown = np.ones(len(steps), bool)
    for clip in four.possible:
        there = clip.states["visible"][:, 0]
        shown &= ~(there & _partly_hidden(clip.states, clip.frames.shape[1]))
    both = shown & np.roll(shown, 1)
    return steps[both & (steps >= EARLIEST) & (steps <= len(steps) - LATEST)]


def _partly_hidden(states: dict[str, np.ndarray], size: int) -> np.ndarray:
    """bool (T,): within its width of where it is covered, the first object may be cut by a screen's edge."""
    covered, x = states["covered"][:, 0], states["x"][:, 0]
    if not covered.any():
        return np.zeros(len(x), bool)
    reach = 2 * np.nanmax(states["radius"][:, 0]) + 1.5 * size / 64
    return np.asarray((x > x[covered].min() - reach) & (x < x[covered].max() + reach))
