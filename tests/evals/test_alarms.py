"""Alarms on single clips: counted by kind, delays from the violation on, and violations that are truly in plain view."""

import numpy as np
import pytest

from foretell.evals.alarms import VISIBLE, Alarms, _violations, false_alarms, together, visible_moments
from foretell.surprise.score import MotionScorer
from foretell.surprise.stream import SurpriseConfig
from foretell.worlds.physics import Physics
from foretell.worlds.quadruplets import quadruplet

WORLD = Physics(scenario="staged", part="development", frames=24)


def test_counts_by_hand():
    found = Alarms()
    found.add("wall", np.array([0, 0, 1, 0], bool))
    found.add("wall", np.array([0, 0, 0, 0], bool))
    found.add("ball", np.array([1, 0, 0, 1], bool), since=1)  # what came before the violation does not count
    assert found.all()["value"] == pytest.approx(2 / 3)
    assert found.by_kind()["wall"]["value"] == 0.5
    assert found.delay()["value"] == 2.0
    assert np.isnan(Alarms().delay()["value"])


def test_false_alarms_follow_the_threshold():
    scorer = MotionScorer(_view(), (8, 8), SurpriseConfig())
    none, every = (false_alarms(scorer, line, WORLD, range(12), 1) for line in (1e9, -1.0))
    assert none.all()["value"] == 0
    assert every.all()["value"] == 1
    assert every.all()["n"] == 12


def test_portions_together_are_the_whole():
    scorer, line = MotionScorer(_view(), (8, 8), SurpriseConfig()), 40.0
    whole = false_alarms(scorer, line, WORLD, range(12), 1)
    parts = together(false_alarms(scorer, line, WORLD, part, 1) for part in (range(5), range(5, 12)))
    assert parts == whole
    assert 0 < whole.all()["value"] < 1


@pytest.mark.parametrize("kind", VISIBLE)
def test_a_visible_violation_is_a_cut_in_plain_view(kind):
    for frames, cut in _violations(WORLD, kind, 3, 2):
        assert frames.shape == (24, 64, 64, 3)
        step = np.abs(np.diff(frames.astype(int), axis=0)).sum((1, 2, 3))
        assert step[cut - 1] == step[8:].max()  # frames on both sides of the cut differ most: anyone can see it


def test_moments_keep_clear_of_the_screen():
    four = quadruplet(WORLD, "colour", 3)
    clip = four.possible[0]
    covered = clip.states["covered"][:, 0]
    for moment in visible_moments(four):
        assert not covered[moment - 1 : moment + 1].any()
        assert (clip.frames[moment] != four.possible[1].frames[moment]).any()


def _view():
    from foretell.data.clip import View

    return View(height=64, width=64, fps=10.0)
