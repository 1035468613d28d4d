"""Which windows a training step sees: a pure function of (seed, step, rank), so that a resumed run needs no state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foretell.errors import ConfigError, DataError

FEISTEL_ROUNDS = 6


class WindowSampler:
    """Every window of every clip once an epoch, in an order drawn from the seed.

    A window is `window` frames, `stride` apart, from any start at which it fits: a clip weighs as much as it has
    starts, each start is equally likely. The order of an epoch is a pseudo-random permutation that can be asked at
    any place (`permute`), so nothing is stored or replayed however many windows there are. Ranks take disjoint
    places of the same order; with batch x world_size unchanged, the same windows are seen on any number of ranks.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        window: int,
        stride: int = 1,
        batch: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """`lengths`: frames of every clip. Raises DataError if no clip is long enough, ConfigError for bad settings."""
        if min(window, stride, batch, world_size) < 1 or not 0 <= rank < world_size:
            raise ConfigError(
                f"sampler: got window {window}, stride {stride}, batch {batch}, rank {rank} of {world_size};"
                " expected all of them 1 or more, and the rank below the number of ranks"
            )
        self.batch, self.seed, self.rank, self.world_size = batch, seed, rank, world_size
        self.span = (window - 1) * stride + 1
        """Frames from the first to the last of a window, both counted."""
        starts = np.maximum(0, np.asarray(lengths, np.int64) - self.span + 1)
        self.too_short = int((starts == 0).sum())
        """Clips that no window fits into; they are left out."""
        self.windows = int(starts.sum())
        """Windows of an epoch."""
        self._ends = np.cumsum(starts)
        self._starts = starts
        if not self.windows:
            longest = max(lengths, default=0)
            raise DataError(
                f"no clip is long enough: a window spans {self.span} frames, the longest of {len(lengths)} clips has"
                f" {longest}; take a shorter window, a smaller stride, a higher fps, or longer videos"
            )

    def at(self, step: int) -> list[tuple[int, int]]:
        """The `batch` windows of a training step on this rank: (clip, first frame)."""
        first = (step * self.world_size + self.rank) * self.batch
        places = range(first, first + self.batch)
        epochs = np.array([place // self.windows for place in places], np.uint64)
        indices = np.array([place % self.windows for place in places], np.uint64)
        chosen = permute(indices, self.windows, keys=_mix(epochs + _mix(np.uint64(self.seed % 2**64))))
        clips = np.searchsorted(self._ends, chosen, side="right")
        first_frames = chosen - (self._ends - self._starts)[clips]
        return [(int(clip), int(frame)) for clip, frame in zip(clips, first_frames, strict=True)]


def permute(indices: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """Where each index of 0..size-1 goes under the permutation that its key names: int64, like `indices` in shape.

    A Feistel network over the next even power of two (each round is invertible whatever its mixing function is),
    walked on until the value lies below `size` (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002).
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    values = indices.astype(np.uint64)
    outside = np.ones(values.shape, bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & low
        for turn in range(FEISTEL_ROUNDS):
            left, right = right, left ^ (_mix(right ^ _mix(keys[outside] + np.uint64(turn))) & low)
        values[outside] = (left << half) | right
        outside = values >= size
    return values.astype(np.int64)


def _mix(values: np.ndarray | np.uint64) -> np.ndarray:
    """SplitMix64 (Steele, Lea, Flood 2014): every bit of the result depends on every bit of the value."""
    mixed = np.atleast_1d(np.asarray(values, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)  # wraps, as it should
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
