"""Does its doubt point at its errors? What is left of the risk if it may stay silent where it doubts most."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from foretell.errors import ConfigError, ShapeError

COVERAGES = (0.8, 0.9, 0.95, 1.0)


def risk_coverage(errors: np.ndarray, doubt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors and doubts (N,) -> coverage k / N and risk, the mean error of the k least doubtful, (N,) each, k = 1 .. N.

    Errors are in any unit, or 0 and 1. Among equal doubts the order is nobody's merit: their mean error stands for each,
    which is the expectation over a random order. Source: El-Yaniv and Wiener, JMLR 11, 2010. Raises ShapeError if the
    two do not match, ConfigError for a number that is not finite (an infinite doubt is allowed).
    """
    errors, doubt = np.asarray(errors, np.float64), np.asarray(doubt, np.float64)
    if errors.shape != doubt.shape or errors.ndim != 1 or not len(errors):
        raise ShapeError(f"risk: errors {errors.shape}, doubts {doubt.shape}; expected two of one length, (N,)")
    if not np.isfinite(errors).all() or np.isnan(doubt).any():
        raise ConfigError(
            f"risk: {int((~np.isfinite(errors)).sum())} errors not finite, {int(np.isnan(doubt).sum())} doubts NaN; "
            "expected numbers: leave out what has no error, give the rest a doubt"
        )
    _, place, count = np.unique(doubt, return_inverse=True, return_counts=True)
    mean = np.bincount(place, weights=errors) / count
    counts = np.arange(1, len(errors) + 1)
    return counts / len(errors), np.cumsum(np.repeat(mean, count)) / counts


def aurc(errors: np.ndarray, doubt: np.ndarray) -> float:
    """Area under the risk-coverage curve: the mean of the risk over k = 1 .. N. Less is better.

    Source: Geifman, Uziel and El-Yaniv, ICLR 2019. Arguments and errors as in `risk_coverage`.
    """
    return float(risk_coverage(errors, doubt)[1].mean())


def share_of_gap(errors: np.ndarray, doubt: np.ndarray) -> float:
    """(random - AURC) / (random - oracle): 1 for doubts that rank as the errors do, 0 for doubts of no use, below 0 worse.

    random: the mean error, which is the expected area in random order; oracle: the area if the errors themselves are
    the doubts. NaN if all errors are the same, where no order is better than another. Arguments and errors as in
    `risk_coverage`.
    """
    random, oracle = float(np.mean(errors)), aurc(errors, errors)
    found = aurc(errors, doubt)
    return (random - found) / (random - oracle) if random - oracle > 1e-12 * abs(random) else math.nan


def risk_at(errors: np.ndarray, doubt: np.ndarray, coverages: Sequence[float] = COVERAGES) -> dict[float, float]:
    """Coverage -> mean error of that share of the least doubtful, of ceil(coverage N); as in `risk_coverage`.

    Raises ConfigError, too, for a coverage that is not above 0 and at most 1.
    """
    _, risk = risk_coverage(errors, doubt)
    if not all(0 < coverage <= 1 for coverage in coverages):
        raise ConfigError(f"risk: got the coverages {tuple(coverages)}, expected each above 0 and at most 1")
    return {coverage: float(risk[math.ceil(round(coverage * len(risk), 9)) - 1]) for coverage in coverages}
