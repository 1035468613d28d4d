"""The world of chance: its future is open, and how open is known.

A ball rolls along a road that forks; a sign's colour shows with which chance it will go up, and which way it goes is
decided at the fork and seen nowhere before.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foretell.data.clip import Clip
from foretell.errors import ConfigError
from foretell.worlds.paint import Colour, paint_disc, paint_outline

DOWN_COLOUR, UP_COLOUR = np.array((30, 50, 230)), np.array((250, 215, 40))
"""Of the sign, where the ball surely goes down (blue) and surely goes up (yellow); between them the share is the chance."""
LEAST_CHANCE, EVEN = 0.05, 0.2
"""Both ways have at least this chance; and of this share of episodes both are even."""
ROAD_MARGIN = 1.5


@dataclass(frozen=True, kw_only=True)
class Chance:
    """One ball whose future is open. The config is the world."""

    size: int = 64
    """Pixels of a side of the square frame; all lengths scale with it."""
    frames: int = 32
    """Frames of an episode, over which the whole way is spread."""
    fps: int = 10
    """Frames a second that videos are written with."""

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 8:
            raise ConfigError(f"chance size: got {self.size}, expected a multiple of 8 from 16 up")
        if self.frames < 16 or not 1 <= self.fps <= 80:
            got = f"frames {self.frames}, fps {self.fps}"
            raise ConfigError(f"chance: got {got}, expected at least 16 frames, and an fps of 1 to 80")

    def episode(self, seed: int) -> Clip:
        """The episode of `seed`: frames uint8 (T, H, W, 3), and states of N = 1 ball, all arrays beginning with T.

        x, y (T, 1): pixels from the upper left corner, y downward; vx, vy (T, 1): pixels a frame, the step that led to this
        frame; radius (T, 1): pixels. visible bool (T, 1), shape str (T, 1), colour uint8 (T, 1, 3).
        chance_up (T,), branch int (T,), 1 up and 0 down; fork_frame int (T,), the first frame that tells which; and
        other_x, other_y (T, 1), where the ball would be, had it gone the other way.
        """
        rng = np.random.default_rng(seed)
        road = draw_road(rng)
        branch = int(rng.random() < road.chance_up)  # the last draw: nothing that is seen before depends on it
        went, other = (road.roll(self.frames, up) for up in (branch, 1 - branch))
        told = {
            "chance_up": np.full(self.frames, road.chance_up),
            "branch": np.full(self.frames, branch),
            "fork_frame": np.full(self.frames, road.fork_frame(self.frames)),
            "other_x": other[:, :1] * self.size / 64,
            "other_y": other[:, 1:] * self.size / 64,
        }
        step = road.way / (self.frames - 1)
        before = went[:1] - (step, 0.0)
        return self._clip(f"chance-{seed}", draw_backdrop(road, self.size), road.radius, road.ball, went, before, told)

    def _clip(
        self,
        name: str,
        backdrop: np.ndarray,
        radius: float,
        colour: Colour,
        places: np.ndarray,
        before: np.ndarray,
        told: dict[str, np.ndarray],
    ) -> Clip:
        """A ball that was at `before` (1, 2) and then at `places` (T, 2), in 1/64 of the frame, drawn over a backdrop."""
        scale, steps = self.size / 64, len(places)
        frames = np.repeat(backdrop[None], steps, axis=0)
        for frame, (x, y) in zip(frames, places, strict=True):
            _paint_ball(frame, x * scale, y * scale, radius * scale, colour)
        moves = np.diff(places, axis=0, prepend=before) * scale
        states = {
            "x": places[:, :1] * scale,
            "y": places[:, 1:] * scale,
            "vx": moves[:, :1],
            "vy": moves[:, 1:],
            "radius": np.full((steps, 1), radius * scale),
            "visible": np.full((steps, 1), True),
            "shape": np.full((steps, 1), "ball"),
            "colour": np.tile(np.array(colour, np.uint8), (steps, 1, 1)),
        }
        return Clip(name=name, frames=frames, fps=float(self.fps), states=states | told)


class Road(NamedTuple):
    """A road that forks, what rolls on it, and what the sign says; lengths in 1/64 of the frame, angles in radians."""

    chance_up: float
    start: float
    """x of the ball in the first frame."""
    height: float
    """y of the road before the fork."""
    way: float
    """Length that the ball rolls in the whole episode."""
    share: float
    """Of that way, how much lies before the fork."""
    angles: tuple[float, float]
    """By which the road down and the road up turn away."""
    radius: float
    sign: tuple[float, float]
    """Middle of the sign."""
    ball: Colour
    ground: Colour
    road: Colour

    @property
    def fork(self) -> np.ndarray:
        """Where it forks, (2,)."""
        return np.array((self.start + self.share * self.way, self.height))

    def direction(self, up: int) -> np.ndarray:
        """Of the road after the fork, (2,), y downward."""
        angle = self.angles[up]
        return np.array((math.cos(angle), -math.sin(angle) if up else math.sin(angle)))

    def roll(self, steps: int, up: int) -> np.ndarray:
        """Places (T, 2) of a ball that takes this branch."""
        gone = np.linspace(0, self.way, steps) - self.share * self.way
        return self.fork + np.minimum(gone, 0)[:, None] * (1.0, 0.0) + np.maximum(gone, 0)[:, None] * self.direction(up)

    def fork_frame(self, steps: int) -> int:
        """The first frame in which the ball is beyond the fork."""
        return math.floor(self.share * (steps - 1)) + 1


def draw_road(rng: np.random.Generator) -> Road:
    """A road, a ball and a chance. Whichever way the ball goes, it stays in the frame."""
    even, drawn = rng.random() < EVEN, rng.uniform(LEAST_CHANCE, 1 - LEAST_CHANCE)
    down, up = rng.uniform(math.radians(26), math.radians(34), 2)
    tone = rng.uniform(40, 110)
    tint = rng.uniform(-20, 20, 3)
    lighter = rng.uniform(55, 90)
    return Road(
        chance_up=0.5 if even else float(drawn),
        start=float(rng.uniform(5.5, 9)),
        height=float(rng.uniform(29, 35)),
        way=float(rng.uniform(42, 53)),
        share=float(rng.uniform(0.3, 0.46)),
        angles=(float(down), float(up)),
        radius=float(rng.uniform(3, 4.5)),
        sign=(float(rng.uniform(9, 16)), float(rng.uniform(9, 12))),
        ball=_bright(rng),
        ground=_colour(tone + tint),
        road=_colour(tone + lighter + tint / 2),
    )


def draw_backdrop(road: Road, size: int) -> np.ndarray:
    """Ground, road and sign, uint8 (H, W, 3)."""
    scale, wide = size / 64, road.radius + ROAD_MARGIN
    picture = np.empty((size, size, 3))
    picture[:] = road.ground
    fork = road.fork
    for direction, length in ((np.array((-1.0, 0.0)), 64.0), (road.direction(0), 64.0), (road.direction(1), 64.0)):
        aside = wide * np.array((-direction[1], direction[0]))
        end = fork + length * direction
        paint_outline(picture, np.array((fork + aside, end + aside, end - aside, fork - aside)) * scale, road.road)
    paint_disc(picture, fork[0] * scale, fork[1] * scale, wide * scale, road.road)
    for half, colour in ((7.0, (20, 20, 20)), (6.0, sign_colour(road.chance_up))):
        corners = np.array(road.sign) + half * np.array(((-1, -1), (1, -1), (1, 1), (-1, 1)))
        paint_outline(picture, corners * scale, colour)
    return np.rint(picture).astype(np.uint8)


def sign_colour(chance_up: float) -> Colour:
    """What the sign shows."""
    return _colour(DOWN_COLOUR + chance_up * (UP_COLOUR - DOWN_COLOUR))


def _paint_ball(frame: np.ndarray, x: float, y: float, radius: float, colour: Colour) -> None:
    """A disc with a darker rim, in place."""
    paint_disc(frame, x, y, radius, _colour(0.5 * np.array(colour)))
    paint_disc(frame, x, y, 0.8 * radius, colour)


def _bright(rng: np.random.Generator) -> Colour:
    """A strong colour of any hue."""
    return _colour(255 * np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.75, 1), rng.uniform(0.85, 1))))


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = (int(part) for part in np.rint(np.clip(values, 0, 255)))
    return red, green, blue
