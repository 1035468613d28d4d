"""A scorer that is surprised by brightness, and small videos to show it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from foretell.data.clip import View
from foretell.data.writers import write_video
from foretell.surprise.calibrate import Calibration


class Scores(NamedTuple):
    surprise: np.ndarray
    error: np.ndarray
    heat: np.ndarray
    strange: np.ndarray


class BrightnessScorer:
    """Surprise is the mean grey level of a step; heat that of each 8 px square; strange is what is dark. Counts between chunks."""

    def __init__(self, view: View, context: int = 2) -> None:
        self.view, self.context, self.smooth, self.seen, self.videos = view, context, 1, 0, 0

    def start(self) -> None:
        self.seen, self.videos = 0, self.videos + 1

    def score(self, frames: np.ndarray) -> Scores:
        assert frames.shape[1:] == (self.view.height, self.view.width, 3)
        steps, height, width, _ = frames.shape
        heat = frames.reshape(steps, height // 8, 8, width // 8, 8, 3).mean((2, 4, 5)).astype(np.float32)
        surprise = frames.mean((1, 2, 3))
        early = np.arange(self.seen, self.seen + steps) < self.context
        surprise[early], heat[early] = np.nan, np.nan
        self.seen += steps
        return Scores(surprise, surprise.copy(), heat, 255 - frames.mean((1, 2, 3)))


@pytest.fixture
def view() -> View:
    return View(height=32, width=48, fps=10.0)


@pytest.fixture
def scorer(view: View) -> BrightnessScorer:
    return BrightnessScorer(view)


@pytest.fixture
def calibration() -> Calibration:
    """99 normal clips of 2 s with a brightness up to 99: alpha 0.05 puts the alarm line at 95."""
    return Calibration(scores=np.arange(1.0, 100.0), unit="clip", unit_seconds=2.0, names=("known.mp4",))


@pytest.fixture
def strangeness() -> Calibration:
    """99 normal clips, darkest frame of each: alpha 0.05 says that what is darker than a grey of 15 is not known."""
    return Calibration(scores=np.arange(146.0, 245.0), unit="clip", unit_seconds=2.0)


Film = Callable[..., Path]


@pytest.fixture
def film(tmp_path: Path) -> Film:
    """Write videos/NAME: grey frames of the given brightness, one a frame."""

    def make(name: str, brightness: list[int] | np.ndarray, fps: float = 10.0) -> Path:
        path = tmp_path / "videos" / name
        frames = np.broadcast_to(np.array(brightness, np.uint8)[:, None, None, None], (len(brightness), 32, 48, 3))
        write_video(path, np.ascontiguousarray(frames), fps)
        return path

    return make
