"""What of a scene can be seen at each step, in numbers: for truth tables, and for who is told the states instead of frames."""

from __future__ import annotations

import numpy as np

from foretell.worlds.scenes import Block, Scene, reach

EDGE = 1.0
"""Units by which a screen must stand over: the edges of both are half a pixel soft."""


def sight(scene: Scene, path: dict[str, np.ndarray], fps: int) -> dict[str, np.ndarray]:
    """States of what screens hide, in units of 1/64 of the frame, for the motion `path` (worlds/dynamics.py).

    covered bool (T, N): the object is wholly behind a screen. block_left, block_top, block_right float (T,): the first
    block's place, NaN where there is none, or none to be seen.
    """
    time = np.arange(len(path["x"])) / fps
    covered = np.zeros(path["x"].shape, bool)
    for n, thing in enumerate(scene.things):
        sizes = np.array([reach(str(shape), thing.radius) for shape in path["shape"][:, n]])
        x, y = path["x"][:, n], path["y"][:, n]
        covered[:, n] = _behind(scene, time, x - sizes, y - sizes, x + sizes, y + sizes)
    states = {"covered": covered}
    corners = _corners(scene.blocks[0]) if scene.blocks else np.full(4, np.nan)
    hidden = _behind(scene, time, *np.clip(corners, 0, 64))
    for name, value in zip(("left", "top", "right"), corners, strict=False):
        states[f"block_{name}"] = np.where(hidden, np.nan, value)
    return states


def _behind(
    scene: Scene,
    time: np.ndarray,
    left: np.ndarray | float,
    top: np.ndarray | float,
    right: np.ndarray | float,
    bottom: np.ndarray | float,
) -> np.ndarray:
    """bool (T,): whether the box lies wholly behind one screen; its foot stands on the floor, and a screen's lower."""
    hidden = np.zeros(len(time), bool)
    for screen in scene.screens:
        across = (np.asarray(left) >= screen.left + EDGE) & (np.asarray(right) <= screen.right - EDGE)
        hidden |= across & (top >= screen.bottom - screen.height(time) + EDGE) & (np.asarray(bottom) <= screen.bottom)
    return hidden


def _corners(block: Block) -> np.ndarray:
    """Left, top, right, bottom."""
    corners = np.array(block.corners)
    return np.concatenate([corners.min(0), corners.max(0)])
