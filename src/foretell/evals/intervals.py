"""How sure is a figure? 95% intervals of shares and of anything that can be drawn anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Figure = dict[str, float | int]
"""value, low, high, n: the form of a figure in a result file."""
Z = 1.959963984540054


def share(outcomes: Sequence[float] | np.ndarray) -> Figure:
    """The mean of outcomes in 0..1 (n,) with Wilson's interval, which holds at 0 and at 1, too (JASA 22, 1927)."""
    outcomes = np.asarray(outcomes, np.float64)
    n, mean = len(outcomes), float(outcomes.mean())
    centre = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2))
    return {"value": mean, "low": max(0.0, centre - half), "high": min(1.0, centre + half), "n": n}


def exact_share(hits: int, n: int, level: float = 0.95) -> Figure:
    """A share of n with its exact interval (Clopper and Pearson, Biometrika 26, 1934), for what must be rare.

    By bisection of the binomial's tails: 0 of n is known to be below 1 - ((1 - level) / 2) ** (1 / n).
    """

    def tail(p: float, least: int) -> float:
        """Probability of `least` or more hits."""
        logs = [
            math.lgamma(n + 1)
            - math.lgamma(k + 1)
            - math.lgamma(n - k + 1)
            + k * math.log(p)
            + (n - k) * math.log1p(-p)
            for k in range(least, n + 1)
        ]
        return sum(map(math.exp, logs))

    def solve(least: int, aim: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if tail(middle, least) < aim else (low, middle)
        return low

    off = (1 - level) / 2
    low = 0.0 if hits == 0 else solve(hits, off)
    high = 1.0 if hits == n else solve(hits + 1, 1 - off)
    return {"value": hits / max(n, 1), "low": low, "high": high, "n": n}


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, *, draws: int = 300, seed: int = 0) -> Figure:
    """`statistic` of the indices 0 .. n-1, and between which values it lies when units are drawn anew (percentiles)."""
    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.integers(n, size=n)) for _ in range(draws)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {"value": statistic(np.arange(n)), "low": float(low), "high": float(high), "n": n}
