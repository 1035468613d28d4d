"""Drawing by signed distance: how far a pixel is covered follows from its distance to the edge, so that the slightest
motion shows.

All frames of an episode are drawn at once, each object only in the square around it: one array holds it for all T.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from foretell.worlds.scenes import BALL, POLYGONS, SHAPES, Scene, reach

RIM, RIM_DARKNESS = 0.84, 0.3
"""The rim begins at this share of the radius, and is darker by this share."""
BAND, BAND_DARKNESS = 0.25, 0.2
"""Half the width of a ball's band, as a share of its radius, and how much darker it is."""


def coverage(shape: str, radius: float, dx: np.ndarray, dy: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """How much of each pixel a shape covers, 0..1: half where an edge runs through the pixel's centre.

    dx, dy: pixel centres relative to the shape's centre, in pixels, broadcast together to (T, H, W); angle (T, 1, 1).
    A pixel is a square, so it is |nx| + |ny| wide towards an edge of normal (nx, ny); with one width for all
    directions, edges near the diagonal would be drawn up to 0.05 px from where they are.
    """
    if shape == BALL:
        far = np.hypot(dx, dy)
        return np.clip(0.5 + (radius - far) * far / np.maximum(np.abs(dx) + np.abs(dy), 1e-6), 0, 1)
    corners = POLYGONS[shape] * radius
    edges = np.roll(corners, -1, axis=0) - corners
    directions = np.arctan2(-edges[:, 0], edges[:, 1])
    beyond = [
        (cos * dx + sin * dy - offset) / (np.abs(cos) + np.abs(sin))
        for cos, sin, offset in (
            (np.cos(angle + turn), np.sin(angle + turn), np.cos(turn) * x + np.sin(turn) * y)
            for turn, (x, y) in zip(directions.astype(angle.dtype), corners, strict=True)
        )
    ]
    return np.clip(0.5 - np.max(beyond, axis=0), 0, 1)


def draw_backdrop(scene: Scene, size: int) -> np.ndarray:
    """The scene without its objects, float (H, W, 3) in 0..1: a gentle gradient, faint texture, the floor."""
    scale = size / 64
    centre = np.arange(size) + 0.5
    down = (centre / size)[:, None, None]
    top, bottom = scene.sky
    picture = top * (1 - down) + bottom * down
    floor = (scene.floor + scene.slope * (centre / scale - 32)) * scale
    depth = (centre[:, None] - floor[None, :]) / math.hypot(1, scene.slope)
    ground = np.clip(depth + 0.5, 0, 1)[..., None]
    picture = picture * (1 - ground) + scene.ground * ground
    return np.clip(picture + 0.02 * _smooth(scene.texture, size)[..., None], 0, 1)


def draw(
    scene: Scene, size: int, x: np.ndarray, y: np.ndarray, angle: np.ndarray, shape: np.ndarray, visible: np.ndarray
) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) of a scene whose N objects move as told; x, y in pixels, all arrays (T, N)."""
    scale = size / 64
    pad = max(_half(name, thing.radius * scale) for thing in scene.things for name in SHAPES) + 2
    inner = slice(pad, pad + size)
    canvas = np.empty((len(x), size + 2 * pad, size + 2 * pad, 3), np.uint8)
    canvas[:, inner, inner] = np.rint(255 * draw_backdrop(scene, size))
    for n, thing in enumerate(scene.things):
        for name in np.unique(shape[:, n]):
            when = np.flatnonzero((shape[:, n] == name) & visible[:, n])
            sprite = _Sprite(str(name), thing.radius * scale, thing.colour)
            _paint(canvas, pad, when, sprite, x[when, n], y[when, n], angle[when, n])
    return np.ascontiguousarray(canvas[:, inner, inner])


class _Sprite(NamedTuple):
    shape: str
    radius: float
    colour: tuple[float, float, float]


def _paint(
    canvas: np.ndarray, pad: int, when: np.ndarray, sprite: _Sprite, x: np.ndarray, y: np.ndarray, angle: np.ndarray
) -> None:
    """Paint one object, in place, into the frames `when` (T,) of a canvas padded on all sides; x, y, angle (T,)."""
    window = np.arange(-_half(sprite.shape, sprite.radius), _half(sprite.shape, sprite.radius) + 1)
    rows, columns = np.floor(y).astype(int)[:, None] + window, np.floor(x).astype(int)[:, None] + window
    dx = (columns + 0.5 - x[:, None]).astype(np.float32)[:, None, :]
    dy = (rows + 0.5 - y[:, None]).astype(np.float32)[:, :, None]
    turn = angle.astype(np.float32)[:, None, None]
    covered = coverage(sprite.shape, sprite.radius, dx, dy, turn)[..., None]
    paint = 255 * np.array(sprite.colour, np.float32) * _shade(sprite, dx, dy, turn)[..., None]
    at = (when[:, None, None], rows[:, :, None] + pad, columns[:, None, :] + pad)
    canvas[at] = np.rint(canvas[at] * (1 - covered) + paint * covered)


def _shade(sprite: _Sprite, dx: np.ndarray, dy: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Brightness 0..1 (T, H, W): a darker rim, and across a ball a band that shows how it rolls."""
    shade = 1 - RIM_DARKNESS * (1 - coverage(sprite.shape, RIM * sprite.radius, dx, dy, turn))
    if sprite.shape == BALL:
        across = np.abs(np.cos(turn) * dy - np.sin(turn) * dx)
        shade = shade * (1 - BAND_DARKNESS * np.clip(0.5 + BAND * sprite.radius - across, 0, 1))
    return shade


def _half(shape: str, radius: float) -> int:
    """Pixels from the centre's pixel to the last one that a shape may touch."""
    return math.ceil(reach(shape, radius)) + 1


def _smooth(grid: np.ndarray, size: int) -> np.ndarray:
    """Values on a coarse grid (K, K), interpolated to (size, size)."""
    place = np.linspace(0, len(grid) - 1.000001, size)
    low = place.astype(int)
    share = place - low
    rows = grid[low] * (1 - share)[:, None] + grid[low + 1] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share
