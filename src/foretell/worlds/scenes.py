"""Scenes of the physics world: what is there at frame 0, drawn from a random stream.

Lengths are in units of 1/64 of the frame (the pixels of a 64 px frame), y grows downward, time is in seconds. All that
cannot be seen is a constant of the world (restitution, friction, the walls; gravity, unless several are asked for, and
then a few frames show which), and nothing enters or leaves, so that what happens next follows from what was seen.
"""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

GRAVITY = 12.0
"""Acceleration downward, units per second squared: 0.12 px per frame squared at 64 px and 10 fps."""
RESTITUTION = 0.8
"""Share of the normal speed that a bounce gives back, for every pair of things."""
FRICTION = 0.25
"""Coulomb friction for every pair of things."""
WALL_LEFT, WALL_RIGHT, WALL_TOP = 1.0, 63.0, 1.0
"""The invisible box: nothing enters or leaves the frame."""
FLIGHT = 2.5
"""Seconds that a throw flies freely, a parabola that touches nothing; fewer where gravity leaves no room for as many."""
RADII = (7.0, 9.0)
"""Least and greatest radius; a shape that is no ball has the area of the ball of its radius."""

RISING = 0.3
"""Seconds that a screen takes to rise or to fall."""

BALL, CUBE = "ball", "cube"
Colour = tuple[float, float, float]


def _regular(corners: int, turn: float) -> np.ndarray:
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _of_unit_ball_area(corners: np.ndarray) -> np.ndarray:
    x, y = corners.T
    area = 0.5 * abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
    return corners * math.sqrt(math.pi / area)


POLYGONS: dict[str, np.ndarray] = {
    name: _of_unit_ball_area(corners)
    for name, corners in {
        CUBE: _regular(4, np.pi / 4),
        "triangle": _regular(3, -np.pi / 2),
        "hexagon": _regular(6, 0.0),
        "bar": np.array([[1.4, 0.8], [-1.4, 0.8], [-1.4, -0.8], [1.4, -0.8]]),
    }.items()
}
"""Corners (K, 2) of each shape of radius 1, centred on its centre of mass, counted in one direction of turn."""
SHAPES = (BALL, *POLYGONS)


def reach(shape: str, radius: float) -> float:
    """Distance from the centre to the farthest point of a shape."""
    return radius if shape == BALL else radius * float(np.hypot(*POLYGONS[shape].T).max())


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object at frame 0. Positions in units, speeds in units per second, angle in radians; colour RGB in 0..1."""

    shape: str
    radius: float
    colour: tuple[float, float, float]
    x: float
    y: float
    vx: float
    vy: float
    angle: float = 0.0
    spin: float = 0.0

    @property
    def reach(self) -> float:
        """Distance from the centre to the farthest point."""
        return reach(self.shape, self.radius)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A solid that never moves: a wall, a ledge, a ramp. Corners (x, y) of a convex outline, in one direction of turn."""

    corners: tuple[tuple[float, float], ...]
    colour: Colour


