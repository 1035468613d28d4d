"""Source frames at any times -> model steps at one rate. Pure bookkeeping: knows time stamps, not files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

import numpy as np

STEPS_PER_CHUNK = 64
BYTES_PER_CHUNK = 2**24  # large views come in shorter chunks
TOLERANCE_STEPS = 0.25  # containers round time stamps to their own clock; a quarter of a step is no event

Held = TypeVar("Held")


class Chunk(NamedTuple):
    """A stretch of a video as the model sees it, with the source frames that fall into it."""

    frames: np.ndarray
    """uint8 (T, H, W, 3): one frame for every step, in order, none left out."""
    seconds: np.ndarray
    """float64 (M,): time stamp of every source frame decoded in this stretch, the video's first being 0."""
    steps: np.ndarray
    """int64 (M,): the step each of those source frames belongs to, counted from the start of the video."""


def step_of(seconds: float, fps: float) -> int:
    """The step a source frame belongs to: the last one whose time, less a quarter step, has come."""
    return math.floor(seconds * fps + TOLERANCE_STEPS)


class Resampler(Generic[Held]):
    """Turn (seconds, frame) pairs, in order of time, into Chunks of at most 64 steps at `fps`.

    Step k shows the last source frame with seconds <= (k + 1/4) / fps. Where the source is slower or has a gap, the
    frame before stands still; where it is faster, only the frames that are shown are painted. All source frames of a
    step come in the chunk that holds this step.
    """

    def __init__(self, fps: float, paint: Callable[[Held], np.ndarray]) -> None:
        self.fps = fps
        self._paint = paint
        self._held: Held | None = None  # the newest source frame, until it is painted
        self._painted: np.ndarray | None = None  # the newest painted one
        self._shown: np.ndarray | None = None  # room for the steps of a chunk
        self._room = STEPS_PER_CHUNK
        self._filled = 0
        self._last_seconds = 0.0
        self._next = 0  # the step that follows those shown
        self._seconds: list[float] = []
        self._steps: list[int] = []

    def run(self, decoded: Iterable[tuple[float, Held]]) -> Iterator[Chunk]:
        """Chunks of everything `decoded` yields. If it breaks, what came before is yielded first, then the error."""
        broken: Exception | None = None
        iterator = iter(decoded)
        while True:
            try:
                pair = next(iterator, None)
            except Exception as error:  # raised again below, after the last good chunk
                broken, pair = error, None
            if pair is None:
                break
            yield from self._take(*pair)
        if self._steps:
            yield from self._show_until(self._steps[-1] + 1)
        if self._filled:
            yield self._flush()
        if broken is not None:
            raise broken

    def _take(self, seconds: float, frame: Held) -> Iterator[Chunk]:
        unseen = math.ceil(seconds * self.fps - TOLERANCE_STEPS)  # the first step that may show this frame
        if self._steps or self._next:
            yield from self._show_until(unseen)
        self._held = frame
        following = seconds + (seconds - self._last_seconds)
        if following * self.fps > unseen + TOLERANCE_STEPS:
            self._paint_held()  # it will most likely be shown: cheaper now than when the next has left it cold
        self._last_seconds = seconds
        self._seconds.append(seconds)
        self._steps.append(step_of(seconds, self.fps))

    def _show_until(self, step: int) -> Iterator[Chunk]:
        while self._next < step:
            # Safe to close the chunk only here: every later source frame belongs to step `self._next` or after.
            if self._filled == self._room:
                yield self._flush()
            self._show(self._paint_held())
            self._next += 1

    def _paint_held(self) -> np.ndarray:
        if self._held is not None:
            self._painted, self._held = self._paint(self._held), None
        assert self._painted is not None
        return self._painted

    def _show(self, pixels: np.ndarray) -> None:
        if self._shown is None:
            self._room = max(1, min(STEPS_PER_CHUNK, BYTES_PER_CHUNK // pixels.nbytes))
            self._shown = np.empty((self._room, *pixels.shape), np.uint8)
        self._shown[self._filled] = pixels
        self._filled += 1

    def _flush(self) -> Chunk:
        assert self._shown is not None
        inside = sum(step < self._next for step in self._steps)
        chunk = Chunk(
            frames=self._shown[: self._filled],
            seconds=np.array(self._seconds[:inside], np.float64),
            steps=np.array(self._steps[:inside], np.int64),
        )
        self._shown, self._filled = None, 0
        del self._seconds[:inside], self._steps[:inside]
        return chunk
