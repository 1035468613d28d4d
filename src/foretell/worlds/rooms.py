"""Rooms, walls and doors, seen from above: an agent walks to a place, past hazards that it must not touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foretell.data.actions import ActionSpace
from foretell.errors import ConfigError
from foretell.worlds.floorplan import Layout, advance, clearance, free
from foretell.worlds.paint import Colour, paint_disc
from foretell.worlds.world import one_action

# Lengths are in units of 1/64 of the frame.
BORDER, WALL, DOOR, RADIUS = 3.0, 4.0, 12.0, 3.0
"""How thick the frame's walls and the inner ones are, how wide a door is, the agent's radius."""
DOORS_APART = 16.0
"""From the middle of one door in a wall to the other's, at least."""
HAZARD = 3.0
"""A hazard's radius."""
NEAR = 4.0
"""The goal is reached within this distance."""
MOST_HAZARDS = 4
_LANE = BORDER + 2 * RADIUS + HAZARD + 2.0  # from a wall's outer face to a hazard's centre: 2 px to pass between them
_TWO_HAZARDS = ((17.0, 17.0), (47.0, 47.0), (17.0, 47.0), (47.0, 17.0))
_FOUR_HAZARDS = ((17.0, 47.0), (47.0, 17.0), (17.0, 17.0), (47.0, 47.0))

AGENTS: dict[str, Colour] = {"blue": (40, 80, 210), "green": (30, 140, 60), "purple": (130, 40, 150)}
GROUNDS: dict[str, Colour] = {"light": (236, 236, 230), "sand": (222, 200, 160), "dark": (90, 95, 105)}
WALLS: dict[str, Colour] = {"slate": (50, 55, 70), "brick": (150, 70, 50), "pale": (150, 170, 190)}
RADII = {"normal": 3.0, "small": 2.0, "large": 4.0}
WARNING: Colour = (240, 130, 20)


