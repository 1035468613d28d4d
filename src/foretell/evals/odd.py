"""What was never seen in training: clips spoilt or changed in one stated way each, for asking whether a model notices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
NOISE = 0.05
"""Deviation of each pixel, as a share of white."""
BLUR = (1, 2, 1)
"""Weights of neighbours; twice over, in both directions: a deviation of a pixel."""


def noisy(frames: Frames, rng: np.random.Generator) -> Frames:
    """Grain of a camera in the dark, uint8 (T, H, W, 3) as given."""
    grain = rng.standard_normal(frames.shape, np.float32) * (255 * NOISE)
    return np.clip(np.rint(frames + grain), 0, 255).astype(np.uint8)


def blurred(frames: Frames, rng: np.random.Generator) -> Frames:
    """Out of focus, by about a pixel."""
    soft: NDArray[np.float64] = frames.astype(np.float64)
    for axis in (1, 2, 1, 2):
        before, after = np.roll(soft, 1, axis), np.roll(soft, -1, axis)
        edge = [slice(None)] * 4
        edge[axis] = slice(0, 1)
        before[tuple(edge)] = soft[tuple(edge)]
        edge[axis] = slice(-1, None)
        after[tuple(edge)] = soft[tuple(edge)]
        soft = (BLUR[0] * before + BLUR[1] * soft + BLUR[2] * after) / sum(BLUR)
    return np.rint(soft).astype(np.uint8)


def frozen(frames: Frames, rng: np.random.Generator) -> Frames:
    """A camera that shows its first picture again and again."""
    return np.repeat(frames[:1], len(frames), axis=0)


SPOILT: dict[str, Callable[[Frames, np.random.Generator], Frames]] = {"noise": noisy, "blur": blurred, "frozen": frozen}
"""Kind -> what it does to frames; the true states stay what they were."""
