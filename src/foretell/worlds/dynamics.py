"""The physics world in motion: pymunk carries a scene forward in small fixed sub-steps."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from foretell.errors import ConfigError
from foretell.worlds.scenes import (
    BALL,
    POLYGONS,
    WALL_LEFT,
    WALL_RIGHT,
    WALL_TOP,
    Scene,
    Thing,
)

STEPS_PER_SECOND = 320
"""At the greatest speeds something may sink 0.1 units into a wall before it bounces."""
_THICK = 20.0  # of the walls, outside the box: nothing can tunnel through


def simulate(
    scene: Scene, frames: int, fps: int, act: Callable[[Box], None] | None = None, frame: int = -1
) -> dict[str, np.ndarray]:
    """Name -> (T, N): x, y in units, vx, vy in units per second, angle, shape, visible.

    `act` strikes just before `frame`; all earlier frames are equal to the bit to those without it.
    """
    box = Box(scene, fps)
    rows = [box.look()]
    for t in range(1, frames):
        if act is not None and t == frame:
            act(box)
        box.advance()
        rows.append(box.look())
    kinds: dict[str, Any] = {
        "x": float,
        "y": float,
        "vx": float,
        "vy": float,
        "angle": float,
        "shape": "U8",
        "visible": bool,
    }
    return {
        key: np.array([[thing[k] for thing in row] for row in rows], kind).reshape(frames, len(scene.things))
        for k, (key, kind) in enumerate(kinds.items())
    }


class Box:
    """A scene in motion.

    pymunk moves a body by its old speed and only then changes the speed, which departs from a parabola by g t dt / 2.
    So here bodies carry the speed of half a sub-step ahead (leapfrog), and free flight is exact.
    """

    def __init__(self, scene: Scene, fps: int) -> None:
        self._pymunk = _import_pymunk()
        self._substeps = max(1, round(STEPS_PER_SECOND / fps))
        self._dt = 1 / (fps * self._substeps)
        self._things = scene.things
        self._space: Any = self._pymunk.Space()
        self._space.gravity = (0, scene.gravity)
        self._restitution, self._friction = scene.restitution, scene.friction
        self._add_walls(scene)
        self._bodies = [self._add_body(thing) for thing in scene.things]
        self._names = [thing.shape for thing in scene.things]
        self._visible = [True for _ in scene.things]

    def look(self) -> list[tuple[Any, ...]]:
        """For each object x, y, vx, vy, angle, shape, visible."""
        ahead = self._space.gravity[1] * self._dt / 2
        return [
            (*body.position, body.velocity[0], body.velocity[1] - ahead, body.angle, name, visible)
            for body, name, visible in zip(self._bodies, self._names, self._visible, strict=True)
        ]

    def advance(self) -> None:
        """Let one frame's time pass."""
        for _ in range(self._substeps):
            self._space.step(self._dt)

    def reshape(self, shape: str) -> None:
        """The first object becomes another shape of the same area, where and as fast as it is."""
        body, thing = self._bodies[0], self._things[0]
        self._space.remove(*body.shapes)
        self._space.add(self._outline(body, shape, thing.radius))
        body.moment = self._moment(shape, thing.radius)
        self._names[0] = shape

    def hide(self) -> None:
        """The first object is seen no more."""
        self._visible[0] = False

    def displace(self, dx: float, dy: float) -> None:
        """The first object is elsewhere, as fast as before."""
        x, y = self._bodies[0].position
        self._bodies[0].position = (x + dx, y + dy)

    def stop(self) -> None:
        """The first object stands still and feels no gravity."""
        self.set_gravity(0.0)
        self._bodies[0].velocity, self._bodies[0].angular_velocity = (0, 0), 0

    def set_gravity(self, gravity: float) -> None:
        """Change gravity, but no speed."""
        shift = (gravity - self._space.gravity[1]) * self._dt / 2
        self._space.gravity = (0, gravity)
        for body in self._bodies:
            body.velocity = (body.velocity[0], body.velocity[1] + shift)

    def _add_body(self, thing: Thing) -> Any:
        body = self._pymunk.Body(_mass(thing.radius), self._moment(thing.shape, thing.radius))
        body.position, body.angle, body.angular_velocity = (thing.x, thing.y), thing.angle, thing.spin
        body.velocity = (thing.vx, thing.vy + self._space.gravity[1] * self._dt / 2)
        self._space.add(body, self._outline(body, thing.shape, thing.radius))
        return body

    def _moment(self, shape: str, radius: float) -> float:
        if shape == BALL:
            return float(self._pymunk.moment_for_circle(_mass(radius), 0, radius))
        return float(self._pymunk.moment_for_poly(_mass(radius), (POLYGONS[shape] * radius).tolist()))

    def _outline(self, body: Any, shape: str, radius: float) -> Any:
        if shape == BALL:
            return self._material(self._pymunk.Circle(body, radius))
        return self._material(self._pymunk.Poly(body, (POLYGONS[shape] * radius).tolist()))

    def _add_walls(self, scene: Scene) -> None:
        def floor(x: float) -> float:
            return scene.floor + scene.slope * (x - 32) + _THICK * float(np.hypot(1, scene.slope))

        for ends in (
            ((-40, floor(-40)), (104, floor(104))),
            ((-40, WALL_TOP - _THICK), (104, WALL_TOP - _THICK)),
            ((WALL_LEFT - _THICK, -40), (WALL_LEFT - _THICK, 104)),
            ((WALL_RIGHT + _THICK, -40), (WALL_RIGHT + _THICK, 104)),
        ):
            self._space.add(self._material(self._pymunk.Segment(self._space.static_body, *ends, _THICK)))
        for block in scene.blocks:
            self._space.add(self._material(self._pymunk.Poly(self._space.static_body, list(block.corners))))

    def _material(self, outline: Any) -> Any:
        # pymunk multiplies the values of the two that touch
        outline.elasticity, outline.friction = self._restitution**0.5, self._friction**0.5
        return outline


def _mass(radius: float) -> float:
    return radius**2  # all shapes of a radius have one area, and all things one density


def _import_pymunk() -> ModuleType:
    try:
        import pymunk
    except ImportError as error:
        raise ConfigError(
            'the physics world needs pymunk, which is not installed: pip install "foretell[sim]"'
        ) from error
    return pymunk
