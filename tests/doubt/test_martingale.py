"""Evidence on a stream: uniform p-values, a fair bet, false alarms over whole streams, and a change that is found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foretell.doubt.martingale import BETS, OnlineRanks, StreamEvidence, log_rewards, safe
from foretell.errors import ConfigError


def evidence_of(scores: np.ndarray, normal: np.ndarray, seed: int) -> StreamEvidence:
    stream = StreamEvidence(normal, seed=seed)
    for score in scores:
        stream.add(score)
    return stream


@pytest.mark.parametrize("ties", [False, True])
def test_p_values_are_uniform_and_independent_ties_or_not(ties):
    rng, streams, steps = np.random.default_rng(0), 2000, 4
    p = np.empty((streams, steps))
    for i in range(streams):
        scores = rng.integers(3, size=7 + steps) if ties else rng.normal(size=7 + steps)
        ranks = OnlineRanks(scores[:7], seed=i)
        p[i] = [ranks.add(score) for score in scores[7:]]
    assert ((p > 0) & (p <= 1)).all()
    empirical = np.sort(p, axis=0) - (np.arange(streams)[:, None] + 0.5) / streams
    assert np.abs(empirical).max() < 1.95 / math.sqrt(streams)  # Kolmogorov, 0.1% each
    assert np.abs(np.corrcoef(p.T) - np.eye(steps)).max() < 4 / math.sqrt(streams)


def test_p_value_by_hand():
    u = 1 - np.random.default_rng(5).random(3)
    ranks = OnlineRanks([1, 2, 2, 3], seed=5)
    assert ranks.add(2) == pytest.approx((1 + 3 * u[0]) / 5)
    assert ranks.add(9) == pytest.approx(u[1] / 6)
    assert ranks.add(2) == pytest.approx((2 + 4 * u[2]) / 7)


def test_every_bet_is_fair():
    edges = np.linspace(0, 1, 200_001)[1:]
    for eps, rewards in zip(BETS, np.exp(log_rewards(edges)).T, strict=True):
        assert (np.diff(rewards) < 0).all()
        integral = np.diff(edges**eps).sum() + edges[0] ** eps  # of eps p^(eps - 1)
        assert integral == pytest.approx(1)
        assert rewards[-1] == pytest.approx(eps)
        assert rewards[99_999] == pytest.approx(eps * 0.5 ** (eps - 1))


def test_nothing_is_staked_twice_and_the_safe_never_empties():
    stakes = [safe(t) - safe(t + 1) for t in range(10_000)]
    assert safe(0) == 1
    assert min(stakes) > 0
    assert sum(stakes) + safe(10_000) == pytest.approx(1)
    assert safe(3_000_000) > 0.04


@pytest.mark.parametrize("past", [[], [0.3], [0.001, 0.9, 0.02, 0.5, 0.5]])
def test_what_comes_next_is_expected_to_be_what_is_there(past, monkeypatch):
    """Mean of the evidence after one more step over a uniform p-value, by quadrature in v with p = v^20."""
    v = (np.arange(2000) + 0.5) / 2000
    coming = iter(())
    monkeypatch.setattr(OnlineRanks, "add", lambda ranks, score: next(coming))
    after = []
    for p in v**20:
        coming = iter([*past, p])
        after.append(math.exp(evidence_of(np.zeros(len(past) + 1), np.zeros(0), 0).log_evidence))
    coming = iter(past)
    before = math.exp(evidence_of(np.zeros(len(past)), np.zeros(0), 0).log_evidence)
    assert np.mean(np.array(after) * 20 * v**19) == pytest.approx(before, rel=1e-4)


@pytest.mark.parametrize("calibrated_on", [0, 20, 200])
def test_false_alarms_over_whole_streams_stay_below_alpha(calibrated_on):
    rng, streams, alpha = np.random.default_rng(calibrated_on), 150, 0.2
    scores = rng.gamma(2.0, size=(streams, calibrated_on + 400))
    alarms = [evidence_of(s[calibrated_on:], s[:calibrated_on], i).alarm(alpha) for i, s in enumerate(scores)]
    assert np.mean(alarms) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / streams)


def test_ranks_among_the_calibration_alone_would_break_the_promise():
    """Why the stream's own past must count: the same bets on p-values that share one calibration set."""
    rng, streams, steps, alpha = np.random.default_rng(3), 100, 3000, 0.05
    broken = 0
    for _ in range(streams):
        normal, stream = np.sort(rng.normal(size=20)), rng.normal(size=steps)
        p = (20 - np.searchsorted(normal, stream) + 1 - rng.random(steps)) / 21
        on_bets, highest = np.full(len(BETS), -math.inf), 0.0
        for t, rewards in enumerate(log_rewards(p)):
            on_bets = np.logaddexp(on_bets, math.log((safe(t) - safe(t + 1)) / len(BETS))) + rewards
            highest = max(highest, float(np.logaddexp.reduce(on_bets)))
        broken += highest >= -math.log(alpha)
    assert broken / streams > 4 * alpha


@pytest.mark.parametrize("usual", [0, 2000])
def test_a_change_is_found_soon_even_after_a_long_quiet(usual):
    rng = np.random.default_rng(4)
    stream = evidence_of(rng.normal(size=usual), rng.normal(size=300), 0)
    assert not stream.alarm(0.01)
    delay = 0
    while not stream.alarm(0.01):
        stream.add(rng.normal() + 2.5)
        delay += 1
    assert delay < 25
    assert stream.steps == usual + delay


def test_lower_scores_are_no_evidence_and_alarms_do_not_go_away():
    rng = np.random.default_rng(5)
    stream = evidence_of(rng.normal(size=300) - 3, rng.normal(size=100), 0)
    assert stream.log_evidence < 0
    stream = evidence_of(rng.normal(size=40) + 5, rng.normal(size=1000), 0)
    assert stream.alarm(1e-6)
    for score in rng.normal(size=300):
        stream.add(score)
    assert stream.log_evidence < stream.highest_log_evidence
    assert stream.alarm(1e-6)


def test_the_same_seed_tells_the_same():
    rng = np.random.default_rng(6)
    scores, normal = rng.integers(4, size=50), rng.integers(4, size=20)
    assert evidence_of(scores, normal, 1).log_evidence == evidence_of(scores, normal, 1).log_evidence
    assert evidence_of(scores, normal, 1).log_evidence != evidence_of(scores, normal, 2).log_evidence


def test_no_number_no_evidence():
    with pytest.raises(ConfigError, match="NaN"):
        StreamEvidence([1.0, math.nan])
    stream = StreamEvidence([1.0])
    with pytest.raises(ConfigError, match="NaN"):
        stream.add(math.nan)
    assert stream.steps == 0
    stream.add(math.inf)
    assert math.isfinite(stream.log_evidence)
    with pytest.raises(ConfigError, match="alpha"):
        stream.alarm(0)
