"""Walls and doors, motion that slides along them, and how many steps it is to a place.

Everything is a pure function of a Layout and works on many places at once, so that an oracle can try thousands of ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

_TOUCH = 1e-9  # a wall begins this far inside itself, so that rounding never makes what touches it lie within it


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """A floor plan in pixels. The agent bumps into walls as the upright square around its disc."""

    size: int
    """Side of the square frame."""
    radius: float
    """The agent's."""
    speed: float
    """Pixels that the agent can go in a step, along each axis."""
    walls: np.ndarray
    """(K, 4): left, top, right, bottom; the frame's own walls among them."""
    hazards: np.ndarray
    """(M, 3): x, y, radius of discs that can be entered and must not."""

    @cached_property
    def blocked(self) -> np.ndarray:
        """(K, 4): where the agent's centre cannot be: the walls, wider by its radius on every side."""
        return self.walls + self.radius * np.array([-1, -1, 1, 1])

    @cached_property
    def cells(self) -> np.ndarray:
        """bool (size, size), rows first: whether the agent can stand in the middle of each pixel."""
        centre = np.arange(self.size) + 0.5
        places = np.stack(np.meshgrid(centre, centre), -1).reshape(-1, 2)
        return free(self, places).reshape(self.size, self.size)


def free(layout: Layout, places: np.ndarray) -> np.ndarray:
    """Whether the agent can be at each of the places (N, 2): bool (N,)."""
    inside = (places[:, None] > layout.blocked[:, :2] + _TOUCH) & (places[:, None] < layout.blocked[:, 2:] - _TOUCH)
    return np.logical_not(inside.all(-1).any(-1))


def clearance(layout: Layout, places: np.ndarray) -> np.ndarray:
    """Pixels between the agent's rim at places (N, 2) and the nearest hazard's: (N,), below 0 where they overlap.

    Without hazards it is infinite.
    """
    apart = np.hypot(places[:, None, 0] - layout.hazards[:, 0], places[:, None, 1] - layout.hazards[:, 1])
    return np.min(apart - layout.hazards[:, 2] - layout.radius, axis=1, initial=np.inf)


def advance(layout: Layout, places: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Where agents at places (N, 2) are after actions (N, 2), a displacement each, in pixels: (N, 2).

    The whole straight path is checked. What meets a wall stays on its face and goes on along it.
    """
    rest = np.array(actions, np.float64)
    places = np.array(places, np.float64)
    for _ in range(2):  # a path meets at most one face across and one face down before nothing is left of it
        moment, axis, face = _first_face(layout.blocked, places, rest)
        share = np.minimum(moment, 1)[:, None]
        places += share * rest
        (met,) = np.nonzero(moment < 1)
        if not len(met):
            break
        places[met, axis[met]] = face[met]
        rest *= 1 - share
        rest[met, axis[met]] = 0
    return places


def _first_face(boxes: np.ndarray, places: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first face of boxes (K, 4) on paths from places (N, 2) by moves (N, 2).

    Returns the moment (N,), a share of the path, infinite if there is none; across which axis the face lies (N,); where
    it is on that axis (N,).
    """
    move = np.where(moves == 0, 1e-300, moves)[:, None]
    with np.errstate(over="ignore"):
        one = (boxes[:, :2] + _TOUCH - places[:, None]) / move
        other = (boxes[:, 2:] - _TOUCH - places[:, None]) / move
    enters = np.minimum(one, other)
    enter, leave = enters.max(-1), np.maximum(one, other).min(-1)
    moment = np.where((enter >= 0) & (enter < leave), enter, np.inf)
    every, box = np.arange(len(places)), moment.argmin(1)
    axis = enters[every, box].argmax(-1)
    face = boxes[box, np.where(moves[every, axis] > 0, axis, axis + 2)]
    return moment[every, box], axis, face


def steps_to(layout: Layout, goal: np.ndarray, *, avoid_hazards: bool = False) -> np.ndarray:
    """Steps of the shortest way to `goal` (2,) from the middle of every pixel: (size, size), rows first.

    At full speed; infinite where there is no way, inside walls too. Both axes move at once, so that a way is as long
    as its longer side, and the nearest pixels in all eight directions are equally far: found ring by ring, true to
    about a pixel. Ways that avoid hazards keep a pixel (at 64 px) away from them.
    """
    cells = layout.cells
    if avoid_hazards:
        centre = np.arange(layout.size) + 0.5
        places = np.stack(np.meshgrid(centre, centre), -1).reshape(-1, 2)
        cells = cells & (clearance(layout, places) > layout.size / 64).reshape(cells.shape)
    steps = np.full(cells.shape, np.inf)
    rows, columns = np.nonzero(cells)
    nearest = np.argmin((columns + 0.5 - goal[0]) ** 2 + (rows + 0.5 - goal[1]) ** 2)
    ring = np.zeros_like(cells)
    ring[rows[nearest], columns[nearest]] = True
    far = 0
    while ring.any():
        steps[ring] = far / layout.speed
        ring = _spread(ring) & cells & np.isinf(steps)
        far += 1
    return steps


def look_up(steps: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Steps from places (N, 2), by the table of steps_to: (N,). On a wall's face the nearest pixel around counts."""
    column, row = np.clip(np.floor(places).astype(int), 0, len(steps) - 1).T
    around = np.pad(steps, 1, constant_values=np.inf)
    near = np.min([around[row + i, column + j] for i in range(3) for j in range(3)], axis=0)
    return np.where(np.isinf(steps[row, column]), near, steps[row, column])


def walk(layout: Layout, steps: np.ndarray, place: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The action (2,), at most full speed, that takes an agent from `place` (2,) along the shortest way to `goal` (2,).

    `steps` is the table of steps_to(layout, goal).
    """
    to_goal = goal - place
    if np.abs(to_goal).max() <= 2 * layout.speed:
        return np.clip(to_goal, -layout.speed, layout.speed)
    around = np.pad(steps, 1, constant_values=np.inf)
    ahead = place
    for _ in range(int(np.ceil(layout.speed)) + 1):
        column, row = np.clip(np.floor(ahead).astype(int), 0, layout.size - 1)
        near = around[row : row + 3, column : column + 3]
        offsets = np.array([-1, 0, 1])
        far = np.hypot(column + offsets + 0.5 - goal[0], (row + offsets + 0.5 - goal[1])[:, None])
        best = np.argmin(near + 1e-3 * far)  # of ways equally long, the one that looks straight
        ahead = np.array([column - 0.5 + best % 3, row - 0.5 + best // 3])
        if np.abs(ahead - place).max() >= layout.speed:  # to look further ahead would cut corners
            break
    return np.clip(ahead - place, -layout.speed, layout.speed)


def _spread(ring: np.ndarray) -> np.ndarray:
    """A mask (H, W) and all its neighbours in eight directions."""
    wide = np.pad(ring, 1)
    wide = wide[:-2] | wide[1:-1] | wide[2:]
    return wide[:, :-2] | wide[:, 1:-1] | wide[:, 2:]
