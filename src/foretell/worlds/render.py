"""Drawing by signed distance: how far a pixel is covered follows from its distance to the edge, so that the slightest
motion shows.

All frames of an episode are drawn at once, each object only in the square around it: one array holds it for all T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foretell.worlds.scenes import BALL, POLYGONS, SHAPES, Scene, Screen, reach

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


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the camera sees a scene, beyond what is in it."""

    texture: float = 0.02
    """Deviation of the background's brightness, a share of white."""
    shadows: float = 0.0
    """How much darker the ground is right under an object that rests on it, a share; less the higher the object."""
    noise: float = 0.0
    """Deviation of every pixel's brightness from frame to frame, a share of white."""
    jitter: float = 0.0
    """Deviation of the camera's place from frame to frame, in units of 1/64 of the frame."""
    seed: int = 0
    """Of noise and jitter."""


PLAIN = Look()


def draw_backdrop(scene: Scene, size: int, look: Look = PLAIN) -> np.ndarray:
    """The scene without its objects, float (H, W, 3) in 0..1: a gentle gradient, texture, the floor, the blocks."""
    scale = size / 64
    centre = np.arange(size) + 0.5
    down = (centre / size)[:, None, None]
    top, bottom = scene.sky
    picture = top * (1 - down) + bottom * down
    floor = (scene.floor + scene.slope * (centre / scale - 32)) * scale
    depth = (centre[:, None] - floor[None, :]) / math.hypot(1, scene.slope)
    ground = np.clip(depth + 0.5, 0, 1)[..., None]
    picture = picture * (1 - ground) + scene.ground * ground
    picture = picture + look.texture * _smooth(scene.texture, size)[..., None]
    for block in scene.blocks:
        covered = _inside(np.array(block.corners) * scale, centre)[..., None]
        picture = picture * (1 - covered) + np.array(block.colour) * covered
    return np.clip(picture, 0, 1)


def draw(
    scene: Scene,
    size: int,
    x: np.ndarray,
    y: np.ndarray,
    angle: np.ndarray,
    shape: np.ndarray,
    visible: np.ndarray,
    *,
    fps: int = 10,
    look: Look = PLAIN,
) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) of a scene whose N objects move as told; x, y in pixels, all arrays (T, N).

    `fps` is for the screens, which rise and fall by the second.
    """
    scale = size / 64
    pad = max([_half(name, thing.radius * scale) for thing in scene.things for name in SHAPES], default=0) + 2
    inner = slice(pad, pad + size)
    canvas = np.empty((len(x), size + 2 * pad, size + 2 * pad, 3), np.uint8)
    canvas[:, inner, inner] = np.rint(255 * draw_backdrop(scene, size, look))
    if look.shadows:
        _shade_ground(canvas[:, inner, inner], scene, look, x, y, visible)
    for n, thing in enumerate(scene.things):
        for name in np.unique(shape[:, n]):
            when = np.flatnonzero((shape[:, n] == name) & visible[:, n])
            sprite = _Sprite(str(name), thing.radius * scale, thing.colour)
            _paint(canvas, pad, when, sprite, x[when, n], y[when, n], angle[when, n])
    frames = np.ascontiguousarray(canvas[:, inner, inner])
    for screen in scene.screens:
        _paint_screen(frames, screen, np.arange(len(frames)) / fps)
    return through_the_camera(frames, look)


def _shade_ground(
    frames: np.ndarray, scene: Scene, look: Look, x: np.ndarray, y: np.ndarray, visible: np.ndarray
) -> None:
    """Darken, in place, the ground under each object: a soft patch that fades as the object rises. x, y (T, N) pixels."""
    scale = frames.shape[1] / 64
    centre = np.arange(frames.shape[1]) + 0.5
    below = (centre > scene.floor * scale)[:, None]
    depth = np.clip(1 - (centre - scene.floor * scale) / (4 * scale), 0, 1)[:, None]
    for n, thing in enumerate(scene.things):
        high = np.clip((scene.floor * scale - y[:, n]) / scale - thing.radius, 0, None)
        strength = visible[:, n] * look.shadows / (1 + high / 8)
        across = np.exp(-0.5 * ((centre - x[:, n, None]) / (thing.radius * scale)) ** 2)
        dark = strength[:, None, None] * across[:, None, :] * (below * depth)[None]
        frames[:] = np.rint(frames * (1 - dark[..., None]))


def _paint_screen(frames: np.ndarray, screen: Screen, time: np.ndarray) -> None:
    """Paint, in place, a screen with a darker rim over frames (T, H, W, 3) at `time` (T,) seconds."""
    scale = frames.shape[1] / 64
    centre = np.arange(frames.shape[1]) + 0.5

    def between(low: np.ndarray, high: float) -> np.ndarray:
        """How much of each pixel lies there: low (T, 1) -> (T, size)."""
        return np.clip(centre + 0.5 - low, 0, 1) * np.clip(high - centre + 0.5, 0, 1)

    top = ((screen.bottom - screen.height(time)) * scale)[:, None]
    up = (screen.height(time) > 0)[:, None, None]
    colour = 255 * np.array(screen.colour)
    for rim, shade in ((0.0, 1 - RIM_DARKNESS), (1.5 * scale, 1.0)):
        rows = between(top + rim, screen.bottom * scale)
        columns = between(np.full((1, 1), screen.left * scale + rim), screen.right * scale - rim)
        covered = (up * rows[:, :, None] * columns[:, None, :])[..., None]
        frames[:] = np.rint(frames * (1 - covered) + shade * colour * covered)


def through_the_camera(frames: np.ndarray, look: Look) -> np.ndarray:
    """Frames (T, H, W, 3) as a camera sees them that shakes a little, with noise; edges are repeated."""
    if not (look.noise or look.jitter):
        return frames
    rng = np.random.default_rng(look.seed)
    size = frames.shape[1]
    shaken = frames.astype(np.float32)
    for axis, away in enumerate(look.jitter * size / 64 * rng.standard_normal((2, len(frames))).astype(np.float32)):
        place = np.clip(np.arange(size) + away[:, None], 0, size - 1)
        low = np.minimum(place.astype(int), size - 2)
        share = np.expand_dims(place - low, (2, 3) if axis == 0 else (1, 3))
        low = np.expand_dims(low, (2, 3) if axis == 0 else (1, 3))
        near, far = (np.take_along_axis(shaken, index, axis + 1) for index in (low, low + 1))
        shaken = near * (1 - share) + far * share
    noisy = shaken + 255 * look.noise * rng.standard_normal(shaken.shape, np.float32)
    return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)


def _inside(corners: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """How much of each pixel a convex outline (K, 2) covers: (H, W) for pixel centres (H,) along both axes."""
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([edges[:, 1], -edges[:, 0]], 1) / np.hypot(*edges.T)[:, None]
    normals *= np.sign(np.sum((corners - corners.mean(0)) * normals, 1))[:, None]  # outward, whichever way they turn
    beyond = [
        (nx * (centre[None, :] - x) + ny * (centre[:, None] - y)) / (abs(nx) + abs(ny))
        for (nx, ny), (x, y) in zip(normals, corners, strict=True)
    ]
    return np.clip(0.5 - np.max(beyond, axis=0), 0, 1)


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
