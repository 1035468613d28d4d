"""Risk and coverage on known cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from foretell.errors import ConfigError, ShapeError
from foretell.evals.risk import aurc, risk_at, risk_coverage, share_of_gap


def test_the_curve_by_hand():
    coverage, risk = risk_coverage(np.array([4.0, 0.0, 2.0]), np.array([0.9, 0.1, 0.5]))
    assert coverage == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk == pytest.approx([0, 1, 2])
    assert aurc([4.0, 0.0, 2.0], [0.9, 0.1, 0.5]) == pytest.approx(1)
    assert aurc([4.0, 0.0, 2.0], [0.1, 0.9, 0.5]) == pytest.approx((4 + 3 + 2) / 3)


def test_equal_doubts_give_the_mean_over_all_orders():
    errors, doubt = np.array([3.0, 0.0, 1.0, 7.0]), np.array([1, 0, 1, 1])
    orders = [[0.0, *order] for order in itertools.permutations([3.0, 1.0, 7.0])]
    expected = np.mean([np.cumsum(order) / np.arange(1, 5) for order in orders], axis=0)
    assert risk_coverage(errors, doubt)[1] == pytest.approx(expected)


def test_share_of_the_gap_is_1_for_the_oracle_0_for_none_and_less_for_worse():
    errors = np.random.default_rng(0).gamma(2.0, size=2000)
    assert share_of_gap(errors, errors**3) == pytest.approx(1)
    assert share_of_gap(errors, np.ones(2000)) == pytest.approx(0)
    assert share_of_gap(errors, -errors) < -0.5
    assert share_of_gap(errors, np.random.default_rng(1).random(2000)) == pytest.approx(0, abs=0.15)
    assert math.isnan(share_of_gap(np.full(5, 2.0), np.arange(5)))


def test_aurc_of_uniform_errors_is_its_closed_form():
    errors = (np.arange(4000) + 0.5) / 4000
    assert aurc(errors, errors) == pytest.approx(1 / 4, abs=1e-3)  # the mean of c / 2 over c in 0..1
    assert share_of_gap(errors, errors > 0.9) == pytest.approx(
        (0.5 - np.mean([0.45 if c < 0.9 else (0.9 * 0.45 + (c - 0.9) * 0.95) / c for c in errors])) / 0.25, abs=0.01
    )


def test_risk_at_the_coverages_that_are_reported():
    errors = np.arange(20.0)
    found = risk_at(errors, errors)
    assert found == {0.8: 7.5, 0.9: 8.5, 0.95: 9.0, 1.0: 9.5}
    assert risk_at(errors, -errors, [0.05]) == {0.05: 19.0}
    assert risk_at(errors, np.r_[np.zeros(19), np.inf])[0.95] == 9.0


def test_what_means_nothing_is_refused():
    with pytest.raises(ShapeError, match="one length"):
        risk_coverage(np.zeros(3), np.zeros(4))
    with pytest.raises(ConfigError, match="1 errors not finite, 1 doubts NaN"):
        risk_coverage(np.array([np.inf, 0]), np.array([0, np.nan]))
    with pytest.raises(ConfigError, match="above 0"):
        risk_at(np.zeros(3), np.zeros(3), [0.0])
