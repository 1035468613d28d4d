import numpy as np
import pytest

from foretell.serve import reel as module
from foretell.serve.reel import Reel


def run(reel, surprise, chunk=37):
    """A video whose frames carry their step in their pixels."""
    steps = len(surprise)
    frames = np.zeros((steps, 2, 3, 3), np.uint8)
    frames[:, 0, 0, 0], frames[:, 0, 0, 1] = np.arange(steps) % 256, np.arange(steps) // 256
    heat = np.broadcast_to(np.asarray(surprise, np.float32)[:, None, None], (steps, 1, 2))
    for start in range(0, steps, chunk):
        part = slice(start, start + chunk)
        reel.add(frames[part], heat[part], surprise[part])
    return reel.footage()


def numbers(footage):
    pixels = footage.frames[:, 0, 0].astype(int)
    return pixels[:, 0] + 256 * pixels[:, 1]


def test_a_short_video_is_kept_whole():
    surprise = np.r_[[np.nan] * 4, np.linspace(0, 1, 50), np.linspace(1, 0, 50)]
    footage = run(Reel(fps=10), surprise)
    assert (footage.steps == np.arange(104)).all()
    assert (numbers(footage) == footage.steps).all()
    assert footage.length == 104
    assert footage.steps[footage.peaks[0]] in (53, 54)
    assert np.isnan(footage.hottest[:4]).all()
    assert not np.isnan(footage.hottest[4:]).any()


def test_a_long_video_keeps_what_surrounds_its_worst_moments():
    surprise = np.random.default_rng(0).uniform(0, 1, 3000)
    surprise[[500, 1200, 2990]] = 5, 9, 7
    surprise[1210] = 8  # the same moment as 1200
    footage = run(Reel(fps=10), surprise)
    assert [int(footage.steps[peak]) for peak in footage.peaks] == [1200, 2990, 500]
    assert (numbers(footage) == footage.steps).all()
    assert (footage.heat[:, 0, 1] == surprise[footage.steps].astype(np.float32)).all()
    for moment in (500, 1200, 2990):
        assert set(range(moment - 30, min(moment + 30, 3000))) <= set(footage.steps.tolist())
    assert len(footage.steps) < 3 * 71
    assert len(footage.hottest) == footage.length == 3000


def test_a_rising_moment_is_followed_to_its_peak():
    surprise = np.r_[np.zeros(1000), np.arange(25.0), np.zeros(975)]
    footage = run(Reel(fps=10), surprise)
    assert footage.steps[footage.peaks[0]] == 1024
    assert {*range(990, 1050)} <= set(footage.steps.tolist())


@pytest.mark.parametrize("shape", ["flat", "noise", "rising"])
def test_memory_does_not_grow_with_the_video(shape):
    """However long and however shaped: at most a minute of frames and three moments are held."""
    reel, most = Reel(fps=10), 600 + 40 + 3 * 70
    rng = np.random.default_rng(1)
    for start in range(0, 6000, 50):
        surprise = {"flat": np.ones(50), "noise": rng.uniform(0, 1, 50), "rising": np.arange(start, start + 50.0)}[
            shape
        ]
        reel.add(np.zeros((50, 2, 3, 3), np.uint8), np.zeros((50, 1, 2)), surprise)
        held = len(reel._whole or []) + len(reel._recent) + sum(len(stretch.steps) for stretch in reel._stretches)
        assert held <= most
    assert held <= 40 + 3 * 70


def test_large_frames_are_held_by_bytes_not_by_seconds(monkeypatch):
    monkeypatch.setattr(module, "WHOLE_BYTES", 100 * 2 * 3 * 3)
    footage = run(Reel(fps=10), np.random.default_rng(0).uniform(0, 1, 500))
    assert footage.length == 500
    assert len(footage.steps) <= 3 * 70


def test_a_video_without_a_step_gives_nothing():
    assert Reel(fps=10).footage() is None


def test_a_video_without_a_score_still_has_its_end():
    footage = run(Reel(fps=10), np.full(900, np.nan))
    assert footage.peaks == ()
    assert footage.steps[-1] == 899


def test_around_peaks_cuts_to_the_moments():
    surprise = np.zeros(100)
    surprise[20], surprise[70] = 3, 2
    footage = run(Reel(fps=10), surprise).around_peaks(5, 3)
    kept = set(footage.steps.tolist())
    assert {*range(15, 24), *range(65, 74)} <= kept
    assert not kept & {14, 24, 64}
    assert [int(footage.steps[peak]) for peak in footage.peaks[:2]] == [20, 70]
    assert (numbers(footage) == footage.steps).all()
