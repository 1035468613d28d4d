"""What a world is for, done on purpose: walks from place to place, pushes against the block."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from foretell.worlds.floorplan import steps_to, walk
from foretell.worlds.pusht import AGENT, FRAME, PushT
from foretell.worlds.rooms import Rooms

Policy = Callable[[], np.ndarray]
"""Looks at the world it was made for and says what to do next: (A,) float32, within the world's limits."""

_AROUND = 115.0  # units from the block's middle at which the agent goes around it, clear of the T at any angle
_PUSH = (6, 16)  # steps of a push, from when the agent stands behind the block
_PATIENCE = 40  # steps to get behind it before another direction is drawn


def walks(world: Rooms, rng: np.random.Generator) -> Policy:
    """Walk to a place, then to another, by the shortest way, through doors; the way does not avoid hazards."""
    goal = np.full(2, np.nan)
    steps = np.empty((0, 0))

    def act() -> np.ndarray:
        nonlocal goal, steps
        place = world.state()[:2]
        if not np.abs(goal - place).max() > 0.25 * world.layout.speed:  # there, or nowhere to go yet
            goal = world.draw_place(rng)
            steps = steps_to(world.layout, goal)
        return world.actions.clip(walk(world.layout, steps, place, goal))

    return act


def pushes(world: PushT, rng: np.random.Generator) -> Policy:
    """Go behind the block, push it in a direction for some steps, then go behind it for another direction."""
    heading, beside, left, patience = np.zeros(2), 0.0, 0, 0
    pace = 0.35 * world.actions.high[0] * world.pixel  # units a step, about, at full speed

    def act() -> np.ndarray:
        nonlocal heading, beside, left, patience
        agent, block = world.state()[:2] * world.pixel, world.state()[2:4] * world.pixel
        if left == 0 and patience == 0:
            heading, beside, patience = _draw_heading(block, rng), rng.uniform(-40, 40), _PATIENCE
        start = _inside(block - _AROUND * heading + beside * np.array([-heading[1], heading[0]]))
        if left == 0 and np.hypot(*(start - agent)) < 12:
            left, patience = round((_AROUND - 60) / pace) + int(rng.integers(*_PUSH)), 0
        if left > 0:
            left -= 1
            return world.actions.clip(heading * rng.uniform(0.6, 1.0) * world.actions.high[0])
        patience -= 1
        return world.actions.clip((_around(agent, block, start) - agent) / world.pixel)

    return act


def _draw_heading(block: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A direction (2,) to push in; there is room for the agent behind the block and for the block ahead."""
    for _ in range(100):
        angle = rng.uniform(-math.pi, math.pi)
        heading = np.array([math.cos(angle), math.sin(angle)])
        behind, ahead = block - _AROUND * heading, block + 60 * heading
        if np.array_equal(behind, _inside(behind)) and ((ahead > 60) & (ahead < FRAME - 60)).all():
            return heading
    return (FRAME / 2 - block) / max(np.hypot(*(FRAME / 2 - block)), 1e-9)


def _around(agent: np.ndarray, block: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Where to go next on the way from `agent` to `start` that does not touch the block."""
    off, wanted = agent - block, start - block
    turn = (math.atan2(wanted[1], wanted[0]) - math.atan2(off[1], off[0]) + math.pi) % (2 * math.pi) - math.pi
    if abs(turn) < 0.35:
        return start
    angle = math.atan2(off[1], off[0])
    if np.hypot(*off) > _AROUND - 20:  # far enough off to turn; else straight away from it first
        angle += math.copysign(min(abs(turn), 0.6), turn)
    return _inside(block + _AROUND * np.array([math.cos(angle), math.sin(angle)]))


def _inside(place: np.ndarray) -> np.ndarray:
    """The nearest place where the agent can stand."""
    return np.clip(place, AGENT + 2, FRAME - AGENT - 2)
