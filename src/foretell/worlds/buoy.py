"""A buoy in the wind: a world in which nobody can say exactly what comes, and the best that can be said is known.

A ball hangs on a long rubber band and is pushed by gusts: every frame, along each axis by itself,

    v' = (1 - DRAG) v - PULL (x - anchor) + gust * e,   x' = x + v',   e normal

so that given where it is, how fast, and how windy, what comes is exactly Gaussian (`law`). How windy it is, the sky shows: the
windier, the brighter.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from foretell.data.clip import Clip
from foretell.errors import ConfigError

DRAG, PULL = 0.1, 0.02
SETTLING = 80
"""Frames that pass unseen, so that it begins anywhere."""
CALM, DARK, BRIGHT = (0.2, 0.6), 40.0, 110.0
"""Gusts that the sky tells apart, in units of 1/64 of the frame per frame, and its brightness at both ends."""


@dataclass(frozen=True, kw_only=True)
class Buoy:
    """The config is the world. Lengths are units of 1/64 of the frame."""

    size: int = 64
    """Pixels of a side of the square frame."""
    frames: int = 24
    """Frames of an episode."""
    fps: int = 10
    """Frames a second."""
    gusts: tuple[float, float] = CALM
    """Least and greatest deviation of the speed that a gust adds, units per frame; each episode has its own."""
    hues: tuple[float, float] = (0.0, 0.5)
    """Of the ball, as shares of the circle of colours."""
    shape: Literal["ball", "square"] = "ball"
    """What hangs there."""
    sky: Literal["plain", "striped"] = "plain"
    """Behind it."""

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 8 or self.frames < 2:
            raise ConfigError(
                f"buoy: got size {self.size}, {self.frames} frames; expected a multiple of 8 from 16, 2 or more"
            )
        if not 0 < self.gusts[0] <= self.gusts[1] <= 3 or not 0 <= self.hues[0] <= self.hues[1] <= 1:
            raise ConfigError(f"buoy: got gusts {self.gusts}, hues {self.hues}; expected 0 to 3 and 0 to 1, rising")

    def episode(self, seed: int) -> Clip:
        """The episode of `seed`: frames uint8 (T, H, W, 3), and states of N = 1 object, all arrays beginning with T.

        x, y, vx, vy, anchor_x, anchor_y, gust, radius (T, 1): pixels and pixels a frame; shape str, visible bool (T, 1).
        """
        rng = np.random.default_rng(seed)
        gust = math.exp(rng.uniform(math.log(self.gusts[0]), math.log(self.gusts[1])))
        anchor = 32 + rng.uniform(-5, 5, 2)
        place, speed = anchor.copy(), np.zeros(2)
        path = []
        for step in range(SETTLING + self.frames):
            speed = (1 - DRAG) * speed - PULL * (place - anchor) + gust * rng.standard_normal(2)
            place = place + speed
            if step >= SETTLING:
                path.append(np.concatenate([place, speed]))
        scale, steps = self.size / 64, self.frames
        x, y, vx, vy = (np.array(path) * scale).T[:, :, None]
        radius = rng.uniform(3.5, 5.5) * scale
        colour = 255 * np.array(
            colorsys.hsv_to_rgb(rng.uniform(*self.hues), rng.uniform(0.55, 0.9), rng.uniform(0.75, 1))
        )
        frames = self._draw(np.concatenate([x, y], 1), radius, colour, gust, rng)
        same = {"anchor_x": anchor[0] * scale, "anchor_y": anchor[1] * scale, "gust": gust * scale, "radius": radius}
        states = {"x": x, "y": y, "vx": vx, "vy": vy} | {name: np.full((steps, 1), of) for name, of in same.items()}
        states |= {"visible": np.ones((steps, 1), bool), "shape": np.full((steps, 1), self.shape)}
        return Clip(name=f"buoy-{seed}", frames=frames, fps=float(self.fps), states=states)

    def _draw(
        self, places: np.ndarray, radius: float, colour: np.ndarray, gust: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Frames uint8 (T, H, W, 3) of an object at places (T, 2), edges smooth."""
        windy = np.clip(math.log(gust / CALM[0]) / math.log(CALM[1] / CALM[0]), 0, 1)
        brightness = DARK + (BRIGHT - DARK) * windy
        rows, columns = np.mgrid[: self.size, : self.size] + 0.5
        sky = brightness + 10 * (rows / self.size - 0.5)
        if self.sky == "striped":
            sky = sky + 25 * np.sign(np.sin(2 * np.pi * (columns / self.size * 6 + rng.uniform())))
        tint = np.array([0.85, 0.95, 1.1])
        away = np.abs(np.stack([columns, rows]) - places[:, :, None, None])
        distance = np.hypot(*away.transpose(1, 0, 2, 3)) if self.shape == "ball" else away.max(1) + 0.11 * radius
        covered = np.clip(radius + 0.5 - distance, 0, 1)[..., None]
        picture = sky[None, :, :, None] * tint * (1 - covered) + colour * covered
        return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


class Law(NamedTuple):
    """What comes, given the true state: of each of H steps, independent along both axes."""

    mean: np.ndarray  # (H, 2) pixels
    std: np.ndarray  # (H, 2) pixels


def law(clip: Clip, at: int, horizon: int) -> Law:
    """The law of the place at frames at + 1 .. at + horizon, given the state at frame `at`."""
    step = np.array([[1 - PULL, 1 - DRAG], [-PULL, 1 - DRAG]])  # of (place - anchor, speed)
    states = clip.states
    anchor = np.array([states["anchor_x"][at, 0], states["anchor_y"][at, 0]])
    mean = np.array([[states["x"][at, 0], states["y"][at, 0]] - anchor, [states["vx"][at, 0], states["vy"][at, 0]]])
    covariance, gusts = np.zeros((2, 2)), np.full((2, 2), states["gust"][at, 0] ** 2)
    means, stds = [], []
    for _ in range(horizon):
        mean, covariance = step @ mean, step @ covariance @ step.T + gusts
        means.append(mean[0] + anchor)
        stds.append(np.full(2, math.sqrt(covariance[0, 0])))
    return Law(np.array(means), np.array(stds))
