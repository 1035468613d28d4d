"""The physics world: things thrown, bouncing, rolling, colliding; and throws in which something impossible happens."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foretell.data.clip import Clip
from foretell.errors import ConfigError
from foretell.worlds.dynamics import Box, simulate
from foretell.worlds.render import Look, draw
from foretell.worlds.scenes import CUBE, GRAVITY, WALL_LEFT, WALL_RIGHT, WALL_TOP, Scene, draw_scene
from foretell.worlds.sight import sight
from foretell.worlds.solid import draw_solid
from foretell.worlds.stage import draw_staged

SCENARIOS = ("thrown", "bouncing", "rolling", "colliding")
BEFORE, AFTER, CLEAR = 8, 10, 3
"""Frames of normal motion before a violation, frames from it on, and frames of free flight on both its sides."""
SLOWEST = 8.0
"""Units per second. A violation strikes only what moves at least as fast, so that hanging still is seen to be wrong."""
LEAP = (10.0, 16.0)
"""How far a jump goes, in units of 1/64 of the frame."""
_MOST_THINGS, _MOST_DRAWS = 2, 2000
_STRONGEST = 60.0  # gravity: beyond it hardly anything thrown stays in the air long enough to meet something there


@dataclass(frozen=True, kw_only=True)
class Physics:
    """Objects of several shapes, sizes and colours in a closed box under gravity. The config is the world."""

    size: int = 64
    """Pixels of a side of the square frame; all lengths scale with it."""
    frames: int = 32
    """Frames of an episode."""
    fps: int = 10
    """Frames a second; what happens in a second stays the same."""
    scenario: Literal["mixed", "thrown", "bouncing", "rolling", "colliding", "staged"] = "mixed"
    """What happens; mixed draws one of the next four for each episode, and always a throw when there is a violation.
    staged: behind screens, against walls, off ledges, under other weight (worlds/stage.py)."""
    part: Literal["train", "development", "test"] = "train"
    """Of staged scenes, which share of every range their parameters come from."""
    shapes: Literal["varied", "ball"] = "varied"
    """varied draws balls, cubes, triangles, hexagons and bars; ball makes every object a ball."""
    gravity: tuple[float, ...] = (GRAVITY,)
    """Values in units of 1/64 of the frame per second squared, of which each episode of the four mixed scenarios has one."""
    violation: Literal["none", "cube", "vanish", "jump", "hang", "rise"] = "none"
    """What impossible thing happens in mid flight: a ball turns into a cube of the same area, the object vanishes,
    jumps by 10 to 16 px (at 64 px), hangs still in the air, or falls upward from then on."""

    texture: float = 0.02
    """Greatest departure of the background's brightness, as a share of white, 0 to 0.2."""
    shadows: float = 0.0
    """How dark the ground gets under objects, 0 to 0.6; each episode draws from none to this, and so with the next two."""
    noise: float = 0.0
    """Deviation of every pixel from frame to frame, as a share of white, 0 to 0.1."""
    jitter: float = 0.0
    """Deviation of the camera's place from frame to frame, in units of 1/64 of the frame, 0 to 2."""
    renderer: Literal["flat", "solid"] = "flat"
    """flat paints in 2-D; solid renders in 3-D with MuJoCo (the extra mujoco)."""

    def __post_init__(self) -> None:
        for name, most in (("texture", 0.2), ("shadows", 0.6), ("noise", 0.1), ("jitter", 2.0)):
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"physics {name}: got {getattr(self, name)}, expected 0 to {most}")
        if self.size < 16 or self.size % 8:
            raise ConfigError(f"physics size: got {self.size}, expected a multiple of 8 from 16 up")
        if not 5 <= self.fps <= 80:
            raise ConfigError(f"physics fps: got {self.fps}, expected 5 to 80")
        if self.frames < BEFORE + AFTER + CLEAR:
            raise ConfigError(f"physics frames: got {self.frames}, expected at least {BEFORE + AFTER + CLEAR}")
        if not self.gravity or not all(0 < value <= _STRONGEST for value in self.gravity):
            raise ConfigError(f"physics gravity: got {self.gravity}, expected values above 0, at most {_STRONGEST:g}")
        if self.scenario == "staged" and self.gravity != (GRAVITY,):
            raise ConfigError(
                f"physics gravity: got {self.gravity}, but staged scenes have each their own; leave it out"
            )
        if self.violation != "none" and self.scenario not in ("mixed", "thrown"):
            got = f"got scenario {self.scenario} with violation {self.violation}"
            raise ConfigError(f"physics: {got}, but only thrown objects break the law; use scenario thrown")

    def episode(self, seed: int) -> Clip:
        """The episode of `seed`: frames uint8 (T, H, W, 3), and states of N = 2 objects, all arrays beginning with T.

        x, y (T, N): pixels from the upper left corner of the frame, y downward; vx, vy: pixels a frame; angle: radians;
        radius: pixels. All float, x to angle NaN where no object is to be seen, radius NaN where there is none.
        visible bool (T, N). shape str (T, N), "" where there is none. colour uint8 (T, N, 3).
        scenario, violation str (T,). violation_frame int (T,): the first frame that breaks the law, -1 if none does.
        gravity (T,): pixels per frame squared.
        covered bool (T, N): wholly behind a screen. block_left, block_top, block_right (T,): pixels, the first wall or
        ledge, NaN where none is to be seen.

        Up to that frame it is the throw that the same seed gives without a violation (for cube: if that is a ball).
        """
        rng = np.random.default_rng(seed)
        scenario = self._draw_scenario(rng)
        scene, path = self._draw_path(rng, scenario)
        frame = -1
        if self.violation != "none":
            frame = int(rng.choice(_moments(scene, path, self.fps)))
            act = _act(self.violation, scene, path, frame, rng)
            path = simulate(scene, self.frames, self.fps, act, frame)
        return self.clip(f"physics-{seed}", scene, path, self.draw_look(rng), frame)

    def draw_look(self, rng: np.random.Generator) -> Look:
        """How the camera sees one episode."""
        shadows, noise, jitter = (float(rng.uniform(0, most)) for most in (self.shadows, self.noise, self.jitter))
        return Look(texture=self.texture, shadows=shadows, noise=noise, jitter=jitter, seed=int(rng.integers(2**63)))

    def _draw_scenario(self, rng: np.random.Generator) -> str:
        if self.violation != "none":
            return "thrown"
        return str(rng.choice(SCENARIOS)) if self.scenario == "mixed" else self.scenario

    def _draw_path(self, rng: np.random.Generator, scenario: str) -> tuple[Scene, dict[str, np.ndarray]]:
        """A scene and its lawful motion. Every throw, possible or not, has a moment where the law could be broken."""
        if scenario == "staged":
            scene = draw_staged(rng, self.part)
            return scene, simulate(scene, self.frames, self.fps)
        # drawn once, not with every scene: no value is rarer for giving fewer good throws; one value costs no draw
        gravity = self.gravity[int(rng.integers(len(self.gravity))) if len(self.gravity) > 1 else 0]
        ball_only = self.shapes == "ball" or self.violation == "cube"
        for _ in range(_MOST_DRAWS):
            scene = draw_scene(rng, scenario, ball_only=ball_only, gravity=gravity)
            path = simulate(scene, self.frames, self.fps)
            if scenario != "thrown" or len(_moments(scene, path, self.fps)):
                return scene, path
        raise ConfigError(f"{self}: no throw flies freely for {2 * CLEAR + 1} frames; raise fps")

    def clip(self, name: str, scene: Scene, path: dict[str, np.ndarray], look: Look, frame: int = -1) -> Clip:
        """A scene that moved as `path` says (worlds/dynamics.py), drawn, with its states as in `episode`."""
        scale, steps, seen = self.size / 64, self.frames, path["visible"]
        units = {"x": scale, "y": scale, "vx": scale / self.fps, "vy": scale / self.fps, "angle": 1.0}
        truth = {key: path[key] * unit for key, unit in units.items()}
        paint = draw if self.renderer == "flat" else draw_solid
        frames = paint(
            scene, self.size, truth["x"], truth["y"], truth["angle"], path["shape"], seen, fps=self.fps, look=look
        )

        def fill(values: np.ndarray, empty: float | str) -> np.ndarray:
            """(T, n, ...) -> (T, N, ...), the objects that are not there filled up with `empty`."""
            missing = (steps, _MOST_THINGS - len(scene.things), *values.shape[2:])
            return np.concatenate([values, np.full(missing, empty, values.dtype)], axis=1)

        colours = (
            np.rint([[255 * part for part in thing.colour] for thing in scene.things]).astype(np.uint8).reshape(-1, 3)
        )
        radii = np.array([thing.radius * scale for thing in scene.things])
        states = {key: fill(np.where(seen, values, np.nan), np.nan) for key, values in truth.items()}
        states |= {
            "radius": fill(np.tile(radii, (steps, 1)), np.nan),
            "visible": fill(seen, False),
            "shape": fill(path["shape"].astype("<U8"), ""),
            "colour": fill(np.tile(colours, (steps, 1, 1)), 0),
            "scenario": np.full(steps, scene.scenario),
            "violation": np.full(steps, self.violation),
            "violation_frame": np.full(steps, frame),
            "gravity": np.full(steps, scene.gravity * scale / self.fps**2),
        }
        for key, values in sight(scene, path, self.fps).items():
            states[key] = fill(values, False) if key == "covered" else values * scale
        return Clip(name=name, frames=frames, fps=float(self.fps), states=states)


