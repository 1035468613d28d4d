"""Push-T: a round agent pushes a T-shaped block to where it should be, seen from above (the field's task; pymunk).

Published with IBC (Florence et al. 2021) and Diffusion Policy (Chi et al. 2023). Nothing slides on by itself: the block
moves only while it is pushed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.data.actions import ActionSpace
from foretell.errors import ConfigError
from foretell.worlds.paint import Colour, paint_disc, paint_outline
from foretell.worlds.world import one_action

# Lengths are in the field's units, 512 to a side of the frame, unless something else is said.
FRAME, AGENT, REACH = 512.0, 15.0, 48.0
"""Side of the frame, the agent's radius, and how far from the agent the place lies, along each axis, that it is sent to."""
_BAR, _STEM = (-60.0, 0.0, 60.0, 30.0), (-15.0, 30.0, 15.0, 120.0)
_MIDDLE = (3600 * 15 + 2700 * 75) / 6300  # of mass, down from the bar's upper edge
PARTS = tuple(
    np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) - [0, _MIDDLE]
    for left, top, right, bottom in (_BAR, _STEM)
)
"""The corners (4, 2) of the T's bar and stem, its centre of mass at the origin."""
COVERED, AGENT_NEAR = 0.9, 20.0
"""Judge coverage: this share of the goal's T is covered, and the agent is within this distance of its own goal."""
NEAR, TURNED = 20.0, math.pi / 9
"""Judge pose: agent and block together are off by less than this (the norm of all four differences), and the angle, too."""

_PAINTED = (PARTS[0], PARTS[1] - [[0, 15], [0, 15], [0, 0], [0, 0]])  # the stem into the bar, so that no seam is seen
_STEPS_A_SECOND, _STIFFNESS, _BRAKE = 100, 100.0, 20.0  # of physics; of the control that moves the agent
_HEAVY = 20.0  # the agent's mass; the block's is 1
_GROUND: Colour = (236, 236, 230)
_BLOCK: Colour = (120, 130, 145)
_AGENT: Colour = (40, 80, 210)


@dataclass(frozen=True, kw_only=True)
class PushTConfig:
    """How Push-T is shown and judged."""

    size: int = 64
    """Pixels of a side of the square frame; what happens is the same at any size."""
    judge: Literal["coverage", "pose"] = "coverage"
    """What counts as success: coverage asks for 90% of the goal's T covered and the agent within 20/512 of the frame of its
    goal; pose is what DINO-WM and LeWM ask for (20/512 of the frame for agent and block together, and 20 degrees)."""

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 8:
            raise ConfigError(f"pusht size: got {self.size}, expected a multiple of 8 from 32 up")
        if self.judge not in ("coverage", "pose"):
            raise ConfigError(f"pusht judge: got {self.judge!r}, expected coverage or pose")


