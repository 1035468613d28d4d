"""Reliability on cases whose answer is known in closed form, and beside MAPIE and scikit-learn."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from mapie.metrics.calibration import expected_calibration_error
from sklearn.metrics import brier_score_loss

from foretell.errors import ConfigError, ShapeError
from foretell.evals.reliability import brier, classification_ece, coverage, regression_ece

normal = NormalDist()


def test_coverage_by_hand():
    truth = np.zeros((4, 2, 2))
    low, high = np.full_like(truth, -1), np.full_like(truth, 2)
    low[0, 1, 0], high[1, 0, 1] = 0.5, -0.5  # one unit misses late, one early
    high[2, 0, 0] = 0  # on the edge is inside
    found = coverage(truth, low, high, np.array(["a", "a", "b", "b"]), fewest=2)
    assert found.joint["value"] == 0.5
    assert [figure["value"] for figure in found.per_horizon] == [0.75, 0.75]
    assert found.width[1, 1] == 3
    assert found.width[0, 0] == pytest.approx((3 + 3 + 1 + 3) / 4)
    assert {name: figure["value"] for name, figure in found.by_slice.items()} == {"a": 0.0, "b": 1.0}
    assert found.worst == "a"


def test_the_worst_slice_is_found_where_the_average_hides_it_and_small_ones_are_not_considered():
    rng = np.random.default_rng(0)
    fast = np.r_[np.ones(300, int), np.zeros(2700, int), [2]]
    truth = rng.normal(size=(3001, 3, 1)) * np.where(fast == 1, 3, 0.5)[:, None, None]
    truth[-1] = 100
    found = coverage(truth, np.full_like(truth, -2), np.full_like(truth, 2), fast)
    assert found.joint["value"] > 0.9
    assert found.worst == "1"
    inside = normal.cdf(2 / 3) - normal.cdf(-2 / 3)
    assert found.by_slice["1"]["low"] < inside**3 < found.by_slice["1"]["high"]
    assert coverage(truth, truth, truth).worst is None


def test_regression_ece_of_known_forecasts():
    assert regression_ece((np.arange(4000) + 0.5) / 4000) == pytest.approx(0, abs=1e-3)
    assert regression_ece(np.full(10, 0.5)) == pytest.approx(0.25)  # all levels below .5 see none, all above see all
    assert regression_ece(np.ones(10)) == pytest.approx(0.5)
    z = np.array([normal.inv_cdf(p) for p in (np.arange(4000) + 0.5) / 4000])
    pit = np.array([normal.cdf(3 * value) for value in z])  # spreads stated 3 times too small
    levels = (np.arange(20) + 0.5) / 20
    expected = np.mean([abs(normal.cdf(normal.inv_cdf(p) / 3) - p) for p in levels])
    assert regression_ece(pit) == pytest.approx(expected, abs=1e-3)


def test_brier_and_ece_by_hand():
    sure = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert brier(sure, np.array([0, 0])) == 0
    assert brier(sure, np.array([1, 1])) == 2
    assert brier(np.full((3, 4), 0.25), np.array([0, 1, 3])) == pytest.approx(0.75**2 + 3 * 0.25**2)
    assert classification_ece(sure, np.array([0, 1])) == pytest.approx(0.5)
    two = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10)
    outcomes = np.array([0] * 9 + [1] + [1] * 2 + [0] * 8)
    assert classification_ece(two, outcomes) == pytest.approx(0.5 * 0 + 0.5 * 0.4)


def test_ece_and_brier_are_those_of_mapie_and_scikit_learn():
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet(np.ones(4), size=500)
    outcomes = np.array([rng.choice(4, p=p**2 / (p**2).sum()) for p in probabilities])
    theirs = brier_score_loss(outcomes, probabilities, labels=range(4), scale_by_half=False)
    assert brier(probabilities, outcomes) == pytest.approx(theirs)
    right, confidence = probabilities.argmax(axis=1) == outcomes, probabilities.max(axis=1)
    theirs = expected_calibration_error(right.astype(int), confidence, num_bins=11)  # it counts edges, 10 bins
    assert classification_ece(probabilities, outcomes, bins=10) == pytest.approx(theirs)


def test_calibrated_probabilities_have_a_small_ece_and_the_brier_score_of_theory():
    rng = np.random.default_rng(3)
    p = rng.random(40_000)
    outcomes = (rng.random(40_000) < p).astype(int)
    both = np.c_[1 - p, p]
    assert classification_ece(both, outcomes) < 0.015
    assert brier(both, outcomes) == pytest.approx(2 / 6, abs=0.01)  # 2 E p (1 - p)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="three of one shape"):
        coverage(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="one label a unit"):
        coverage(*np.zeros((3, 2, 3, 1)), np.zeros(3))
    with pytest.raises(ShapeError, match="one value"):
        regression_ece(np.zeros((2, 2)))
    with pytest.raises(ConfigError, match=r"within 0\.\.1"):
        regression_ece(np.array([0.5, 1.5]))
    with pytest.raises(ConfigError, match="sum to 1"):
        brier(np.full((2, 2), 0.4), np.array([0, 1]))
    with pytest.raises(ConfigError, match="from 0 to 1"):
        classification_ece(np.full((2, 2), 0.5), np.array([0, 2]))
    with pytest.raises(ShapeError, match=r"\(N, K\)"):
        brier(np.full((2, 2), 0.5), np.array([0]))
