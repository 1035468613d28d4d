"""Chance: what is open is as open as the states say, and shows nowhere before."""

import numpy as np
import pytest

from foretell.errors import ConfigError
from foretell.evals.thrown import places_of
from foretell.worlds import chance
from foretell.worlds.chance import Chance, sign_colour

LUMA = np.array([0.299, 0.587, 0.114])


def test_which_way_is_as_likely_as_the_sign_says():
    states = [Chance(size=16).episode(seed).states for seed in range(1500)]
    odds = np.array([one["chance_up"][0] for one in states])
    up = np.array([one["branch"][0] for one in states])
    assert odds.min() >= 0.05
    assert odds.max() <= 0.95
    assert 0.15 < (odds == 0.5).mean() < 0.25
    for low in (0.05, 0.35, 0.65):
        near = (odds >= low) & (odds <= low + 0.3)
        spread = np.sqrt((odds * (1 - odds))[near].mean() / near.sum())
        assert abs(up[near].mean() - odds[near].mean()) < 3.5 * spread


def test_the_sign_is_seen_and_the_branch_is_not_seen_before_the_fork():
    shown, told = [], []
    for seed in range(60):
        clip = Chance().episode(seed)
        states, fork = clip.states, int(clip.states["fork_frame"][0])
        assert np.ptp(states["y"][:fork, 0]) < 1e-9
        assert 10 <= fork <= 15
        went, other = (np.array([states[f"{way}x"][:, 0], states[f"{way}y"][:, 0]]) for way in ("", "other_"))
        np.testing.assert_allclose(went[:, :fork], other[:, :fork])
        assert (went[1, fork:] < went[1, 0]).all() == bool(states["branch"][0])
        assert abs(went[1, -1] - other[1, -1]) > 20
        for way in (went, other):  # neither leaves the frame
            assert way.min() - states["radius"][0, 0] > 0
            assert way.max() + states["radius"][0, 0] < 64
        np.testing.assert_allclose(places_of(clip, 32), went.T)
        shown.append(clip.frames[0, 10, 12] @ LUMA)
        told.append(np.array(sign_colour(states["chance_up"][0])) @ LUMA)
    np.testing.assert_allclose(shown, told)


def test_frames_before_the_fork_are_the_same_whichever_way_it_goes(monkeypatch):
    road = chance.draw_road(np.random.default_rng(8))
    clips = []
    for up in (0.0, 1.0):
        monkeypatch.setattr(chance, "draw_road", lambda rng, up=up: road._replace(chance_up=up))
        monkeypatch.setattr(chance, "sign_colour", lambda share: (9, 9, 9))
        clips.append(Chance().episode(1))
    one, two = clips
    fork = int(one.states["fork_frame"][0])
    assert (one.states["branch"][0], two.states["branch"][0]) == (0, 1)
    assert (one.frames[:fork] == two.frames[:fork]).all()
    assert (one.frames[fork + 4] != two.frames[fork + 4]).any()
    np.testing.assert_allclose(one.states["x"], two.states["other_x"])


def test_truth_matches_the_frames():
    clip = Chance().episode(4)
    for t in (0, 15, 31):
        x, y = clip.states["x"][t, 0], clip.states["y"][t, 0]
        np.testing.assert_array_equal(clip.frames[t, int(y), int(x)], clip.states["colour"][t, 0])


def test_impossible_settings_say_so():
    for settings, says in (
        ({"size": 20}, "multiple of 8"),
        ({"frames": 5}, "at least 16 frames"),
    ):
        with pytest.raises(ConfigError, match=says):
            Chance(**settings)
