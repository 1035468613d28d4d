"""A referee who looks at pictures of a thrown ball and says what is in them: how many things, where, how large, how round,
what colour, and whether that can happen.

It is fixed: it learns from no model that it judges, and knows the world only by its law: a quiet view that is the same all
along a row, an invisible box with a level floor, and one thing in flight. Its own error on real frames is measured and
stands beside every figure (bench/results/hallucination.json). Lengths are in pixels of a 64 px frame, y downward.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ShapeError
from foretell.worlds.scenes import WALL_LEFT, WALL_RIGHT, WALL_TOP

SIDE = 64
"""Pixels of a side of the frames that it reads."""
APART = 20.0
"""Grey levels from which on a pixel may differ from the backdrop by more than texture."""
SHARE = 0.35
"""And it is of a thing from this share of the seen thing's contrast on: a thing that fades further is gone."""
LEAST = 25
"""Pixels of the smallest thing that counts; a ball of the physics world has 150 and more."""
CORNERED = 0.2
"""Of `corners`, from which on a thing is not round: a disc has 0, a square 0.43 (drawn, 0.03 and 0.33)."""
FASTEST = 5.0
"""Pixels a frame; the fastest of 300 throws made 3.2."""
SLACK = 1.5
"""Pixels that a thing may be inside a wall or the floor: what the referee's own error, and a soft edge, may do."""
OTHER = 0.5
"""Share of the contrast by which a colour must differ to be another one."""
RISE = 0.2
"""Share by which energy may rise."""
EVENTS = ("count", "jump", "wall", "colour", "shape", "energy")
_AT_ONCE = 256  # frames, so that memory stays small

Array = NDArray[np.float32]


class Stage(NamedTuple):
    """What B clips look like without their thing, and how it stands out."""

    backdrop: Array  # (B, H, W, 3) grey levels
    contrast: Array  # (B,) grey levels by which the seen thing differs from it
    floor: Array  # (B,) y of the floor


class Sightings(NamedTuple):
    """What the referee sees in frames (B, T). All but `things` speak of the largest thing, NaN where there is none."""

    things: NDArray[np.int64]  # (B, T)
    places: Array  # (B, T, 2): (x, y)
    radius: Array  # (B, T), of the disc of that area
    corners: Array  # (B, T), 0 for a disc
    colour: Array  # (B, T, 3) grey levels, where it stands out more than on average
    strength: Array  # (B, T), its contrast over that of the seen one