@dataclass(frozen=True, kw_only=True)
class Screen:
    """An opaque screen before all things, which touches none. It stands on `bottom`, or rises up and falls again."""

    left: float
    right: float
    top: float
    bottom: float
    colour: Colour
    rises: float | None = None
    """Second at which it begins to rise; None: it stands from the start."""
    falls: float | None = None
    """Second at which it begins to fall; None: it stays."""

    def height(self, time: np.ndarray) -> np.ndarray:
        """How high it stands at each time (seconds), in units."""
        up = np.ones_like(time) if self.rises is None else np.clip((time - self.rises) / RISING, 0, 1)
        down = np.zeros_like(time) if self.falls is None else np.clip((time - self.falls) / RISING, 0, 1)
        return (self.bottom - self.top) * (up - down)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Frame 0 and all that stays the same. The floor runs through (32, floor) and falls to the right by `slope`."""

    scenario: str
    things: tuple[Thing, ...]
    floor: float
    slope: float
    sky: tuple[np.ndarray, np.ndarray]
    ground: np.ndarray
    texture: np.ndarray
    gravity: float = GRAVITY
    restitution: float = RESTITUTION
    friction: float = FRICTION
    blocks: tuple[Block, ...] = ()
    screens: tuple[Screen, ...] = ()


def draw_scene(rng: np.random.Generator, scenario: str, *, ball_only: bool = False, gravity: float = GRAVITY) -> Scene:
    """A scene of `scenario`; all that is random comes from `rng`. `ball_only` makes every object a ball."""
    slope = float(rng.uniform(-0.22, 0.22)) if scenario == "rolling" else 0.0
    floor = float(rng.uniform(54.0, 58.0)) if scenario != "rolling" else float(rng.uniform(46.0, 52.0))
    sky, ground, colours = draw_colours(rng, 2, rng.uniform)
    drawn = [str(rng.choice(SHAPES)) for _ in range(2)]
    shapes = [BALL, BALL] if ball_only or scenario == "rolling" else drawn
    radii = [float(rng.uniform(*RADII)) for _ in range(2)]
    place = {"thrown": _thrown, "bouncing": _bouncing, "rolling": _rolling, "colliding": _colliding}[scenario]
    things = place(rng, shapes, radii, colours, floor, slope, gravity)
    texture = rng.uniform(-1, 1, (9, 9))
    return Scene(
        scenario=scenario, things=things, floor=floor, slope=slope, sky=sky, ground=ground, texture=texture,
        gravity=gravity,
    )  # fmt: skip


def _thrown(
    rng: np.random.Generator,
    shapes: list[str],
    radii: list[float],
    colours: list[Colour],
    floor: float,
    slope: float,
    gravity: float,
) -> tuple[Thing, ...]:
    """One object at one side, thrown towards the other; it flies freely for FLIGHT, then it may land or hit a wall."""
    size, side = reach(shapes[0], radii[0]), float(rng.choice([-1.0, 1.0]))
    # from the floor up to the ceiling and down again is the longest flight there is
    flight = min(FLIGHT, 0.7 * 2 * math.sqrt(2 * (floor - WALL_TOP - 2 * size - 1) / gravity))
    fastest = 24.0 * math.sqrt(gravity / GRAVITY)  # as high a flight under any gravity
    while True:
        gap = float(rng.uniform(0.5, 5))
        x = 32 - side * (WALL_RIGHT - 32 - size - gap)
        y = float(rng.uniform(WALL_TOP + size + 4, floor - size - 4))
        # from low down it is thrown up, from high up it is thrown flat: the top of the flight stays inside the frame
        highest = math.sqrt(2 * gravity * (y - WALL_TOP - size - 1))
        vy = -float(rng.uniform(0.4, 1.0)) * min(highest, fastest)
        vx = float(rng.uniform(8, 20))
        far = WALL_RIGHT - WALL_LEFT - 2 * size - gap
        if vx * flight < far and y + vy * flight + 0.5 * gravity * flight**2 < floor - size:
            return (_thing(rng, shapes[0], radii[0], colours[0], x, y, side * vx, vy),)


def _bouncing(
    rng: np.random.Generator,
    shapes: list[str],
    radii: list[float],
    colours: list[Colour],
    floor: float,
    slope: float,
    gravity: float,
) -> tuple[Thing, ...]:
    """One object let fall from low down while it crosses the box, so that it soon bounces, and again."""
    size = reach(shapes[0], radii[0])
    x = float(rng.uniform(WALL_LEFT + size + 1, WALL_RIGHT - size - 1))
    y = floor - size - float(rng.uniform(2, 20))
    vx = float(rng.choice([-1.0, 1.0]) * rng.uniform(8, 20))
    return (_thing(rng, shapes[0], radii[0], colours[0], x, y, vx, float(rng.uniform(0, 10))),)


def _rolling(
    rng: np.random.Generator,
    shapes: list[str],
    radii: list[float],
    colours: list[Colour],
    floor: float,
    slope: float,
    gravity: float,
) -> tuple[Thing, ...]:
    """One ball that rolls along the floor, without slipping, on a slight slope."""
    radius, side = radii[0], float(rng.choice([-1.0, 1.0]))
    x = 32 - side * (WALL_RIGHT - 32 - radius - float(rng.uniform(1, 12)))
    y = floor + slope * (x - 32) - radius * math.hypot(1, slope)
    speed = side * float(rng.uniform(8, 22))
    along = 1 / math.hypot(1, slope)
    return (
        Thing(
            shape=BALL, radius=radius, colour=colours[0], x=x, y=y, vx=speed * along, vy=speed * slope * along,
            angle=float(rng.uniform(-np.pi, np.pi)), spin=speed / radius,
        ),
    )  # fmt: skip


def _colliding(
    rng: np.random.Generator,
    shapes: list[str],
    radii: list[float],
    colours: list[Colour],
    floor: float,
    slope: float,
    gravity: float,
) -> tuple[Thing, ...]:
    """Two objects thrown at each other, so that they meet in the air."""
    sizes = [reach(shape, radius) for shape, radius in zip(shapes, radii, strict=True)]
    while True:
        x = np.array([WALL_LEFT + sizes[0] + rng.uniform(0, 3), WALL_RIGHT - sizes[1] - rng.uniform(0, 3)])
        y = np.array([rng.uniform(WALL_TOP + size + 1, floor - size - 1) for size in sizes])
        when, vx0, vy0 = rng.uniform(0.7, 1.4), rng.uniform(6, 18), rng.uniform(-16, 4)
        tilt = rng.uniform(-0.6, 0.6)
        gap = 0.9 * sum(radii)
        # both fall alike, so seen from one of them the other flies straight: aim it to be `gap` away at `when`
        vx1 = vx0 + (x[0] + gap * math.cos(tilt) - x[1]) / when
        vy1 = vy0 + (y[0] + gap * math.sin(tilt) - y[1]) / when
        vx, vy = np.array([vx0, vx1]), np.array([vy0, vy1])
        time = np.linspace(0, when, 8)[:, None]
        path = y + vy * time + 0.5 * gravity * time**2
        clear = (path > WALL_TOP + np.array(sizes)).all() and (path < floor - np.array(sizes)).all()
        if clear and np.hypot(vx, vy).max() < 26 and vx1 < 0 and np.hypot(x[1] - x[0], y[1] - y[0]) > sum(sizes):
            break
    return tuple(
        _thing(rng, shapes[i], radii[i], colours[i], float(x[i]), float(y[i]), float(vx[i]), float(vy[i]))
        for i in range(2)
    )


def _thing(
    rng: np.random.Generator, shape: str, radius: float, colour: Colour, x: float, y: float, vx: float, vy: float
) -> Thing:
    """Polygons turn slowly as they fly; a ball does not turn before its first bounce."""
    angle, spin = float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(-0.8, 0.8))
    return Thing(
        shape=shape,
        radius=radius,
        colour=colour,
        x=x,
        y=y,
        vx=vx,
        vy=vy,
        angle=angle,
        spin=0.0 if shape == BALL else spin,
    )


Backdrop = tuple[tuple[np.ndarray, np.ndarray], np.ndarray]
"""Sky (top, bottom) and ground."""


def draw_colours(
    rng: np.random.Generator, count: int, hue: Callable[[], float], backdrop: Backdrop | None = None
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, list[Colour]]:
    """Sky (top, bottom), ground, and `count` object colours of any `hue` that stand out by their brightness.

    H.264 keeps colour at half the resolution, brightness at the full one: brightness is what keeps small shapes sharp.
    """
    luma = np.array([0.299, 0.587, 0.114])
    while True:
        (top, bottom), ground = backdrop or _draw_backdrop_colours(rng)
        least = 0.5 if top @ luma > 0.5 else 0.75
        colours = [colorsys.hsv_to_rgb(hue(), rng.uniform(0.55, 0.95), rng.uniform(least, 1)) for _ in range(count)]
        contrast = np.abs((np.array(colours)[:, None] - np.stack([top, bottom, ground])) @ luma).min()
        apart = min((np.abs(np.subtract(a, b)).max() for a, b in itertools.combinations(colours, 2)), default=1.0)
        if contrast > 0.2 and apart > 0.3:
            return (top, bottom), ground, colours


def _draw_backdrop_colours(rng: np.random.Generator) -> Backdrop:
    light = rng.uniform() < 0.65
    hue, drift = rng.uniform(), rng.uniform(-0.08, 0.08)
    value = rng.uniform(0.84, 0.96) if light else rng.uniform(0.16, 0.3)
    tint = rng.uniform(0.06, 0.25) if light else rng.uniform(0.2, 0.5)
    top = np.array(colorsys.hsv_to_rgb(hue, tint, value))
    bottom = np.array(colorsys.hsv_to_rgb((hue + drift) % 1, 0.6 * tint, min(value + 0.06, 1.0)))
    ground = np.array(colorsys.hsv_to_rgb((hue + 2 * drift) % 1, min(1.6 * tint, 1.0), value * (0.8 if light else 0.6)))
    return (top, bottom), ground
