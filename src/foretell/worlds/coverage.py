"""How much of what can happen is in a recording: measured before training, as no model learns what was never shown.

Published world models fail here in silence: in Two-Room, success falls from 86% to 57% when no recorded path passes the
door (PLDM, Sobal et al. 2025).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from foretell.data.actions import ActionLog, ActionSpace

CELLS = 10
"""Equal parts of a range: of an action's, and of a quantity's."""
FEW_ACTIONS = 0.6
"""Warn where less of an action's range is used than this share."""
BRIEF, LONG = 1.5, 40.0
"""Warn where actions last fewer steps, or more."""
FEW_CELLS = 0.2
"""Warn where a pair of quantities visits fewer of its cells than this share."""
NARROW = 0.4
"""Warn where, in an episode, one of the first two quantities covers less of its range than this share."""
FEW_PASSAGES = 0.25
"""Warn below so many passages in 100 frames between the two sides of the world that are least connected."""
STILL, RARE = 0.5, 0.03
"""Warn where anything moves in fewer of the frames than this share, and where one quantity does."""

_PAIRED, _FOLLOWED = 4, 5  # of the first quantities: so many are paired, and so many are looked at one by one
_LONGEST = 50  # steps over which it is asked whether an action persists
_SIDE = 0.2  # the least share of all frames that makes a side of the world, not a corner of it
_MOVED = 1e-3  # of a quantity's range


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a recording holds. Where actions or states are not known, what would follow from them is empty or None."""

    episodes: int
    """Videos."""
    frames: int
    """Of all of them together."""
    actions: tuple[float, ...] = ()
    """For each number of an action, the share of ten equal parts of its range in which at least 1% of the actions lie;
    for discrete ones, the one share of the choices that are made at least 1% of the time."""
    lasting: float | None = None
    """Steps until an action's correlation with a later one falls below 1/e, at least 1; for discrete ones, how long a choice is kept."""
    cells: dict[tuple[str, str], float] = field(default_factory=dict)
    """For pairs of the first four quantities, the share of 10 x 10 cells over the range seen that are visited."""
    travel: dict[str, float] = field(default_factory=dict)
    """For the first five quantities, the share of the range seen that an episode covers; the middle one of all episodes."""
    moving: dict[str, float] = field(default_factory=dict)
    """For the same, the share of frames in which they change."""
    motion: float | None = None
    """The share of frames in which any of them changes."""
    passages: float | None = None
    """How often in 100 frames a path passes between the two sides of the first pair's cells that are least connected."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is likely too little to learn from, in plain words."""
        return (*self._about_actions(), *self._about_places(), *self._about_motion())

    def _about_actions(self) -> list[str]:
        found = [
            f"action_{k} uses {_percent(share)} of what it may be; the model will not know what the rest does"
            for k, share in enumerate(self.actions)
            if share < FEW_ACTIONS
        ]
        if self.lasting is not None and self.lasting < BRIEF:
            found.append(
                f"actions last {self.lasting:.1f} steps and cancel out; little is reached (try smooth or mixed)"
            )
        if self.lasting is not None and self.lasting > LONG:
            found.append(f"actions last {self.lasting:.0f} steps; hardly any change of them is seen")
        return found

    def _about_places(self) -> list[str]:
        found = [
            f"{one} and {other} visit {_percent(share)} of their cells; most of the world is never seen"
            for (one, other), share in self.cells.items()
            if share < FEW_CELLS
        ]
        found += [
            f"{name} covers {_percent(share)} of its range in an episode; far goals are never reached (longer episodes?)"
            for name, share in list(self.travel.items())[:2]
            if share < NARROW
        ]
        if self.passages is not None and self.passages < FEW_PASSAGES:
            found.append(
                f"{self.passages:.2f} times in 100 frames a path leads between two parts of the world; few pass what joins"
                " them, such as a door"
            )
        return found

    def _about_motion(self) -> list[str]:
        found = [
            f"{name} changes in {_percent(share)} of the frames; what moves it is hardly seen"
            for name, share in self.moving.items()
            if share < RARE
        ]
        if self.motion is not None and self.motion < STILL:
            found.append(f"anything moves in {_percent(self.motion)} of the frames; most of them show nothing new")
        return found

    def __str__(self) -> str:
        """What the terminal shows."""
        lines = [f"{self.episodes} episodes, {self.frames} frames"]
        if self.lasting is not None:
            lines.append(f"actions: {_list(self.actions)} of what they may be; they last {self.lasting:.1f} steps")
        if self.motion is not None:
            each = ", ".join(f"{name} {_percent(share)}" for name, share in self.moving.items())
            lines.append(f"frames in which anything moves: {_percent(self.motion)} ({each})")
            each = ", ".join(f"{name} {_percent(share)}" for name, share in self.travel.items())
            lines.append(f"range covered in an episode: {each}")
        if self.cells:
            each = ", ".join(f"{one} and {other} {_percent(share)}" for (one, other), share in self.cells.items())
            lines.append(f"cells visited: {each}")
        if self.passages is not None:
            lines.append(f"passages between the parts least connected: {self.passages:.2f} in 100 frames")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def coverage_of(log: ActionLog) -> Coverage:
    """The coverage of what a store holds of actions and states."""
    episode = np.repeat(np.arange(len(log.actions)), [len(done) for done in log.actions.values()])
    states = np.concatenate([log.states[name] for name in log.actions]) if log.states else np.zeros((len(episode), 0))
    named = dict(zip(log.quantities, states.T, strict=True))
    return measure_coverage(episode, np.concatenate(list(log.actions.values())), log.space, named)