@dataclass(frozen=True, kw_only=True)
class RoomsConfig:
    """A floor plan, and how it looks. Nothing of the looks changes what happens."""

    size: int = 64
    """Pixels of a side of the square frame; all lengths scale with it."""
    fps: float = 10.0
    """Frames a second; one step of the agent leads to the next frame."""
    layout: Literal["two", "four"] = "two"
    """two: one wall with one door. four: a cross with four doors, so placed that corners opposite each other are far apart."""
    speed: float | None = None
    """Pixels that the agent can go in a step along each axis, at 64 px: 2 in two rooms and 1 in four unless given."""
    varied: bool = False
    """Whether every episode draws the place of the wall, its one or two doors and the hazards anew (two rooms only)."""
    hazards: int = 0
    """Discs that the agent can enter and must not, 0 to 4."""
    agent: Literal["blue", "green", "purple"] = "blue"
    """The agent's colour."""
    radius: Literal["normal", "small", "large"] = "normal"
    """How large the agent is painted; what it bumps into stays the same."""
    ground: Literal["light", "sand", "dark"] = "light"
    """The ground's colour."""
    walls: Literal["slate", "brick", "pale"] = "slate"
    """The walls' colour."""

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 8:
            raise ConfigError(f"rooms size: got {self.size}, expected a multiple of 8 from 32 up")
        if not 0 < self.fps <= 1000:
            raise ConfigError(f"rooms fps: got {self.fps}, expected more than 0 and at most 1000")
        if self.speed is not None and not 0 < self.speed <= 16:
            raise ConfigError(f"rooms speed: got {self.speed}, expected more than 0 and at most 16")
        if not 0 <= self.hazards <= MOST_HAZARDS:
            raise ConfigError(f"rooms hazards: got {self.hazards}, expected 0 to {MOST_HAZARDS}")
        if self.varied and self.layout == "four":
            raise ConfigError("rooms: four rooms are always the same; use layout two with varied")
        known_layouts = ("two", "four")
        for name, known in (
            ("layout", known_layouts),
            ("agent", AGENTS),
            ("radius", RADII),
            ("ground", GROUNDS),
            ("walls", WALLS),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(f"rooms {name}: got {getattr(self, name)!r}, expected one of {', '.join(known)}")


SHIFTS: dict[str, dict[str, str]] = {
    "agent's colour": {"agent": "green"},
    "agent's size": {"radius": "large"},
    "ground": {"ground": "sand"},
    "walls": {"walls": "brick"},
    "all of it": {"agent": "purple", "radius": "small", "ground": "dark", "walls": "pale"},
}
"""Changed appearances, as changes to a RoomsConfig: what a model that was trained on the defaults has not seen."""


class Rooms:
    """The world of a RoomsConfig.

    An action is how far to go, (right, down) in pixels. Collisions stop the agent at the wall and let it slide along.
    A state is the agent's x and y; with hazards, `clearance`, the pixels between its rim and the nearest hazard's
    (below 0 where they overlap); varied, also the places of the wall, its doors and the hazards. Pixels, y downward.
    Where there is one door, `other_door` is the same one.
    """

    over = False

    def __init__(self, config: RoomsConfig | None = None) -> None:
        self.config = config or RoomsConfig()
        self._scale = self.config.size / 64
        speed = self._speed
        self.actions = ActionSpace(low=(-speed, -speed), high=(speed, speed))
        self.fps = float(self.config.fps)
        names = ["x", "y", *(["clearance"] if self.config.hazards else [])]
        if self.config.varied:
            names += ["wall", "door", "other_door"]
            names += [f"hazard_{n}_{axis}" for n in range(self.config.hazards) for axis in "xy"]
        self.quantities = tuple(names)
        self._places: np.ndarray = np.array([])  # of wall, doors and hazards, in pixels, as in the state
        self._build(self._usual_places())
        self._place = np.full(2, np.nan)

    def __repr__(self) -> str:
        return f"Rooms({self.config!r})"

    @property
    def _speed(self) -> float:
        usual = 2.0 if self.config.layout == "two" else 1.0
        return (self.config.speed or usual) * self._scale

    def reset(self, seed: int) -> None:
        """Begin an episode: draw the layout, if it is varied, and where the agent is, touching nothing."""
        rng = np.random.default_rng(seed)
        if self.config.varied:
            self._build(self._scale * _draw_places(rng, self.config.hazards))
        self._place = self.draw_place(rng)

    def draw_place(self, rng: np.random.Generator) -> np.ndarray:
        """A place (2,), evenly drawn from all where the agent touches neither wall nor hazard."""
        while True:
            places = rng.uniform(0, self.config.size, (64, 2))
            open_ones = places[free(self.layout, places) & (clearance(self.layout, places) > 0)]
            if len(open_ones):
                return open_ones[0]

    def step(self, action: np.ndarray) -> None:
        """Go (right, down) by `action` (2,), as far as walls let it."""
        action = one_action(self.actions, action, "rooms")
        self._place = advance(self.layout, self._place[None], action[None])[0]

    def render(self) -> np.ndarray:
        """The floor from above with the agent on it."""
        frame = self._floor.copy()
        radius = RADII[self.config.radius] * self._scale
        x, y = self._place
        paint_disc(frame, x, y, radius, AGENTS[self.config.agent])
        return frame

    def state(self) -> np.ndarray:
        """The numbers that `quantities` names."""
        near = clearance(self.layout, self._place[None]) if self.config.hazards else np.array([])
        return np.concatenate([self._place, near, self._places if self.config.varied else np.array([])])

    def restore(self, state: np.ndarray) -> None:
        """Bring about a state (S,). `clearance` follows from the rest. Raises ConfigError for a place inside a wall."""
        state = np.asarray(state, np.float64)
        if state.shape != (len(self.quantities),) or not np.isfinite(state[:2]).all():
            raise ConfigError(f"rooms: got the state {state}, expected the numbers {', '.join(self.quantities)}")
        if self.config.varied:
            self._build(state[3 if self.config.hazards else 2 :])
        if not free(self.layout, state[None, :2])[0] or not ((state[:2] > 0) & (state[:2] < self.config.size)).all():
            raise ConfigError(f"rooms: got the place {state[:2]}, which is inside a wall; choose one on the floor")
        self._place = state[:2].copy()

    def success(self, goal: np.ndarray) -> bool:
        """Whether the agent is within 4 px (at 64 px) of the goal's x and y."""
        return bool(np.hypot(*(self._place - np.asarray(goal, np.float64)[:2])) <= NEAR * self._scale)

    def _usual_places(self) -> np.ndarray:
        """The places of wall, doors and hazards unless they are drawn, in pixels."""
        hazards = (_TWO_HAZARDS if self.config.layout == "two" else _FOUR_HAZARDS)[: self.config.hazards]
        return self._scale * np.array([32.0, 32.0, 32.0, *np.ravel(hazards)])

    def _build(self, places: np.ndarray) -> None:
        """Make the layout of these places of wall, doors and hazards, and paint it once."""
        if np.array_equal(places, self._places):
            return
        self._places = np.array(places, np.float64)
        wall, door, other_door, *hazards = self._places / self._scale
        inner = _one_wall(wall, sorted((door, other_door))) if self.config.layout == "two" else _CROSS
        discs = [(x, y, HAZARD) for x, y in zip(hazards[::2], hazards[1::2], strict=True)]
        self.layout = Layout(
            size=self.config.size,
            radius=RADIUS * self._scale,
            speed=self._speed,
            walls=self._scale * np.array([*_FRAME, *inner]),
            hazards=self._scale * np.array(discs).reshape(-1, 3),
        )
        self._floor = _paint_floor(self.layout, GROUNDS[self.config.ground], WALLS[self.config.walls])


_OUT = 64.0
_FRAME = (
    (-_OUT, -_OUT, BORDER, 2 * _OUT),
    (64 - BORDER, -_OUT, 2 * _OUT, 2 * _OUT),
    (-_OUT, -_OUT, 2 * _OUT, BORDER),
    (-_OUT, 64 - BORDER, 2 * _OUT, 2 * _OUT),
)


def _one_wall(wall: float, doors: Sequence[float]) -> tuple[tuple[float, float, float, float], ...]:
    """What is left of a wall beside its doors, from the top down; there is nothing between doors that touch."""
    left, right = wall - WALL / 2, wall + WALL / 2
    tops = [0.0, *(door + DOOR / 2 for door in doors)]
    bottoms = [*(door - DOOR / 2 for door in doors), 64.0]
    return tuple((left, top, right, bottom) for top, bottom in zip(tops, bottoms, strict=True) if top < bottom)


# The upright wall has its doors at the very top and bottom, the level one in the middle of each half: there is no
# short cut from corner to corner.
_CROSS = ((30.0, 15.0, 34.0, 49.0), (0.0, 30.0, 10.5, 34.0), (22.5, 30.0, 41.5, 34.0), (53.5, 30.0, 64.0, 34.0))


def _draw_places(rng: np.random.Generator, hazards: int) -> np.ndarray:
    """Wall, doors and hazards at random, in units of 1/64 of the frame, so that a way that touches no hazard exists."""
    wall, door = rng.uniform(27, 37), rng.uniform(14, 50)
    other_door = door
    if rng.integers(2):
        while abs(other_door - door) < DOORS_APART:
            other_door = rng.uniform(14, 50)
    discs: list[tuple[float, float]] = []
    while len(discs) < hazards:
        side = int(rng.integers(2))
        low, high = ((0.0, wall - WALL / 2), (wall + WALL / 2, 64.0))[side]
        gap = _LANE - BORDER
        x = rng.uniform(max(low, BORDER) + gap, min(high, 64 - BORDER) - gap)
        y = rng.uniform(_LANE, 64 - _LANE)
        if all(np.hypot(x - other[0], y - other[1]) > 2 * (HAZARD + RADIUS) + 2 for other in discs):
            discs.append((x, y))
    return np.array([wall, *sorted((door, other_door)), *np.ravel(discs)])


def _paint_floor(layout: Layout, ground: Colour, walls: Colour) -> np.ndarray:
    """Everything but the agent: uint8 (H, W, 3)."""
    floor = np.empty((layout.size, layout.size, 3))
    floor[:] = ground
    for x, y, radius in layout.hazards:
        paint_disc(floor, x, y, radius, WARNING)
    edge = np.arange(layout.size)
    for left, top, right, bottom in layout.walls:
        across = np.clip(right - edge, 0, 1) * np.clip(edge + 1 - left, 0, 1)
        down = np.clip(bottom - edge, 0, 1) * np.clip(edge + 1 - top, 0, 1)
        covered = (down[:, None] * across[None, :])[..., None]
        floor = floor * (1 - covered) + np.array(walls) * covered
    return np.rint(floor).astype(np.uint8)