def _moments(scene: Scene, path: dict[str, np.ndarray], fps: int) -> np.ndarray:
    """Frames (M,) at which the law could be broken: in free flight all around, fast, with enough before and after."""
    vx, vy = path["vx"][:, 0], path["vy"][:, 0]
    free = (np.abs(np.diff(vy) - scene.gravity / fps) < 1e-6) & (np.abs(np.diff(vx)) < 1e-6)  # free[t]: from t to t + 1
    fast = np.hypot(vx, vy) >= SLOWEST
    candidates = range(BEFORE, len(vx) - AFTER + 1)
    return np.array([k for k in candidates if free[k - 1 - CLEAR : k + CLEAR].all() and fast[k - 1]], int)


def _act(
    violation: str, scene: Scene, path: dict[str, np.ndarray], frame: int, rng: np.random.Generator
) -> Callable[[Box], None]:
    """What breaks the law, done to the box just before `frame`."""
    if violation == "jump":
        dx, dy = _draw_leap(scene, path, frame, rng)
        return lambda box: box.displace(dx, dy)
    acts: dict[str, Callable[[Box], None]] = {
        "cube": lambda box: box.reshape(CUBE),
        "vanish": lambda box: box.hide(),
        "hang": lambda box: box.stop(),
        "rise": lambda box: box.set_gravity(-scene.gravity),
    }
    return acts[violation]


def _draw_leap(scene: Scene, path: dict[str, np.ndarray], frame: int, rng: np.random.Generator) -> tuple[float, float]:
    """A displacement after which the object is clear of all walls, and still so at `frame`."""
    x, y = path["x"][frame - 1 : frame + 1, 0], path["y"][frame - 1 : frame + 1, 0]
    reach = scene.things[0].reach + 0.5
    while True:  # from anywhere in the box at least a quarter of all directions are open
        length, angle = rng.uniform(*LEAP), rng.uniform(-math.pi, math.pi)
        dx, dy = length * math.cos(angle), length * math.sin(angle)
        inside_x = (x + dx > WALL_LEFT + reach) & (x + dx < WALL_RIGHT - reach)
        inside_y = (y + dy > WALL_TOP + reach) & (y + dy < scene.floor - reach)
        if inside_x.all() and inside_y.all():
            return dx, dy
