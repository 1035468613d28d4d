"""The adaptive threshold: its bound on any stream, what it gives at the ends, and the window."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foretell.doubt.adaptive import AdaptiveThreshold
from foretell.errors import ConfigError

STREAMS = {
    "exchangeable": lambda rng, t: rng.gamma(2.0),
    "growing": lambda rng, t: rng.gamma(2.0) * 1.01**t,
    "always higher": lambda rng, t: float(t),
    "always lower": lambda rng, t: float(-t),
    "jumping": lambda rng, t: rng.gamma(2.0) * (1 if t // 200 % 2 else 8),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("window", [None, 100])
def test_long_run_miscoverage_keeps_its_bound_on_any_stream_at_any_time(name, window):
    rng = np.random.default_rng(0)
    threshold = AdaptiveThreshold(0.1, gamma=0.02, window=window)
    for t in range(2000):
        threshold.add(STREAMS[name](rng, t))
        assert -0.02 <= threshold.alpha_now <= 1.02
        assert abs(threshold.misses / threshold.steps - 0.1) <= threshold.bound() + 1e-12
    assert threshold.bound() == pytest.approx((0.9 + 0.02) / (0.02 * 2000))


def test_an_adversary_who_sees_the_threshold_keeps_within_the_bound_too():
    threshold = AdaptiveThreshold(0.2, gamma=0.05)
    for _ in range(3000):
        line = threshold.threshold
        threshold.add(1.0 if math.isinf(line) else line + 1)
    assert abs(threshold.misses / 3000 - 0.2) <= threshold.bound(3000)


def test_a_step_by_hand():
    threshold = AdaptiveThreshold(0.1, gamma=0.02, scores=range(1, 20))
    assert threshold.threshold == 18  # ceil(20 x 0.9)
    assert threshold.add(18.5)
    assert threshold.alpha_now == pytest.approx(0.1 + 0.02 * (0.1 - 1))
    assert threshold.threshold == 19  # ceil(21 x 0.918) = 20th of 20
    assert not threshold.add(19)
    assert (threshold.steps, threshold.misses) == (2, 1)
    assert threshold.alpha_now == pytest.approx(0.1 - 0.02 * 0.9 + 0.02 * 0.1)


def test_without_scores_or_below_alpha_0_nothing_misses_and_from_alpha_1_on_all_does():
    threshold = AdaptiveThreshold(0.5, gamma=0.6)
    assert threshold.threshold == math.inf
    threshold.add(0.0)
    assert threshold.alpha_now == pytest.approx(0.8)
    threshold.add(-1.0)
    assert threshold.alpha_now > 1
    assert threshold.threshold == -math.inf
    assert threshold.add(-1e300)
    low = AdaptiveThreshold(0.1, gamma=0.2, scores=range(50))
    low.add(100)
    assert low.alpha_now < 0
    assert low.threshold == math.inf
    assert not low.add(1e300)


def test_a_window_holds_the_latest_scores_alone():
    threshold = AdaptiveThreshold(0.5, gamma=1e-9, scores=[100, 200, 300], window=3)
    assert threshold.threshold == 200
    for score in (1, 2, 2):
        threshold.add(score)
    assert threshold.threshold == 2
    threshold.add(7)
    threshold.add(8)
    assert threshold.threshold == 7


def test_settings_and_scores_that_mean_nothing_are_refused():
    for settings in ({"alpha": 0}, {"alpha": 1}, {"alpha": 0.1, "gamma": 0}, {"alpha": 0.1, "window": 0}):
        with pytest.raises(ConfigError, match="adaptive threshold"):
            AdaptiveThreshold(**settings)
    threshold = AdaptiveThreshold(0.1)
    with pytest.raises(ConfigError, match="NaN"):
        threshold.add(math.nan)
    assert threshold.steps == 0
