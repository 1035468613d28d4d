"""Figures of branching futures: expectations agree with draws, a perfect foreteller is perfect, and gaps are gaps."""

import numpy as np
import pytest

from bench.branches import Told, away, best_of, chance_up, coverage, ece, entropy, figures

N, K = 400, 3


@pytest.fixture
def told():
    """Two ways 20 px apart; code 0 leads up, 1 down, 2 up again."""
    rng = np.random.default_rng(0)
    odds = rng.uniform(0.05, 0.95, N)
    up = rng.random(N) < odds
    places = np.stack([np.full((N, 2), 10.0), np.full((N, 2), 30.0)])  # down, up
    truth, other = np.where(up, places[1].T, places[0].T).T, np.where(up, places[0].T, places[1].T).T
    chances = np.stack([0.6 * odds, 1 - odds, 0.4 * odds], 1)
    ways = np.stack([places[1], places[0], places[1]], 1)
    errors = np.where(up[:, None] == np.array([True, False, True]), 0.1, 1.0)
    return Told(
        ways=ways,
        chances=chances,
        one=places.mean(0),
        read=truth,
        bits=entropy(odds),
        errors=errors,
        answer=np.where(up, 0, 1),
        truth=truth,
        other=other,
        up=up,
        odds=odds,
        radius=np.full(N, 4.0),
    )


def test_a_perfect_foreteller_is_perfect(told):
    found = figures(told)
    assert found["ece"] == pytest.approx(0)
    assert found["mode_coverage_at_20"] == pytest.approx(found["beside/perfect/mode_coverage_at_20"])
    assert found["bits_beyond_truth"] == pytest.approx(0)
    assert found["brier"] == pytest.approx(found["beside/truth/brier"])
    assert found["nearest_code"] == 0
    assert found["beside/one future/mode_coverage"] == 0
    assert found["beside/one future/error"] == pytest.approx(np.hypot(10, 10))
    assert found["error_of_permuted_codes_over_answering"] > 3


def test_expectations_are_those_of_draws(told):
    rng = np.random.default_rng(1)
    ways = told.ways + rng.normal(0, 3, told.ways.shape)
    drawn = np.stack([[rng.choice(K, 20, p=p) for p in told.chances] for _ in range(60)])  # (60, N, 20)
    far, other = (away(ways, place)[None, np.arange(N)[:, None], drawn] for place in (told.truth, told.other))
    far, other = far[0], other[0]
    nearest = far[..., :5].min(-1).mean()
    assert best_of(told, ways, told.chances, 5).mean() == pytest.approx(nearest, rel=0.02)
    hit = np.mean([(one <= 4).any(-1).mean() for one in (far, other)])
    assert coverage(told, ways, told.chances).mean() == pytest.approx(hit, abs=0.005)


def test_gaps_are_weighed_by_episodes(told):
    assert ece(np.array([0.05, 0.05, 0.95]), np.array([0.15, 0.05, 0.95])) == pytest.approx(0.1 / 3)
    assert ece(np.array([0.31, 0.39]), np.array([0.39, 0.31])) == pytest.approx(0)
    np.testing.assert_allclose(chance_up(told, told.chances), told.odds)