def measure_coverage(
    episode: np.ndarray, actions: np.ndarray, space: ActionSpace, states: dict[str, np.ndarray] | None = None
) -> Coverage:
    """The coverage of N frames in order: the episode of each (N,), what was done (N, A), and states, (N,) each."""
    together = episode[1:] == episode[:-1]  # whether a frame's successor is of the same episode
    known = {name: values for name, values in (states or {}).items() if _changes(values, together)}
    followed = dict(list(known.items())[:_FOLLOWED])
    moved = {name: (np.abs(np.diff(v)) > _MOVED * np.ptp(v))[together] for name, v in followed.items()}
    pairs = list(itertools.combinations(list(known)[:_PAIRED], 2))
    places = {name: _parts(values, values.min(), values.max()) for name, values in list(known.items())[:_PAIRED]}
    return Coverage(
        episodes=len(np.unique(episode)),
        frames=len(episode),
        actions=_used(actions, space),
        lasting=_lasting(actions, space, together),
        cells={(a, b): len(np.unique(CELLS * places[a] + places[b])) / CELLS**2 for a, b in pairs},
        travel={name: _travel(values, episode) for name, values in followed.items()},
        moving={name: float(changed.mean()) for name, changed in moved.items()},
        motion=float(np.any(list(moved.values()), axis=0).mean()) if moved else None,
        passages=_passages(CELLS * places[pairs[0][0]] + places[pairs[0][1]], together) if pairs else None,
    )


def _changes(values: np.ndarray, together: np.ndarray) -> bool:
    """Whether a quantity ever changes within an episode."""
    return bool((np.abs(np.diff(values))[together] > _MOVED * np.ptp(values)).any())


def _parts(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Which of the equal parts of low..high each value is in."""
    return np.clip(((values - low) / (high - low) * CELLS).astype(int), 0, CELLS - 1)


def _used(actions: np.ndarray, space: ActionSpace) -> tuple[float, ...]:
    if space.discrete:
        return (float((actions.mean(0) >= 0.01).mean()),)
    parts = [_parts(actions[:, k], space.low[k], space.high[k]) for k in range(space.width)]
    return tuple(float((np.bincount(part, minlength=CELLS) >= 0.01 * len(part)).mean()) for part in parts)


def _lasting(actions: np.ndarray, space: ActionSpace, together: np.ndarray) -> float:
    """Steps that actions last; see Coverage.lasting."""
    if space.discrete:
        changes = (np.diff(actions.argmax(1)) != 0)[together].sum()
        return float((together.sum() + 1) / (changes + 1))
    off = actions - actions.mean(0)
    power = float((off**2).mean())
    if power == 0:
        return float(_LONGEST)
    same = np.ones(len(actions), bool)  # whether the frame and the one `lag` later are of the same episode
    before = 1.0
    for lag in range(1, min(_LONGEST, len(actions))):
        same = same[:-1] & together[lag - 1 :]
        if not same.any():
            return float(lag)
        likeness = float((off[:-lag] * off[lag:])[same].mean()) / power
        if likeness < np.exp(-1):
            return max(1.0, lag - 1 + (before - np.exp(-1)) / (before - likeness))
        before = likeness
    return float(_LONGEST)


def _travel(values: np.ndarray, episode: np.ndarray) -> float:
    spans = [np.ptp(values[episode == number]) for number in np.unique(episode)]
    return float(np.median(spans) / np.ptp(values))


def _passages(cells: np.ndarray, together: np.ndarray) -> float | None:
    """Moves in 100 frames across the thinnest cut between cells, of those along the slowest directions of mixing (the
    Fiedler vector and the next four, since there are several where cells fall apart into more than two islands).

    A cut through the middle of an open floor is passed often; one at a door that nobody passes, never.
    """
    start, end = cells[:-1][together], cells[1:][together]
    moves = np.zeros((CELLS**2, CELLS**2))
    np.add.at(moves, (start, end), 1)
    visited = np.flatnonzero(moves.sum(0) + moves.sum(1))
    between = (moves + moves.T)[np.ix_(visited, visited)]
    frames = between.sum(1)
    likeness = between / np.sqrt(np.outer(frames, frames))
    cuts = []
    for vector in np.linalg.eigh(likeness)[1].T[-6:-1]:  # all but the last, which is the same everywhere
        order = np.argsort(vector / np.sqrt(frames))
        sorted_moves, share = between[np.ix_(order, order)], np.cumsum(frames[order]) / frames.sum()
        ends = [k for k in range(1, len(order)) if _SIDE <= share[k - 1] <= 1 - _SIDE]
        cuts += [float(sorted_moves[:k, k:].sum()) for k in ends]
    return 100 * min(cuts) / int(together.sum()) if cuts else None


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _list(shares: tuple[float, ...]) -> str:
    return ", ".join(_percent(share) for share in shares)
