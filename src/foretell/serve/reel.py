"""What the report can show of one video, gathered in one pass and in bounded memory: all of it, or its worst moments."""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

WHOLE_SECONDS = 60.0
WHOLE_BYTES = 64 << 20
WORST_MOMENTS = 3
SECONDS_BEFORE, SECONDS_AFTER = 4.0, 3.0


@dataclass(frozen=True, kw_only=True)
class Footage:
    """What was kept of one video of `length` steps."""

    steps: np.ndarray
    """int (K,), rising: the steps that were kept."""
    frames: np.ndarray
    """uint8 (K, H, W, 3)"""
    heat: np.ndarray
    """float32 (K, h, w), NaN where not scored"""
    peaks: tuple[int, ...]
    """Indices into K of the worst moments, the worst first; empty if nothing was scored."""
    length: int
    """Steps of the whole video."""
    hottest: np.ndarray
    """float (length,): heat of the hottest token of every step, NaN where not scored."""

    def around_peaks(self, before: int, after: int) -> Footage:
        """Only the steps from `before` to `after` each worst moment."""
        near = np.zeros(len(self.steps), bool)
        for peak in self.peaks or (0,):
            near |= np.abs(self.steps - self.steps[peak] - (after - before) / 2) <= (before + after) / 2
        moved = np.cumsum(near) - 1
        return replace(
            self,
            steps=self.steps[near],
            frames=self.frames[near],
            heat=self.heat[near],
            peaks=tuple(int(moved[peak]) for peak in self.peaks),
        )


@dataclass(frozen=True)
class _Step:
    index: int
    frame: np.ndarray
    heat: np.ndarray


@dataclass
class _Stretch:
    """The steps around one peak; it stays open until `end`, and follows the peak if that rises further."""

    steps: deque[_Step]
    peak: float
    peak_index: int
    end: int


class Reel:
    """Give it every step of a video in order; at the end it hands back the footage worth showing."""

    def __init__(self, fps: float) -> None:
        self._before = max(8, round(SECONDS_BEFORE * fps))
        self._after = max(4, round(SECONDS_AFTER * fps))
        self._whole_limit = max(self._before + self._after, round(WHOLE_SECONDS * fps))
        self._whole: list[_Step] | None = []
        self._recent: deque[_Step] = deque(maxlen=self._before)
        self._stretches: list[_Stretch] = []
        self._hottest = array("f")

    def add(self, frames: np.ndarray, heat: np.ndarray, surprise: np.ndarray) -> None:
        """frames: uint8 (T, H, W, 3); heat: (T, h, w); surprise: (T,), NaN where not scored."""
        for frame, tokens, value in zip(frames, heat, surprise, strict=True):
            step = _Step(len(self._hottest), frame.copy(), tokens.astype(np.float32))
            self._hottest.append(step.heat.max())
            for stretch in self._stretches:
                if step.index < stretch.end:
                    stretch.steps.append(step)
            self._recent.append(step)
            if not np.isnan(value):
                self._follow(step, float(value))
            self._keep_whole(step)

    def _keep_whole(self, step: _Step) -> None:
        if self._whole is not None:
            self._whole.append(step)
            if len(self._whole) > min(self._whole_limit, WHOLE_BYTES // step.frame.nbytes):
                self._whole = None

    def _follow(self, step: _Step, value: float) -> None:
        """Open a stretch at a new peak, or let the open one move with it."""
        still_open = [stretch for stretch in self._stretches if step.index < stretch.end]
        if still_open:
            newest = still_open[-1]
            if value > newest.peak:
                newest.peak, newest.peak_index, newest.end = value, step.index, step.index + self._after
            return
        if len(self._stretches) == WORST_MOMENTS:
            weakest = min(self._stretches, key=lambda stretch: stretch.peak)
            if value <= weakest.peak:
                return
            self._stretches.remove(weakest)
        steps = deque(self._recent, maxlen=self._before + self._after)
        self._stretches.append(_Stretch(steps, value, step.index, step.index + self._after))

    def footage(self) -> Footage | None:
        """What was kept; None for a video without a single step."""
        stretches = sorted(self._stretches, key=lambda stretch: -stretch.peak)
        kept = {step.index: step for stretch in stretches for step in stretch.steps}
        if self._whole is not None or not kept:
            kept = {step.index: step for step in self._whole or self._recent}
        if not kept:
            return None
        steps = sorted(kept)
        return Footage(
            steps=np.array(steps),
            frames=np.stack([kept[index].frame for index in steps]),
            heat=np.stack([kept[index].heat for index in steps]),
            peaks=tuple(steps.index(stretch.peak_index) for stretch in stretches),
            length=len(self._hottest),
            hottest=np.array(self._hottest),
        )
