"""Staged scenes: for each property of the physical world two scenes that share some moment to the pixel.

Both unfold by the law. What follows the shared moment in one of them, put after what went before it in the other, does
not: an object vanishes, crosses a wall, turns its course for no reason. Such pairs, after IntPhys (arXiv 1803.07616),
need no visible trick. Training sees one scene of a pair at a time, and never the middle of any range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from foretell.worlds.scenes import BALL, CUBE, POLYGONS, Block, Colour, Scene, Screen, Thing, draw_colours

Part = Literal["train", "development", "test"]
SPANS: dict[Part, tuple[tuple[float, float], ...]] = {
    "train": ((0.0, 0.4), (0.6, 1.0)),
    "development": ((0.4, 0.5),),
    "test": ((0.5, 0.6),),
}
"""The share of every range of parameters that a part may use; of hues, of each quarter of the circle."""

SHAPES = (BALL, CUBE, "triangle", "bar")
RESTITUTION, FRICTION = 0.9, 0.0
"""On stage things glide and do not roll, so that how they look tells nothing of how far they went."""
MEETING = 1.2
"""Second at which the two courses of `gravity` touch."""
RISES = 0.2

Pair = tuple[Scene, Scene]


class Draw:
    """Random numbers, each from the share of its range that `part` may use."""

    def __init__(self, rng: np.random.Generator, part: Part) -> None:
        self.rng, self.spans = rng, SPANS[part]
        self.weights = np.array([high - low for low, high in self.spans])

    def between(self, low: float, high: float) -> float:
        """A number from low to high."""
        span = self.spans[self.rng.choice(len(self.spans), p=self.weights / self.weights.sum())]
        return low + (high - low) * float(self.rng.uniform(*span))

    def hue(self) -> float:
        """A hue from 0 to 1."""
        return (int(self.rng.integers(4)) + self.between(0, 1)) / 4

    def shape(self) -> str:
        """One of SHAPES."""
        return SHAPES[int(self.rng.integers(len(SHAPES)))]

    def flip(self) -> bool:
        """Heads or tails."""
        return bool(self.rng.uniform() < 0.5)


def draw_pair(rng: np.random.Generator, kind: str, part: Part) -> Pair:
    """Two lawful scenes of one property, or of a kind in EXTRAS twice the same; things come from either side."""
    draw = Draw(rng, part)
    first, second = (replace(scene, scenario=kind) for scene in {**PROPERTIES, **EXTRAS}[kind](draw))
    return (mirrored(first), mirrored(second)) if draw.flip() else (first, second)


def draw_staged(rng: np.random.Generator, part: Part) -> Scene:
    """One lawful scene of any kind. A scene where nothing moves teaches little, so few are empty."""
    kinds = [*PROPERTIES, *PROPERTIES, *EXTRAS]
    kind = kinds[int(rng.integers(len(kinds)))]
    pair = draw_pair(rng, kind, part)
    full = [scene for scene in pair if scene.things or rng.uniform() < 0.1]
    return full[int(rng.integers(len(full)))]


def permanence(draw: Draw) -> Pair:
    """An object passes behind a screen, or there is none."""
    scene = _passage(draw, draw.shape(), draw.between(4.5, 6.5))
    return scene, replace(scene, things=())


def continuity(draw: Draw) -> Pair:
    """A ball passes behind two screens and is seen between them, or there is none."""
    scene = _passage(draw, BALL, draw.between(4.0, 4.5))
    screen, thing = scene.screens[0], scene.things[0]
    half, away = draw.between(7.2, 7.8), draw.between(11.6, 12.2)
    screens = tuple(replace(screen, left=32 + s * away - half, right=32 + s * away + half) for s in (-1, 1))
    start = thing.radius + 1.2
    y = thing.y + (start - thing.x) * thing.vy / thing.vx
    scene = replace(scene, screens=screens, things=(replace(thing, x=start, y=y),))
    return scene, replace(scene, things=())


def colour(draw: Draw) -> Pair:
    """The same passage in two colours."""
    scene = _passage(draw, draw.shape(), draw.between(4.5, 6.5))
    thing = scene.things[0]
    while True:
        _, _, colours = draw_colours(draw.rng, 1, draw.hue, (scene.sky, scene.ground))
        if np.abs(np.subtract(colours[0], thing.colour)).max() > 0.5:
            return scene, replace(scene, things=(replace(thing, colour=colours[0]),))


def shape(draw: Draw) -> Pair:
    """The same passage in two shapes of equal width: of equal area, the narrower one would be hidden longer."""
    first, second = (str(name) for name in draw.rng.choice(SHAPES, 2, replace=False))
    half = draw.between(6.0, 7.5)
    scene = _passage(draw, first, half / _half_width(first, 1.0), on_floor=False)
    other = replace(scene.things[0], shape=second, radius=half / _half_width(second, 1.0))
    return scene, replace(scene, things=(other,))


def inertia(draw: Draw) -> Pair:
    """Without weight, an object passes behind a screen on its way up, or on its way down."""
    scene = _passage(draw, draw.shape(), draw.between(4.5, 5.5), on_floor=False)
    thing, screen = scene.things[0], scene.screens[0]
    y, slope = draw.between(27, 33), draw.between(0.3, 0.55)
    screen = replace(screen, top=y - draw.between(13, 17))

    def course(slope: float) -> Scene:
        ball = replace(thing, y=y - slope * (32 - thing.x), vy=slope * thing.vx)
        return replace(scene, things=(ball,), screens=(screen,))

    return course(slope), course(-slope)


def gravity(draw: Draw) -> Pair:
    """A ball flies by under weight that pulls it down, or up; half way both are at one place, equally fast."""
    scene = _passage(draw, BALL, draw.between(4.5, 5.5), on_floor=False)
    y, vx, vy, pull = draw.between(27, 30), draw.between(17, 21), draw.between(-3, 3), draw.between(12, 20)

    def course(pull: float) -> Scene:
        start = replace(
            scene.things[0],
            x=32 - vx * MEETING,
            y=y - vy * MEETING + pull * MEETING**2 / 2,
            vx=vx,
            vy=vy - pull * MEETING,
        )
        return replace(scene, things=(start,), screens=(), gravity=pull)

    return course(pull), course(-pull)


def solidity(draw: Draw) -> Pair:
    """A wall is seen, or none, then a screen rises; a ball that passes behind it comes back, or goes through."""
    scene = _passage(draw, BALL, draw.between(4.2, 5.0), on_floor=True, width=draw.between(28, 31), high=24)
    x, high = draw.between(33, 36), draw.between(14, 20)
    wall = _box(x - 1.5, scene.floor - high, x + 1.5, scene.floor, _colour_of(draw, scene))
    return replace(scene, blocks=(wall,)), scene


def collision(draw: Draw) -> Pair:
    """A heavy ball is seen in the way, or above it on a shelf, then a screen rises; a light one hits it, or does not."""
    scene = _passage(draw, BALL, draw.between(4.2, 4.8), on_floor=True, width=draw.between(31, 33), high=40)
    x, radius, shelf = draw.between(35, 37), draw.between(6.2, 7.0), scene.floor - draw.between(20, 23)
    still = replace(scene.things[0], radius=radius, x=x, y=scene.floor - radius, vx=0.0, colour=_colour_of(draw, scene))
    scene = replace(scene, blocks=(_box(x - 7, shelf, x + 7, shelf + 2, scene.screens[0].colour),))
    hit = replace(scene, things=(*scene.things, still))
    return hit, replace(scene, things=(*scene.things, replace(still, y=shelf - radius)))


def support(draw: Draw) -> Pair:
    """A long ledge is seen, or a short one, then a screen rises; a ball on it goes on behind the screen, or falls."""
    scene = _passage(draw, BALL, draw.between(4.2, 5.0), on_floor=True, width=draw.between(26, 29), high=33)
    screen, thing, ledge = scene.screens[0], scene.things[0], scene.floor - draw.between(17, 20)
    scene = replace(scene, things=(replace(thing, y=ledge - thing.radius),), gravity=draw.between(20, 28))
    colour = _colour_of(draw, scene)
    ends = screen.right - draw.between(1, 3), screen.left + draw.between(3, 6)
    long, short = (replace(scene, blocks=(_box(-10, ledge, end, ledge + 3, colour),)) for end in ends)
    return long, short


def ramp(draw: Draw) -> Pair:
    """A ball glides up a ramp, and back again if it is too slow."""
    scene = _passage(draw, BALL, draw.between(4.5, 6.5), on_floor=True)
    foot, high = draw.between(28, 40), draw.between(6, 20)
    corners = ((foot, scene.floor), (64.0, scene.floor), (64.0, scene.floor - high))
    scene = replace(scene, screens=(), blocks=(Block(corners=corners, colour=_colour_of(draw, scene)),))
    return scene, scene


def container(draw: Draw) -> Pair:
    """A ball falls into an open box and stays there, behind its front."""
    scene = _passage(draw, BALL, draw.between(4.2, 5.5), on_floor=True)
    thing, x, half, high = scene.things[0], draw.between(20, 44), draw.between(8, 10), draw.between(14, 18)
    colour, floor = _colour_of(draw, scene), scene.floor
    sides = tuple(_box(at - 1, floor - high, at + 1, floor, colour) for at in (x - half, x + half))
    front = Screen(left=x - half - 1, right=x + half + 1, top=floor - high, bottom=floor + 2, colour=colour)
    falling = replace(thing, x=x + draw.between(-2, 2), y=draw.between(8, 20), vx=0.0, vy=draw.between(0, 6))
    scene = replace(
        scene, things=(falling,), blocks=sides, screens=(front,), restitution=0.4, gravity=draw.between(12, 24)
    )
    return scene, scene


PROPERTIES: dict[str, Callable[[Draw], Pair]] = {
    function.__name__: function
    for function in (permanence, continuity, colour, shape, inertia, gravity, solidity, collision, support)
}
EXTRAS: dict[str, Callable[[Draw], Pair]] = {function.__name__: function for function in (ramp, container)}
"""Kinds that are only trained on."""


def mirrored(scene: Scene) -> Scene:
    """The same scene with left and right changed over."""
    return replace(
        scene,
        things=tuple(replace(thing, x=64 - thing.x, vx=-thing.vx, angle=-thing.angle) for thing in scene.things),
        blocks=tuple(replace(b, corners=tuple((64 - x, y) for x, y in b.corners)) for b in scene.blocks),
        screens=tuple(replace(s, left=64 - s.right, right=64 - s.left) for s in scene.screens),
    )


def _passage(
    draw: Draw,
    shape: str,
    radius: float,
    *,
    on_floor: bool | None = None,
    width: float | None = None,
    high: float | None = None,
) -> Scene:
    """One object that crosses from the left behind a screen: gliding on the floor, or straight through the air, weightless.

    Given `width` and `high`, the screen is as wide, rises from the floor to that height or some more, and what it will
    hide is seen before.
    """
    if on_floor is None:
        on_floor = shape == BALL and draw.flip()  # a ball alone touches the floor at its radius
    floor = draw.between(54, 58)
    sky, ground, (own, other) = draw_colours(draw.rng, 2, draw.hue)
    y, slope = floor - radius, 0.0
    if not on_floor:
        y, slope = draw.between(22, 34), draw.between(0.05, 0.4) * (1 if draw.flip() else -1)
    width = 2 * _half_width(shape, radius) + draw.between(8, 13) if width is None else width
    speed = draw.between(20, 25)
    top = y - radius - 16 * abs(slope) - draw.between(5, 9) if high is None else floor - high - draw.between(0, 4)
    rises = None if high is None and draw.flip() else RISES
    centre = draw.between(30.5, 33.5) if high is None else 32.0
    bottom = floor + 2  # the pixels that the floor's line runs through are covered, too
    screen = Screen(
        left=centre - width / 2, right=centre + width / 2, top=max(2.0, top), bottom=bottom, colour=other, rises=rises
    )
    start = _half_width(shape, radius) + draw.between(1.3, 2.3)
    thing = Thing(
        shape=shape, radius=radius, colour=own, x=start, y=y - slope * (32 - start), vx=speed, vy=slope * speed
    )
    return Scene(
        scenario="staged",
        things=(thing,),
        floor=floor,
        slope=0.0,
        sky=sky,
        ground=ground,
        texture=draw.rng.uniform(-1, 1, (9, 9)),
        gravity=draw.between(10, 14) if on_floor else 0.0,
        screens=(screen,),
        restitution=RESTITUTION,
        friction=FRICTION,
    )


def _half_width(shape: str, radius: float) -> float:
    return radius if shape == BALL else radius * float(POLYGONS[shape][:, 0].max())


def _box(left: float, top: float, right: float, bottom: float, colour: Colour) -> Block:
    return Block(corners=((left, top), (right, top), (right, bottom), (left, bottom)), colour=colour)


def _colour_of(draw: Draw, scene: Scene) -> Colour:
    """One more colour that stands out from the background."""
    return draw_colours(draw.rng, 1, draw.hue, (scene.sky, scene.ground))[2][0]
