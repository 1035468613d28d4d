"""The buoy's law is the one it moves by, and the sky tells the wind."""

import numpy as np
import pytest

from foretell.errors import ConfigError
from foretell.worlds.buoy import Buoy, law


def test_what_comes_follows_the_law(monkeypatch):
    monkeypatch.setattr(Buoy, "_draw", lambda self, places, *_: np.zeros((len(places), 1, 1, 3), np.uint8))
    world, away = Buoy(size=128, frames=20), []
    for seed in range(2000):
        clip = world.episode(seed)
        came = np.stack([clip.states[axis][8:18, 0] for axis in ("x", "y")], 1)
        known = law(clip, 7, 10)
        away.append((came - known.mean) / known.std)
    found = np.array(away)  # (N, H, 2)
    assert np.abs(found.mean((0, 2))).max() < 0.06
    assert np.abs(found.std((0, 2)) - 1).max() < 0.05
    assert (np.abs(found) > 1.96).mean() == pytest.approx(0.05, abs=0.01)


def test_lengths_scale_with_the_frame():
    small, large = Buoy(size=32).episode(5), Buoy(size=64).episode(5)
    for name in ("x", "vy", "gust", "radius"):
        np.testing.assert_allclose(2 * small.states[name], large.states[name])
    np.testing.assert_allclose(2 * law(small, 3, 4).std, law(large, 3, 4).std)


def test_the_sky_is_the_brighter_the_windier():
    clips = [Buoy().episode(seed) for seed in range(20)]
    gusts = [clip.states["gust"][0, 0] for clip in clips]
    corners = [clip.frames[0, 0].mean() for clip in clips]
    assert np.corrcoef(np.log(gusts), corners)[0, 1] > 0.99


def test_what_is_drawn_is_where_it_is():
    clip = Buoy(sky="plain").episode(3)
    rows, columns = np.mgrid[:64, :64] + 0.5
    for t in (0, 11, 23):
        colour = clip.frames[t].astype(float).max(-1) - clip.frames[t].astype(float).min(-1)
        there = colour > 40
        assert abs(columns[there].mean() - clip.states["x"][t, 0]) < 0.5
        assert abs(rows[there].mean() - clip.states["y"][t, 0]) < 0.5


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="rising"):
        Buoy(gusts=(0.5, 0.2))
    with pytest.raises(ConfigError, match="multiple of 8"):
        Buoy(size=60)
