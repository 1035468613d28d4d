"""Our bands, p-values and evidence beside crepes and MAPIE, where they compute the same."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from crepes import ConformalRegressor
from crepes.martingales import SimpleJumper, SleeperStayer, semi_online_p_values
from mapie.exchangeability_testing import OnlineMartingaleTest
from mapie.regression import SplitConformalRegressor
from sklearn.base import BaseEstimator, RegressorMixin

from foretell.doubt import martingale
from foretell.doubt.adaptive import AdaptiveThreshold
from foretell.doubt.bands import fit_band, unit_scores
from foretell.doubt.martingale import OnlineRanks, StreamEvidence, log_rewards, safe


class Zero(RegressorMixin, BaseEstimator):
    """Forecasts nothing, so that residuals are what they are given as."""

    def fit(self, x, y):
        self.fitted_ = True
        return self

    def predict(self, x):
        return np.zeros(len(x))


class Bets:
    """Our bets in the form that crepes takes."""

    def apply(self, p_values):
        return np.exp(log_rewards(p_values))


def residuals(units: int, horizon: int = 1, quantities: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(units)
    shape = (units, horizon, quantities)
    return rng.standard_t(4, size=shape), rng.uniform(0.5, 2, size=shape)


@pytest.mark.parametrize(("units", "level"), [(30, 0.9), (157, 0.95), (1000, 0.83)])
def test_a_band_of_one_step_is_that_of_crepes_and_of_mapie(units, level):
    missed, sigma = residuals(units)
    ours = fit_band(missed, np.ones_like(missed), level).joint
    crepes = ConformalRegressor().fit(missed.ravel()).predict_int(np.zeros(1), confidence=level)
    assert ours == pytest.approx(crepes[0, 1])
    x = np.zeros((units, 1))
    mapie = SplitConformalRegressor(Zero().fit(x, missed.ravel()), confidence_level=level, prefit=True)
    _, interval = mapie.conformalize(x, missed.ravel()).predict_interval(x[:1])
    assert ours == pytest.approx(interval[0, 1, 0])

    mean, spread = np.array([[3.0]]), np.array([[0.7]])
    low, high = fit_band(missed, sigma, level).interval(mean, spread)
    scaled = ConformalRegressor().fit(missed.ravel(), sigmas=sigma.ravel())
    expected = scaled.predict_int(mean.ravel(), sigmas=spread.ravel(), confidence=level)
    assert np.c_[low.ravel(), high.ravel()] == pytest.approx(expected)


def test_a_whole_horizon_and_each_of_its_steps_are_those_of_crepes_on_the_scores():
    missed, sigma = residuals(203, horizon=6, quantities=4)
    band, scores = fit_band(missed, sigma, 0.9), unit_scores(missed, sigma)

    def crepes(of_units: np.ndarray) -> float:
        return float(ConformalRegressor().fit(of_units).predict_int(np.zeros(1), confidence=0.9)[0, 1])

    assert band.joint == pytest.approx(crepes(scores.max(axis=1)))
    assert band.per_horizon == pytest.approx([crepes(of_step) for of_step in scores.T])


def test_an_adaptive_threshold_that_stands_still_is_the_online_one_of_crepes():
    rng = np.random.default_rng(0)
    first, then = np.abs(rng.normal(size=40)), np.abs(rng.normal(size=200))
    online = ConformalRegressor().fit(first).predict_int_online(np.zeros(200), then, confidence=0.9)
    ours = AdaptiveThreshold(0.1, gamma=1e-12, scores=first)
    thresholds = []
    for score in then:
        thresholds.append(ours.threshold)
        ours.add(score)
    differing = np.flatnonzero(~np.isclose(thresholds, online[:, 1]))
    # where (n + 1) x 0.9 is whole, a nudge of 1e-12 to alpha may choose the neighbour
    assert all((40 + step + 1) % 10 == 0 for step in differing)
    assert len(differing) <= 20


@pytest.mark.parametrize("ties", [False, True])
def test_online_p_values_are_those_of_crepes_and_of_mapie(ties, monkeypatch):
    rng = np.random.default_rng(1)
    scores = rng.integers(5, size=120).astype(float) if ties else rng.normal(size=120)
    u = 1 - np.random.default_rng(7).random(120)
    ranks = OnlineRanks(seed=7)
    ours = [ranks.add(score) for score in scores]
    monkeypatch.setattr(np.random, "rand", lambda n: u[:n])
    assert ours == pytest.approx(semi_online_p_values(scores))
    mapie = OnlineMartingaleTest()
    for i in range(1, 120):  # with no past it draws a second number
        mapie.rng = SimpleNamespace(uniform=lambda i=i: u[i])
        assert ours[i] == pytest.approx(mapie.compute_p_value(scores[i], scores[:i]))
    ranks = OnlineRanks(scores[:50], seed=7)
    started = [ranks.add(abs(score)) for score in scores[50:]]
    fitted = ConformalRegressor().fit(scores[:50])
    fitted.alphas = scores[:50]  # as they are: it takes the size of residuals
    assert started == pytest.approx(fitted.predict_p_online(np.zeros(70), scores[50:]))


def test_evidence_is_the_mixture_over_starts_of_what_crepes_makes_of_the_same_bets():
    """A jumper that never jumps is a plain mixture of bets: one from each step on, staked as the safe says."""
    scores = np.random.default_rng(2).normal(size=150) + np.linspace(0, 2, 150)
    ranks, stream = OnlineRanks(seed=3), StreamEvidence(seed=3)
    p = np.array([ranks.add(score) for score in scores])
    ours = np.exp([stream.add(score) for score in scores])
    crepes = np.array([safe(t + 1) for t in range(150)])
    for start in range(150):
        crepes[start:] += (safe(start) - safe(start + 1)) * SimpleJumper(J=1e-300, bf=Bets()).apply(p[start:])
    assert ours == pytest.approx(crepes)
    assert ours.max() > 10


def test_with_a_safe_that_empties_at_a_constant_rate_it_is_the_sleeper_of_crepes(monkeypatch):
    scores = np.random.default_rng(4).normal(size=200) + np.linspace(0, 2, 200)
    ranks = OnlineRanks(seed=5)
    p = np.array([ranks.add(score) for score in scores])
    monkeypatch.setattr(martingale, "safe", lambda steps: 0.99**steps)
    stream = StreamEvidence(seed=5)
    ours = np.exp([stream.add(score) for score in scores])
    assert ours == pytest.approx(SleeperStayer(R=0.01, bf=Bets()).apply(p))
