"""Discs and convex outlines painted into one picture, by signed distance, so that the slightest motion shows."""

from __future__ import annotations

import math

import numpy as np

Colour = tuple[int, int, int]


def paint_disc(picture: np.ndarray, x: float, y: float, radius: float, colour: Colour) -> None:
    """Paint a disc, in place, into a picture (H, W, 3), float or uint8; lengths in pixels, y downward."""
    window = _window(picture, x - radius, y - radius, x + radius, y + radius)
    if window is None:
        return
    rows, columns = window
    dx, dy = np.arange(columns.start, columns.stop) + 0.5 - x, np.arange(rows.start, rows.stop)[:, None] + 0.5 - y
    far = np.hypot(dx, dy)
    wide = np.abs(dx) + np.abs(dy)  # a pixel is a square: this is how wide it is towards the edge, times `far`
    _blend(picture, window, np.clip(0.5 + (radius - far) * far / np.maximum(wide, 1e-6), 0, 1), colour)


def paint_outline(picture: np.ndarray, corners: np.ndarray, colour: Colour) -> None:
    """Paint a convex outline of corners (K, 2), in place, into a picture (H, W, 3), float or uint8."""
    window = _window(picture, *corners.min(0), *corners.max(0))
    if window is None:
        return
    rows, columns = window
    across, down = np.arange(columns.start, columns.stop) + 0.5, np.arange(rows.start, rows.stop) + 0.5
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([edges[:, 1], -edges[:, 0]], 1) / np.hypot(*edges.T)[:, None]
    normals *= np.sign(np.sum((corners - corners.mean(0)) * normals, 1))[:, None]  # outward, whichever way they turn
    offset = np.sum(normals * corners, 1)[:, None, None]
    beyond = normals[:, 0, None, None] * across + normals[:, 1, None, None] * down[:, None] - offset
    beyond /= np.abs(normals).sum(1)[:, None, None]
    _blend(picture, window, np.clip(0.5 - beyond.max(0), 0, 1), colour)


def _window(picture: np.ndarray, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice] | None:
    """Rows and columns of the picture that a shape between these may touch; None where it is wholly outside."""
    height, width = picture.shape[:2]
    rows = slice(max(math.floor(top) - 1, 0), min(math.ceil(bottom) + 1, height))
    columns = slice(max(math.floor(left) - 1, 0), min(math.ceil(right) + 1, width))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _blend(picture: np.ndarray, window: tuple[slice, slice], covered: np.ndarray, colour: Colour) -> None:
    share = covered[..., None]
    mixed = picture[window] * (1 - share) + np.array(colour) * share
    picture[window] = np.rint(mixed) if picture.dtype == np.uint8 else mixed