def set_stage(seen: np.ndarray) -> Stage:
    """From seen frames uint8 (B, T, 64, 64, 3) what is behind the thing. Raises ShapeError.

    A ball that moves less than its own width leaves no pixel to a median over time; but every row has the same colour
    along most of its length. So first the median of each row, then, where a pixel was free at some time, its own mean.
    """
    _check(seen)
    backdrop = np.empty((len(seen), SIDE, SIDE, 3), np.float32)
    contrast, floor = (np.empty(len(seen), np.float32) for _ in range(2))
    for n, clip in enumerate(seen.astype(np.float32)):
        rows = np.median(clip, axis=(0, 2))[:, None]
        away = np.abs(clip - rows).max(-1)
        free = (_widest(_widest((away > APART).astype(np.int16))) == 0)[..., None]
        times = free.sum(0)
        backdrop[n] = np.where(times > 0, (clip * free).sum(0) / np.maximum(times, 1), rows)
        away = np.abs(clip - backdrop[n]).max(-1)
        contrast[n] = np.percentile(away[away > APART], 75) if (away > APART).any() else 2 * APART
        floor[n] = np.abs(np.diff(rows[SIDE // 2 :, 0], axis=0)).max(-1).argmax() + SIDE // 2 + 1
    return Stage(backdrop, contrast, floor)


def look(frames: np.ndarray, stage: Stage) -> Sightings:
    """What is to be seen in frames uint8 (B, T, 64, 64, 3), before the stage of each clip. Raises ShapeError."""
    _check(frames)
    if len(frames) != len(stage.contrast):
        raise ShapeError(f"referee: got {len(frames)} clips of frames and {len(stage.contrast)} stages")
    of_clips = max(1, _AT_ONCE // frames.shape[1])
    parts = [_look(frames[at : at + of_clips], at, stage) for at in range(0, len(frames), of_clips)]
    return Sightings(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def impossible(before: Sightings, after: Sightings, stage: Stage, gravity: float) -> dict[str, NDArray[np.bool_]]:
    """What cannot happen in the steps `after` (B, H) that follow the seen ones `before` (B, T): each of EVENTS -> (B, H).

    count: not one thing, as before. jump: farther than FASTEST in a step. wall: in a wall or the floor. colour, shape:
    another one. energy: up by more than RISE of that of the last seen steps, by `gravity` in pixels per frame squared.
    """
    radius = _middle(before.radius)
    colour = _middle(before.colour)
    path = np.concatenate([before.places[:, -3:], after.places], axis=1)
    x, y = after.places[..., 0], after.places[..., 1]
    room = radius - SLACK
    outside = (x < WALL_LEFT + room) | (x > WALL_RIGHT - room) | (y < WALL_TOP + room)
    energy = _energy(path, gravity)
    return {
        "count": after.things != np.round(np.median(before.things, axis=1, keepdims=True)),
        "jump": np.linalg.norm(np.diff(path[:, 2:], axis=1), axis=-1) > FASTEST,
        "wall": outside | (y > stage.floor[:, None] - room),
        "colour": np.abs(after.colour - colour).max(-1) > OTHER * stage.contrast[:, None],
        "shape": (after.corners > CORNERED) & (_middle(before.corners) <= CORNERED),
        "energy": energy[:, 1:] > (1 + RISE) * energy[:, :1],
    }


def _middle(values: Array) -> Array:
    """The median over time, (B, 1, ...), of the frames in which there is a thing; NaN where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        middle: Array = np.nanmedian(values, axis=1, keepdims=True)
    return middle


def _energy(path: Array, gravity: float) -> Array:
    """Energy (B, H + 1) over that of rest at the bottom of the frame, from places (B, H + 3, 2); speed is that of two steps."""
    speed = (path[:, 2:] - path[:, :-2]) / 2
    energy: Array = 0.5 * np.square(speed).sum(-1) + gravity * (SIDE - path[:, 1:-1, 1])
    return energy


def _look(frames: np.ndarray, at: int, stage: Stage) -> Sightings:
    """A part of the clips, those from number `at` on."""
    clips = slice(at, at + len(frames))
    shape = frames.shape[:2]
    pictures = frames.reshape(-1, SIDE, SIDE, 3).astype(np.float32)
    backdrop = np.repeat(stage.backdrop[clips], shape[1], axis=0)
    contrast = np.repeat(stage.contrast[clips], shape[1])[:, None, None]
    away = np.abs(pictures - backdrop).max(-1)
    count, thing = _largest(away > np.maximum(SHARE * contrast, APART))

    area = thing.sum((1, 2))
    there = np.where(area > 0, 1.0, np.nan).astype(np.float32)
    weight = thing * np.minimum(away / contrast, 1)
    mass = np.maximum(weight.sum((1, 2)), 1e-6)
    centre = np.arange(SIDE, dtype=np.float32) + 0.5
    x = (weight.sum(1) * centre).sum(1) / mass
    y = (weight.sum(2) * centre).sum(1) / mass
    around = (centre - x[:, None])[:, None, :] + 1j * (centre - y[:, None])[:, :, None]
    harmonics = [
        np.abs((weight * around**k).sum((1, 2))) / np.maximum((weight * np.abs(around) ** k).sum((1, 2)), 1e-6)
        for k in (2, 3, 4)
    ]
    core = thing & (away >= ((away * thing).sum((1, 2)) / np.maximum(area, 1))[:, None, None])
    inside = np.maximum(core.sum((1, 2)), 1)
    colour = (pictures * core[..., None]).sum((1, 2)) / inside[:, None]
    strength = (away * core).sum((1, 2)) / inside / contrast[:, 0, 0]
    found = (
        np.stack([x, y], 1) * there[:, None],
        np.sqrt(area / np.pi) * there,
        np.max(harmonics, axis=0) * there,
        colour * there[:, None],
        strength * there,
    )
    return Sightings(count.reshape(shape), *(v.reshape(*shape, *v.shape[1:]).astype(np.float32) for v in found))


def _largest(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """How many things there are in masks (N, H, W), those less than three pixels apart as one, and the mask of the largest."""
    wide = _widest(mask.astype(np.int16))
    names = np.arange(1, mask[0].size + 1, dtype=np.int16).reshape(mask[0].shape) * wide
    while True:  # the highest name spreads through each thing
        spread = _widest(names) * wide
        if np.array_equal(spread, names):
            break
        names = spread
    own = names.astype(np.int64) * mask
    offset = np.arange(len(mask))[:, None] * (mask[0].size + 1)
    areas = np.bincount((own.reshape(len(mask), -1) + offset).ravel(), minlength=len(mask) * (mask[0].size + 1))
    areas = areas.reshape(len(mask), -1)
    areas[:, 0] = 0
    areas[areas < LEAST] = 0
    best = areas.argmax(1)
    return (areas > 0).sum(1), (own == best[:, None, None]) & (best > 0)[:, None, None]


def _widest(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """Of each pixel of (N, H, W) the highest value of it and its eight neighbours."""
    rows = values.copy()
    np.maximum(rows[:, 1:], values[:, :-1], out=rows[:, 1:])
    np.maximum(rows[:, :-1], values[:, 1:], out=rows[:, :-1])
    both = rows.copy()
    np.maximum(both[:, :, 1:], rows[:, :, :-1], out=both[:, :, 1:])
    np.maximum(both[:, :, :-1], rows[:, :, 1:], out=both[:, :, :-1])
    return both


def _check(frames: np.ndarray) -> None:
    if frames.ndim != 5 or frames.shape[2:] != (SIDE, SIDE, 3) or not frames.shape[1]:
        raise ShapeError(f"referee: got frames {frames.shape}, expected (B, T, {SIDE}, {SIDE}, 3)")
