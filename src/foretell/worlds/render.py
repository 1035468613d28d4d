"""Drawing by signed distance: each pixel is covered as far as the distance to the edge says, so motion below a pixel shows.

All frames of an episode are drawn at once: every object only inside the square around it, its pixels for all T frames in one array.
"""

from __future__ import annotations

import math

import numpy as np

from foretell.worlds.scenes import BALL, POLYGONS, Scene, reach


def coverage(shape: str, radius: float, dx: np.ndarray, dy: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """How much of each pixel a shape covers, 0..1: half at an edge that runs through the pixel's centre.

    dx, dy: pixel centres relative to the shape's centre, in pixels, broadcast together to (T, H, W); angle (T, 1, 1).
    """
    if shape == BALL:
        return np.clip(0.5 + radius - np.hypot(dx, dy), 0, 1)
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    corners = POLYGONS[shape] * radius
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.hypot(*edges.T)[:, None]
    offsets = (normals * corners).sum(axis=1)
    distance = np.max([nx * u + ny * v - d for (nx, ny), d in zip(normals, offsets, strict=True)], axis=0)
    return np.clip(0.5 - distance, 0, 1)


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
    steps, count = x.shape
    scale = size / 64
    pad = math.ceil(2 * reach("triangle", scene.things[0].radius) * scale)
    pad = max(pad, math.ceil(max(2 * reach(name, thing.radius) for thing in scene.things for name in POLYGONS) * scale))
    backdrop = draw_backdrop(scene, size).astype(np.float32) * 255
    canvas = np.empty((steps, size + 2 * pad, size + 2 * pad, 3), np.uint8)
    canvas[:, pad : pad + size, pad : pad + size] = np.rint(backdrop)
    for n in range(count):
        for name in np.unique(shape[:, n]):
            when = np.flatnonzero((shape[:, n] == name) & visible[:, n])
            if len(when):
                thing = scene.things[n]
                _paint(
                    canvas,
                    pad,
                    when,
                    str(name),
                    thing.radius * scale,
                    thing.colour,
                    x[when, n],
                    y[when, n],
                    angle[when, n],
                )
    return np.ascontiguousarray(canvas[:, pad : pad + size, pad : pad + size])


def _paint(
    canvas: np.ndarray, pad: int, when: np.ndarray, shape: str, radius: float, colour: tuple[float, float, float],
    x: np.ndarray, y: np.ndarray, angle: np.ndarray,
) -> None:  # fmt: skip
    """Paint one shape into the frames `when` of the padded canvas, in place."""
    half = math.ceil(reach(shape, radius)) + 1
    window = np.arange(-half, half + 1)
    rows, columns = np.floor(y).astype(int)[:, None] + window, np.floor(x).astype(int)[:, None] + window
    dx = ((columns + 0.5) - x[:, None]).astype(np.float32)[:, None, :]
    dy = ((rows + 0.5) - y[:, None]).astype(np.float32)[:, :, None]
    turn = angle.astype(np.float32)[:, None, None]
    covered = coverage(shape, radius, dx, dy, turn)[..., None]
    rim = 1 - coverage(shape, 0.86 * radius, dx, dy, turn)[..., None]
    paint = 255 * np.array(colour, np.float32) * (1 - 0.25 * rim)
    at = (when[:, None, None], rows[:, :, None] + pad, columns[:, None, :] + pad)
    canvas[at] = np.rint(canvas[at] * (1 - covered) + paint * covered)


def _smooth(grid: np.ndarray, size: int) -> np.ndarray:
    """Values on a coarse grid (K, K), interpolated to (size, size)."""
    place = np.linspace(0, len(grid) - 1.000001, size)
    low = place.astype(int)
    share = place - low
    rows = grid[low] * (1 - share)[:, None] + grid[low + 1] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share