class PushT:
    """The world of a PushTConfig, 10 steps a second.

    An action is where the agent is sent, (right, down) of where it is, in pixels; a spring with a brake draws it there.
    A state is, in pixels, radians and steps: places of agent and block (its centre of mass), the block's angle, the
    velocities of both; and the angle's cosine and sine, which a state to restore need not get right.
    """

    fps, over = 10.0, False
    quantities = (
        "agent_x",
        "agent_y",
        "block_x",
        "block_y",
        "block_angle",
        "agent_vx",
        "agent_vy",
        "block_vx",
        "block_vy",
        "block_spin",
        "block_cos",
        "block_sin",
    )

    def __init__(self, config: PushTConfig | None = None) -> None:
        _pymunk()
        self.config = config or PushTConfig()
        self.pixel = FRAME / self.config.size
        reach = REACH / self.pixel
        self.actions = ActionSpace(low=(-reach, -reach), high=(reach, reach))
        self._state = np.full(10, np.nan)  # the state without cosine and sine

    def __repr__(self) -> str:
        return f"PushT({self.config!r})"

    def reset(self, seed: int) -> None:
        """Begin an episode: agent and block lie apart, anywhere, at rest."""
        rng = np.random.default_rng(seed)
        while True:
            agent, block = rng.uniform(50, FRAME - 50, 2), rng.uniform(110, FRAME - 110, 2)
            angle = rng.uniform(-math.pi, math.pi)
            if not _touches(agent, AGENT + 2, block, angle):
                break
        self._state = np.concatenate([np.concatenate([agent, block]) / self.pixel, [angle], np.zeros(5)])

    def step(self, action: np.ndarray) -> None:
        """Send the agent (right, down) by `action` (2,) pixels for a tenth of a second; walls and block may be in its way."""
        action = one_action(self.actions, action, "pusht")
        # The simulator is built anew for every step: it remembers earlier contacts, which a state does not hold.
        space, agent, block = self._simulator()
        target = np.add(agent.position, action * self.pixel)
        dt = 1 / _STEPS_A_SECOND

        def draw_to_target(body: Any, _gravity: Any, _damping: float, _dt: float) -> None:
            (x, y), (vx, vy) = body.position, body.velocity
            ax, ay = (_STIFFNESS * (to - at) - _BRAKE * v for to, at, v in zip(target, (x, y), (vx, vy), strict=True))
            body.velocity = (vx + dt * ax, vy + dt * ay)

        agent.velocity_func = draw_to_target
        for _ in range(round(_STEPS_A_SECOND / self.fps)):
            space.step(dt)
        angle = (block.angle + math.pi) % (2 * math.pi) - math.pi
        places = np.array([*agent.position, *block.position]) / self.pixel
        velocities = np.array([*agent.velocity, *block.velocity]) / self.pixel / self.fps
        self._state = np.array([*places, angle, *velocities, block.angular_velocity / self.fps])

    def render(self) -> np.ndarray:
        """The table from above: the block, and the agent on it."""
        frame = np.empty((self.config.size, self.config.size, 3), np.float64)
        frame[:] = _GROUND
        for corners in outline(self._state[2:5], self.pixel, _PAINTED):
            paint_outline(frame, corners, _BLOCK)
        paint_disc(frame, self._state[0], self._state[1], AGENT / self.pixel, _AGENT)
        return np.rint(frame).astype(np.uint8)

    def state(self) -> np.ndarray:
        """The numbers that `quantities` names."""
        angle = self._state[4]
        return np.concatenate([self._state, [math.cos(angle), math.sin(angle)]])

    def restore(self, state: np.ndarray) -> None:
        """Bring about a state (S,); its last two numbers follow from the angle. Raises ConfigError outside the frame."""
        state = np.asarray(state, np.float64)
        if state.shape != (len(self.quantities),) or not np.isfinite(state).all():
            raise ConfigError(f"pusht: got the state {state}, expected the numbers {', '.join(self.quantities)}")
        if not ((state[:4] > 0) & (state[:4] < self.config.size)).all():
            raise ConfigError(
                f"pusht: got the places {state[:4]}, expected them inside the frame of {self.config.size} px"
            )
        self._state = state[:10].copy()

    def success(self, goal: np.ndarray) -> bool:
        """Whether block and agent are where they are in the state `goal` (S,); see PushTConfig.judge."""
        goal = np.asarray(goal, np.float64)
        off = (self._state[:4] - goal[:4]) * self.pixel
        if self.config.judge == "pose":
            turned = abs((self._state[4] - goal[4] + math.pi) % (2 * math.pi) - math.pi)
            return bool(np.linalg.norm(off) < NEAR and turned < TURNED)
        return bool(np.hypot(*off[:2]) <= AGENT_NEAR and self.coverage(goal) >= COVERED)

    def coverage(self, goal: np.ndarray) -> float:
        """The share of the goal's T, the one of a state (S,), that the block covers, 0 to 1."""
        return covered(self._state[2:5], np.asarray(goal, np.float64)[2:5], self.pixel)

    def _simulator(self) -> tuple[Any, Any, Any]:
        """A pymunk space in which all is as in the state, with its agent and its block."""
        pymunk = _pymunk()
        space = pymunk.Space()
        space.damping, space.iterations = 0.0, 30
        places, angle = self._state[:4] * self.pixel, float(self._state[4])
        velocities = self._state[5:9] * self.pixel * self.fps
        agent = pymunk.Body(_HEAVY, math.inf)
        agent.position, agent.velocity = tuple(places[:2].tolist()), tuple(velocities[:2].tolist())
        block = pymunk.Body(1.0, _inertia())
        block.position, block.velocity = tuple(places[2:].tolist()), tuple(velocities[2:].tolist())
        block.angle, block.angular_velocity = angle, float(self._state[9] * self.fps)
        shapes = [pymunk.Circle(agent, AGENT), *(pymunk.Poly(block, part.tolist()) for part in PARTS)]
        thick = 200.0  # walls that nothing is pushed through
        for one, other in (((0, 0), (1, 0)), ((1, 0), (1, 1)), ((1, 1), (0, 1)), ((0, 1), (0, 0))):
            ends = [tuple(FRAME * at + thick * (2 * at - 1) for at in end) for end in (one, other)]
            shapes.append(pymunk.Segment(space.static_body, *ends, thick))
        for shape in shapes:
            shape.friction = 1.0
        space.add(agent, block, *shapes)
        return space, agent, block


