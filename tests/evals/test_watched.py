"""Watching fresh and spoilt episodes, with a scorer whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.data.clip import Clip, View
from foretell.evals.watched import watch_figures
from foretell.surprise.calibrate import Calibration
from foretell.surprise.panel import MODEL, STRANGE, Panel
from foretell.surprise.score import Scores


class Grey:
    """Episodes of one grey each: 100 but for every tenth, which is 200."""

    def episode(self, seed: int) -> Clip:
        frames = np.full((12, 16, 16, 3), 200 if seed % 10 == 0 else 100, np.uint8)
        return Clip(name=str(seed), frames=frames, fps=10.0)


class GreyScorer:
    """Surprised by what is bright, and strange is what is dark, two steps later."""

    view, context, smooth = View(height=16, width=16, fps=10.0), 2, 1

    def start(self) -> None:
        self.last = np.full(2, 100.0)

    def score(self, frames: np.ndarray) -> Scores:
        grey = frames.mean((1, 2, 3))
        late = np.concatenate([self.last, grey])
        self.last = late[-2:]
        return Scores(grey, grey, np.zeros((len(frames), 1, 1)), 255 - late[:-2])


@pytest.fixture
def panel() -> Panel:
    surprise, strange = (Calibration(scores=np.arange(n, n + 99.0), unit="clip", unit_seconds=1.2) for n in (50, 120))
    return Panel({MODEL: GreyScorer()}, {MODEL: surprise, STRANGE: strange})


SPOILT = {
    "bright": lambda frames, rng: np.full_like(frames, 255),
    "dark": lambda frames, rng: np.zeros_like(frames),
    "same": lambda frames, rng: frames,
}


def test_alarms_and_doubts_are_counted_apart_and_in_time(panel: Panel) -> None:
    found = {name: figure["value"] for name, figure in watch_figures(panel, Grey(), SPOILT, 1, 20).items()}
    assert found["false alarms, share of clips"] == pytest.approx(0.1)
    assert found["false alarms an hour"] == pytest.approx(0.1 * 3600 / 1.2)
    assert found["not known, share of normal clips"] == 0
    assert found["alarmed, bright from half way"] == 1
    assert found["alarmed, dark from half way"] == 0
    assert found["alarmed or not known, dark from half way"] == 1
    assert (found["delay, bright, steps"], found["delay, dark, steps"]) == (0, 2)
    assert found["alarmed or not known, same from half way"] == 0
    assert "delay, same, steps" not in found


def test_without_a_line_there_are_no_figures(panel: Panel) -> None:
    assert watch_figures(Panel(panel.scorers, {}), Grey(), SPOILT, 1, 4) == {}
