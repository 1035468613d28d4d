"""The physics world: things thrown, bouncing, rolling and colliding in a box, and throws in which something impossible happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np

from foretell.data.clip import Clip
from foretell.errors import ConfigError, ForetellError
from foretell.worlds.render import draw
from foretell.worlds.scenes import (
    BALL,
    CUBE,
    FRICTION,
    GRAVITY,
    POLYGONS,
    RESTITUTION,
    WALL_LEFT,
    WALL_RIGHT,
    WALL_TOP,
    Scene,
    Thing,
    draw_scene,
)

SCENARIOS = ("thrown", "bouncing", "rolling", "colliding")
STEPS_PER_SECOND = 160
BEFORE, AFTER, CLEAR = 8, 6, 3
"""Frames of normal motion before a violation, frames that follow it, and frames of free flight on both of its sides."""
SLOWEST = 8.0
"""A violation strikes only what moves at least this fast (units per second), so that standing still is seen to be wrong."""


@dataclass(frozen=True, kw_only=True)
class Physics:
    """Objects of several shapes and colours in a closed box under gravity; a world (`episode`), fixed by these settings."""

    size: int = 64
    """Pixels of a side of the square frame; all lengths scale with it."""
    frames: int = 32
    """Frames of an episode."""
    fps: int = 10
    """Frames a second; the motion itself, in seconds, stays the same."""
    scenario: Literal["mixed", "thrown", "bouncing", "rolling", "colliding"] = "mixed"
    """What happens; mixed draws one of the others for each episode (with a violation: always thrown)."""
    violation: Literal["none", "cube", "vanish", "jump", "hang", "rise"] = "none"
    """What impossible thing happens to the thrown object in flight: turns into a cube, vanishes, jumps 10 to 16 px (at 64 px),
    hangs still in the air, or falls upward from then on."""

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 8:
            raise ConfigError(f"physics size: got {self.size}, expected a multiple of 8 from 16 up")
        if not 1 <= self.fps <= STEPS_PER_SECOND:
            raise ConfigError(f"physics fps: got {self.fps}, expected 1 to {STEPS_PER_SECOND}")
        if self.violation != "none" and self.scenario not in ("mixed", "thrown"):
            raise ConfigError(
                f"physics violation: {self.violation} happens to thrown objects only, got scenario {self.scenario}; use thrown"
            )
        least = BEFORE + AFTER + 2 * CLEAR
        if self.frames < least:
            raise ConfigError(f"physics frames: got {self.frames}, expected at least {least}")

    def episode(self, seed: int) -> Clip:
        """The episode of `seed`: frames uint8 (T, H, W, 3); states of N = 2 objects, all arrays beginning with T.

        x, y, vx, vy, angle float (T, N): pixels (origin at the top left corner, y down), pixels a frame, radians; NaN where an object is
        absent. visible bool (T, N); shape str (T, N), "" where absent; radius float (T, N), colour uint8 (T, N, 3).
        scenario, violation str (T,); violation_frame int (T,): the first frame that breaks the law, -1 when none does.
        An episode with a violation equals, up to that frame, the one without it of the same seed (a cube's: where that one is a ball).
        """
        rng = np.random.default_rng(seed)
        scenario = self._scenario(rng)
        while True:
            scene = draw_scene(rng, scenario, ball_only=self.violation == "cube")
            path = _simulate(scene, self.frames, self.fps)
            moments = _moments(path, self.fps) if scenario == "thrown" else np.zeros(1, int)
            if len(moments):
                break
        frame = -1
        if self.violation != "none":
            frame = int(rng.choice(moments))
            path = _simulate(scene, self.frames, self.fps, _violate(self.violation, path, frame, scene, rng), frame)
        return self._clip(f"physics-{seed}", scene, path, frame)

    def _scenario(self, rng: np.random.Generator) -> str:
        if self.violation != "none":
            return "thrown"
        return str(rng.choice(SCENARIOS)) if self.scenario == "mixed" else self.scenario

    def _clip(self, name: str, scene: Scene, path: dict[str, np.ndarray], frame: int) -> Clip:
        scale = self.size / 64
        pixels = {key: path[key] * scale for key in ("x", "y")}
        pixels |= {key: path[key] * scale / self.fps for key in ("vx", "vy")}
        drawn = draw(scene, self.size, pixels["x"], pixels["y"], path["angle"], path["shape"], path["visible"])
        count, steps = len(scene.things), self.frames
        states = {key: np.full((steps, 2), np.nan) for key in ("x", "y", "vx", "vy", "angle", "radius")}
        for key, values in {**pixels, "angle": path["angle"]}.items():
            states[key][:, :count] = np.where(path["visible"], values, np.nan)
        states["radius"][:, :count] = [thing.radius * scale for thing in scene.things]
        states["visible"] = np.zeros((steps, 2), bool)
        states["visible"][:, :count] = path["visible"]
        states["shape"] = np.full((steps, 2), "", "<U8")
        states["shape"][:, :count] = path["shape"]
        states["colour"] = np.zeros((steps, 2, 3), np.uint8)
        states["colour"][:, :count] = np.rint([[255 * part for part in thing.colour] for thing in scene.things])
        states["scenario"] = np.full(steps, scene.scenario)
        states["violation"] = np.full(steps, self.violation)
        states["violation_frame"] = np.full(steps, frame)
        return Clip(name=name, frames=drawn, fps=float(self.fps), states=states)


def _simulate(
    scene: Scene, frames: int, fps: int, violate: Callable[[_Box], None] | None = None, frame: int = -1
) -> dict[str, np.ndarray]:
    """Positions, speeds (per second), angles, shapes and visibility (T, N). `violate` strikes between frame - 1 and frame."""
    box = _Box(scene, fps)
    rows = [box.look()]
    for t in range(1, frames):
        if violate is not None and t == frame:
            violate(box)
        box.advance()
        rows.append(box.look())
    keys = ("x", "y", "vx", "vy", "angle", "shape", "visible")
    return {key: np.array([[thing[k] for thing in row] for row in rows]) for k, key in enumerate(keys)}


class _Box:
    """The scene in motion, by pymunk, in a small fixed sub-step.

    pymunk moves a body by its old speed and then changes the speed, which falls behind a parabola by g t dt / 2. So bodies carry the
    speed of half a sub-step ahead (leapfrog): positions in free flight are then exact.
    """

    def __init__(self, scene: Scene, fps: int) -> None:
        self._pymunk: ModuleType = _import_pymunk()
        self._substeps = max(1, round(STEPS_PER_SECOND / fps))
        self._dt = 1 / (fps * self._substeps)
        self.space: Any = self._pymunk.Space()
        self.space.gravity = (0, GRAVITY)
        self.things = scene.things
        self._walls(scene)
        self.bodies = [self._body(thing) for thing in scene.things]
        self.shapes = [thing.shape for thing in scene.things]
        self.visible = [True for _ in scene.things]

    def look(self) -> list[tuple[Any, ...]]:
        ahead = self.space.gravity[1] * self._dt / 2
        return [
            (*body.position, body.velocity[0], body.velocity[1] - ahead, body.angle, shape, visible)
            for body, shape, visible in zip(self.bodies, self.shapes, self.visible, strict=True)
        ]

    def advance(self) -> None:
        for _ in range(self._substeps):
            self.space.step(self._dt)

    def set_gravity(self, gravity: float) -> None:
        """Change gravity without changing any speed."""
        shift = (gravity - self.space.gravity[1]) * self._dt / 2
        self.space.gravity = (0, gravity)
        for body in self.bodies:
            body.velocity = (body.velocity[0], body.velocity[1] + shift)

    def reshape(self, n: int, shape: str) -> None:
        body = self.bodies[n]
        self.space.remove(*body.shapes)
        self.shapes[n] = shape
        self.space.add(self._shape(body, shape, self.things[n].radius))

    def _body(self, thing: Thing) -> Any:
        mass = thing.radius**2
        if thing.shape == BALL:
            moment = self._pymunk.moment_for_circle(mass, 0, thing.radius)
        else:
            moment = self._pymunk.moment_for_poly(mass, (POLYGONS[thing.shape] * thing.radius).tolist())
        body = self._pymunk.Body(mass, moment)
        body.position, body.angle, body.angular_velocity = (thing.x, thing.y), thing.angle, thing.spin
        body.velocity = (thing.vx, thing.vy + GRAVITY * self._dt / 2)
        self.space.add(body, self._shape(body, thing.shape, thing.radius))
        return body

    def _shape(self, body: Any, name: str, radius: float) -> Any:
        if name == BALL:
            return self._material(self._pymunk.Circle(body, radius))
        return self._material(self._pymunk.Poly(body, (POLYGONS[name] * radius).tolist()))

    def _walls(self, scene: Scene) -> None:
        thick = 20.0

        def floor(x: float) -> float:
            return scene.floor + scene.slope * (x - 32) + thick * float(np.hypot(1, scene.slope))

        for start, end in (
            ((-40, floor(-40)), (104, floor(104))),
            ((-40, WALL_TOP - thick), (104, WALL_TOP - thick)),
            ((WALL_LEFT - thick, -40), (WALL_LEFT - thick, 104)),
            ((WALL_RIGHT + thick, -40), (WALL_RIGHT + thick, 104)),
        ):
            self.space.add(self._material(self._pymunk.Segment(self.space.static_body, start, end, thick)))

    def _material(self, shape: Any) -> Any:
        # pymunk multiplies the values of the two that touch
        shape.elasticity, shape.friction = RESTITUTION**0.5, FRICTION**0.5
        return shape


def _moments(path: dict[str, np.ndarray], fps: int) -> np.ndarray:
    """Frames at which a violation may strike: in free flight all around, fast enough, with enough before and after."""
    steps = len(path["x"])
    pull = np.diff(path["vy"][:, 0]) - GRAVITY / fps
    free = (np.abs(pull) < 1e-6) & (np.abs(np.diff(path["vx"][:, 0])) < 1e-6)  # free[t]: no touch from t to t + 1
    fast = np.hypot(path["vx"][:, 0], path["vy"][:, 0]) >= SLOWEST
    return np.array(
        [k for k in range(BEFORE, steps - AFTER + 1) if free[k - 1 - CLEAR : k + CLEAR].all() and fast[k - 1]], int
    )


def _violate(
    kind: str, path: dict[str, np.ndarray], frame: int, scene: Scene, rng: np.random.Generator
) -> Callable[[_Box], None]:
    """The act that breaks the law, as a function of the box at the moment it strikes."""

    def cube(box: _Box) -> None:
        box.reshape(0, CUBE)

    def vanish(box: _Box) -> None:
        box.visible[0] = False

    def jump(box: _Box) -> None:
        x, y = box.bodies[0].position
        box.bodies[0].position = (x + leap[0], y + leap[1])

    def hang(box: _Box) -> None:
        box.set_gravity(0.0)
        box.bodies[0].velocity, box.bodies[0].angular_velocity = (0, 0), 0

    def rise(box: _Box) -> None:
        box.set_gravity(-GRAVITY)

    leap = _leap(path, frame, scene, rng) if kind == "jump" else (0.0, 0.0)
    return {"cube": cube, "vanish": vanish, "jump": jump, "hang": hang, "rise": rise}[kind]


def _leap(path: dict[str, np.ndarray], frame: int, scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
    """A displacement of 10 to 16 units after which the object is, and for a frame stays, clear of all walls."""
    reach = scene.things[0].reach + 0.5
    x, y = path["x"][frame - 1 : frame + 1, 0], path["y"][frame - 1 : frame + 1, 0]
    while True:
        length, angle = rng.uniform(10, 16), rng.uniform(-np.pi, np.pi)
        dx, dy = float(length * np.cos(angle)), float(length * np.sin(angle))
        inside_x = (x + dx > WALL_LEFT + reach).all() and (x + dx < WALL_RIGHT - reach).all()
        if inside_x and (y + dy > WALL_TOP + reach).all() and (y + dy < scene.floor - reach).all():
            return dx, dy


def _import_pymunk() -> ModuleType:
    try:
        import pymunk
    except ImportError as error:
        raise ForetellError(
            'world physics needs pymunk, which is not installed: pip install "foretell[sim]"'
        ) from error
    return pymunk
