"""The most surprising videos, encoded for the report and kept within a budget of bytes."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foretell.data.clip import View
from foretell.data.writers import write_video
from foretell.serve.pictures import enlarge
from foretell.serve.reel import Footage
from foretell.serve.summary import FileResult
from foretell.serve.table import Track

SHOWN = 24
# Videos and heat together; as text in the page they take a third more, so that it stays near 20 MB.
BUDGET_BYTES = 15_000_000
# A player scales what is smaller; enlarging first keeps the colours, of which H.264 stores a quarter.
SHORT_SIDE_PIXELS = 192
POINTS = 800


@dataclass(frozen=True, kw_only=True)
class Line:
    """One score over time."""

    values: np.ndarray
    """float (N,), the highest of each of N equal parts of the video, NaN where not scored."""
    threshold: float | None
    """The alarm line; None without calibration."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One video of the report: K of its `length` steps as mp4, one frame a step, with their heat."""

    result: FileResult
    mp4: bytes
    steps: np.ndarray
    """int (K,), rising"""
    heat: np.ndarray
    """float32 (K, h, w), NaN where not scored"""
    peaks: tuple[int, ...]
    """Indices into K of the worst moments, the worst first."""
    worst_frame: np.ndarray
    """uint8 (H, W, 3)"""
    length: int
    surprise: Line
    controls: dict[str, Line]


class Gallery:
    """Offer it every video; it keeps the most surprising ones, and learns how hot heat is when nothing happens."""

    def __init__(self, view: View, files: int) -> None:
        self.fps = view.fps
        self._factor = max(1, math.ceil(SHORT_SIDE_PIXELS / min(view.height, view.width)))
        self._limit = BUDGET_BYTES // max(1, min(SHOWN, files))
        self._kept: list[Shown] = []
        self._quiet: list[np.ndarray] = []
        self._alarmed: list[np.ndarray] = []

    def offer(self, result: FileResult, footage: Footage, track: Track, beside: dict[str, Track]) -> None:
        """Keep this video if it is among the most surprising so far; one without a score is never shown."""
        if result.max_surprise is None:
            return
        alarms = track.alarms()
        self._quiet.append(footage.hottest[~alarms])
        self._alarmed.append(footage.hottest[alarms])
        if len(self._kept) == SHOWN:
            weakest = min(self._kept, key=_rank)
            if result.max_surprise <= _rank(weakest):
                return
            self._kept.remove(weakest)
        footage, mp4 = self._encode(footage)
        shown = Shown(
            result=result,
            mp4=mp4,
            steps=footage.steps,
            heat=footage.heat,
            peaks=footage.peaks,
            worst_frame=footage.frames[footage.peaks[0]].copy(),
            length=footage.length,
            surprise=_line(track),
            controls={name: _line(their) for name, their in beside.items()},
        )
        self._kept.append(shown)

    def shown(self) -> list[Shown]:
        """The kept videos, the most surprising first."""
        return sorted(self._kept, key=_rank, reverse=True)

    def heat_scale(self) -> tuple[float, float]:
        """Heat that is drawn as cold and as hottest, the same for all videos.

        Cold is what the hottest token stays below in four of five steps without an alarm; hottest is what it reaches in
        an alarm, and in any case well above all but the liveliest 5% of quiet steps, so that normal videos do not glow.
        """
        quiet, alarmed = (_finite(kept) for kept in (self._quiet, self._alarmed))
        if not len(quiet):
            quiet = alarmed
        if not len(quiet):
            return 0.0, 1.0
        cold, lively = (float(level) for level in np.quantile(quiet, [0.8, 0.95]))
        hot = max(cold + 3 * (lively - cold), float(np.quantile(alarmed, 0.75)) if len(alarmed) else cold)
        return cold, hot if hot > cold else cold + 1.0

    def _encode(self, footage: Footage) -> tuple[Footage, bytes]:
        """The best picture that fits this video's share of the bytes; a long one gives up all but its worst moments."""
        for candidate, crf in self._candidates(footage):
            frames = enlarge(candidate.frames, self._factor)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "video.mp4"
                write_video(path, frames, self.fps, crf=crf)
                mp4 = path.read_bytes()
            if len(mp4) + candidate.heat.size <= self._limit:
                break
        return candidate, mp4

    def _candidates(self, footage: Footage) -> Iterator[tuple[Footage, int]]:
        second = max(1, round(self.fps))
        yield footage, 22
        yield footage, 29
        yield footage.around_peaks(4 * second, 3 * second), 26
        yield footage.around_peaks(2 * second, 2 * second), 32
        yield footage.around_peaks(second, second), 40


def _rank(shown: Shown) -> float:
    return shown.result.max_surprise if shown.result.max_surprise is not None else -math.inf


def _line(track: Track) -> Line:
    """Thinned to what a screen can show, without losing a peak: step s of L falls into part s * N // L."""
    surprise = np.array(track.surprise)
    parts = min(POINTS, len(surprise))
    begins = -(-np.arange(parts) * len(surprise) // parts)  # rounded up
    return Line(values=np.fmax.reduceat(surprise, begins), threshold=track.threshold)


def _finite(arrays: list[np.ndarray]) -> np.ndarray:
    together = np.concatenate(arrays) if arrays else np.empty(0)
    return together[np.isfinite(together)]
