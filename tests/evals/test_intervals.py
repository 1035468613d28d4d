"""Intervals hold what they promise: on draws whose truth is known, 95 of 100 cover it."""

import math

import numpy as np
import pytest

from foretell.evals.intervals import bootstrap, exact_share, share


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


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 3000, 0, 0.001229), (5, 100, 0.01643, 0.11284), (20, 20, 0.83157, 1)]
)
def test_exact_intervals_are_those_of_the_tables(hits, n, low, high):
    figure = exact_share(hits, n)
    assert figure == {
        "value": hits / n,
        "low": pytest.approx(low, abs=1e-4),
        "high": pytest.approx(high, abs=1e-4),
        "n": n,
    }


def test_exact_intervals_never_cover_less_than_they_say():
    """Of a rare thing, over all that can be drawn."""
    n, truth = 40, 0.03
    weight = [math.comb(n, k) * truth**k * (1 - truth) ** (n - k) for k in range(n + 1)]
    covered = sum(w for k, w in enumerate(weight) if exact_share(k, n)["low"] <= truth <= exact_share(k, n)["high"])
    assert covered >= 0.95