def outline(pose: np.ndarray, pixel: float = 1.0, parts: tuple[np.ndarray, ...] = PARTS) -> list[np.ndarray]:
    """The corners (4, 2) of bar and stem of a T at `pose` (x, y, angle), in pixels that are `pixel` units wide."""
    x, y, angle = pose
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return [part / pixel @ turn + [x, y] for part in parts]


def covered(pose: np.ndarray, goal: np.ndarray, pixel: float = 1.0) -> float:
    """The share of a T at `goal` (x, y, angle) that a T at `pose` covers."""
    shared = sum(_area(_clip(one, other)) for one in outline(pose, pixel) for other in outline(goal, pixel))
    return shared / sum(_area(part) for part in outline(goal, pixel))


def _clip(corners: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The part of a convex outline (K, 2) that lies in another, both clockwise on the screen (Sutherland-Hodgman)."""
    for start, end in zip(window, np.roll(window, -1, axis=0), strict=True):
        if not len(corners):
            break
        edge = end - start
        inside = edge[0] * (corners[:, 1] - start[1]) - edge[1] * (corners[:, 0] - start[0])
        kept = []
        for here, there, a, b in zip(corners, np.roll(corners, -1, axis=0), inside, np.roll(inside, -1), strict=True):
            if a >= 0:
                kept.append(here)
            if (a >= 0) != (b >= 0):
                kept.append(here + a / (a - b) * (there - here))
        corners = np.array(kept).reshape(-1, 2)
    return corners


def _area(corners: np.ndarray) -> float:
    if len(corners) < 3:
        return 0.0
    x, y = corners.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _touches(place: np.ndarray, radius: float, block: np.ndarray, angle: float) -> bool:
    """Whether a disc touches a T at `block` (2,) and `angle`."""
    local = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    at = (place - block) @ local
    near = [np.hypot(*(at - np.clip(at, part.min(0), part.max(0)))) for part in PARTS]
    return bool(min(near) < radius)


def _inertia() -> float:
    """Moment of inertia of a T of mass 1 about its centre of mass."""
    moment = 0.0
    for part in PARTS:
        (width, height), (x, y) = np.ptp(part, axis=0), part.mean(0)
        moment += width * height / 6300 * ((width**2 + height**2) / 12 + x**2 + y**2)
    return float(moment)


def _pymunk() -> Any:
    try:
        import pymunk
    except ImportError as error:
        raise ConfigError('pusht needs pymunk, which is not installed: pip install "foretell[sim]"') from error
    return pymunk
