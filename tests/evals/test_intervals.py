"""Intervals hold what they promise: on draws whose truth is known, 95 of 100 cover it."""

import numpy as np
import pytest

from foretell.evals.intervals import bootstrap, share


@pytest.mark.parametrize("truth", [0.5, 0.95])
def test_wilson_covers_the_truth(truth):
    rng = np.random.default_rng(0)
    found = [share((rng.uniform(size=200) < truth).astype(float)) for _ in range(1000)]
    covered = np.mean([figure["low"] <= truth <= figure["high"] for figure in found])
    assert 0.93 <= covered <= 0.975


def test_wilson_is_not_sure_at_the_ends():
    assert share([1.0] * 200) == {"value": 1.0, "low": pytest.approx(0.9812, abs=1e-3), "high": 1.0, "n": 200}
    assert share([0.0] * 200)["high"] == pytest.approx(1 - 0.9812, abs=1e-3)
    assert share([0.5] * 4)["value"] == 0.5


def test_bootstrap_agrees_with_theory_for_a_mean():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    figure = bootstrap(lambda chosen: float(values[chosen].mean()), 400, draws=2000)
    assert figure["value"] == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert figure["low"] == pytest.approx(values.mean() - half, abs=0.03)
    assert figure["high"] == pytest.approx(values.mean() + half, abs=0.03)
