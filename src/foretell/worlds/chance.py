"""The world of chance: its future is open, and how open is known.

Forks: a ball rolls along a road that forks; a sign's colour shows with which chance it will go up, and which way it goes is
decided at the fork and seen nowhere before. Drifting: gusts push a ball in open space, and the brightness of the air shows
how strong they are; where it will be has a closed law, `law`.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from foretell.data.clip import Clip
from foretell.errors import ConfigError
from foretell.worlds.paint import Colour, paint_disc, paint_outline

DOWN_COLOUR, UP_COLOUR = np.array((30, 50, 230)), np.array((250, 215, 40))
"""Of the sign, where the ball surely goes down (blue) and surely goes up (yellow); between them the share is the chance."""
CALM, WINDY = 60, 190
"""Grey levels of the air at the weakest and the strongest gusts."""
LEAST_CHANCE, EVEN = 0.05, 0.2
"""Both ways have at least this chance; and of this share of episodes both are even."""
STRAY = 10.5
"""Widest deviation, in 1/64 of the frame, that gusts may give a ball by the end of an episode; so few leave the frame."""
ROAD_MARGIN = 1.5
_PLACES = (3.0, 5.0)  # least and greatest radius, in 1/64 of the frame


@dataclass(frozen=True, kw_only=True)
class Chance:
    """One ball whose future is open. The config is the world."""

    size: int = 64
    """Pixels of a side of the square frame; all lengths scale with it."""
    frames: int = 32
    """Frames of an episode. On a road the whole episode is spread over them."""
    fps: int = 10
    """Frames a second that videos are written with."""
    scenario: Literal["forks", "drifting"] = "forks"
    """forks: a road that forks, and a sign that shows the chance of either way; drifting: gusts in open space."""
    gusts: tuple[float, float] = (0.01, 0.1)
    """Weakest and strongest gusts of drifting: deviation of a velocity's change from frame to frame, along either axis, in
    1/64 of the frame per frame. An episode has one between them."""

    def __post_init__(self) -> None:
        if self.scenario not in ("forks", "drifting"):
            raise ConfigError(f"chance scenario: got {self.scenario!r}, expected forks or drifting")
        if self.size < 16 or self.size % 8:
            raise ConfigError(f"chance size: got {self.size}, expected a multiple of 8 from 16 up")
        if self.frames < 16 or not 1 <= self.fps <= 80:
            got = f"frames {self.frames}, fps {self.fps}"
            raise ConfigError(f"chance: got {got}, expected at least 16 frames, and an fps of 1 to 80")
        weak, strong = self.gusts
        if not 0 <= weak < strong or strong * _growth(self.frames - 1) > STRAY:
            most = STRAY / _growth(self.frames - 1)
            raise ConfigError(
                f"chance gusts: got {self.gusts}, expected 0 <= weakest < strongest <= {most:.3f}, beyond which balls "
                f"leave the frame within {self.frames} frames; weaker gusts, or fewer frames"
            )

    def episode(self, seed: int) -> Clip:
        """The episode of `seed`: frames uint8 (T, H, W, 3), and states of N = 1 ball, all arrays beginning with T.

        x, y (T, 1): pixels from the upper left corner, y downward; vx, vy (T, 1): pixels a frame, the step that led to this
        frame; radius (T, 1): pixels. visible bool (T, 1), shape str (T, 1), colour uint8 (T, 1, 3). scenario str (T,).
        forks: chance_up (T,), branch int (T,), 1 up and 0 down; fork_frame int (T,), the first frame that tells which; and
        other_x, other_y (T, 1), where the ball would be, had it gone the other way. -1 or NaN in drifting.
        gust (T,): pixels a frame, NaN in forks.
        """
        rng = np.random.default_rng(seed)
        return self._forking(rng, seed) if self.scenario == "forks" else self._drifting(rng, seed)

    def _forking(self, rng: np.random.Generator, seed: int) -> Clip:
        road = draw_road(rng)
        branch = int(rng.random() < road.chance_up)  # the last draw: nothing that is seen before depends on it
        went, other = (road.roll(self.frames, up) for up in (branch, 1 - branch))
        told = {
            "chance_up": np.full(self.frames, road.chance_up),
            "branch": np.full(self.frames, branch),
            "fork_frame": np.full(self.frames, road.fork_frame(self.frames)),
            "other_x": other[:, :1] * self.size / 64,
            "other_y": other[:, 1:] * self.size / 64,
            "gust": np.full(self.frames, np.nan),
        }
        step = road.way / (self.frames - 1)
        before = went[:1] - (step, 0.0)
        return self._clip(f"forks-{seed}", draw_backdrop(road, self.size), road.radius, road.ball, went, before, told)

    def _drifting(self, rng: np.random.Generator, seed: int) -> Clip:
        while True:
            gust = rng.uniform(*self.gusts)
            radius, colour = rng.uniform(*_PLACES), _bright(rng)
            places, before = drift(rng, self.frames, gust)
            if (np.abs(places - 32) < 32 - radius).all():  # all but one in a thousand: tests/worlds/test_chance.py
                break
        nothing = np.full((self.frames, 1), np.nan)
        told = {
            "chance_up": nothing[:, 0],
            "branch": np.full(self.frames, -1),
            "fork_frame": np.full(self.frames, -1),
            "other_x": nothing,
            "other_y": nothing,
            "gust": np.full(self.frames, gust * self.size / 64),
        }
        share = (gust - self.gusts[0]) / (self.gusts[1] - self.gusts[0])
        backdrop = np.full((self.size, self.size, 3), np.rint(CALM + share * (WINDY - CALM)), np.uint8)
        return self._clip(f"drifting-{seed}", backdrop, radius, colour, places, before, told)

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
            "scenario": np.full(steps, self.scenario),
        }
        return Clip(name=name, frames=frames, fps=float(self.fps), states=states | told)


def law(clip: Clip, t: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the ball of a drifting episode will be after frame `t`, knowing its true state then: mean (H, 2), std (H, 2), pixels.

    Gaussian, each axis by itself. Velocity changes first, then place: after h frames the place is x + h v + the sum of
    (h + 1 - k) times the k-th gust, so that its variance is gust^2 h (h + 1)(2 h + 1) / 6. Episodes whose ball would leave the
    frame are never shown, one in a thousand, so that the law is that far off. Raises ConfigError for another scenario.
    """
    gust = float(clip.states["gust"][t])
    if not math.isfinite(gust):
        raise ConfigError(f"{clip.name}: the law is known of drifting balls alone; record chance --scenario drifting")
    ahead = np.arange(1, horizon + 1)
    place, speed = (np.array([clip.states[key][t, 0] for key in pair]) for pair in (("x", "y"), ("vx", "vy")))
    std = gust * np.array([_growth(h) for h in range(1, horizon + 1)])
    return place + ahead[:, None] * speed, np.repeat(std[:, None], 2, axis=1)


def drift(rng: np.random.Generator, steps: int, gust: float) -> tuple[np.ndarray, np.ndarray]:
    """Places (T, 2) of a drifting ball and the one before them (1, 2), in 1/64 of the frame.

    It starts anywhere but near the edge, at a speed with which, in calm air, it would end near the middle.
    """
    start, end = rng.uniform(14, 50, 2), rng.uniform(29, 35, 2)
    speed = (end - start) / (steps - 1)
    speeds = speed + np.cumsum(gust * rng.standard_normal((steps - 1, 2)), axis=0)
    places = start + np.concatenate([np.zeros((1, 2)), np.cumsum(speeds, axis=0)])
    return places, (start - speed)[None]


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


def _growth(steps: int) -> float:
    """Deviation of a drifting ball's place after so many frames, over the gusts'."""
    return math.sqrt(steps * (steps + 1) * (2 * steps + 1) / 6)


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
