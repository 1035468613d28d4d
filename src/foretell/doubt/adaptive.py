"""Bands on a stream that drifts: adaptive conformal inference. Numbers in, numbers out.

A fixed threshold keeps its promise only as long as the world stays as it was. Here the level itself is steered: after a
miss the next band is made wider, after a hit a little narrower,

    alpha_{t+1} = alpha_t + gamma (alpha - err_t),    err_t = 1 if s_t lay above the threshold, else 0,

and the threshold is the ceil((n + 1)(1 - alpha_t))-th smallest of the n past scores. Because the threshold is infinite
(nothing can miss) once alpha_t <= 0 and minus infinite (all misses) once alpha_t >= 1, alpha_t stays within
[-gamma, 1 + gamma], and summing the steps gives, for any stream whatever, even one made to fool it,

    |mean of err_1 .. err_T - alpha| <= (max(alpha, 1 - alpha) + gamma) / (gamma T).

This is a promise on the long run, not on any one step: right after a jump it misses until it has caught up. Source:
Gibbs and Candes, arXiv 2106.00660, Proposition 4.1.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable

from foretell.errors import ConfigError


class AdaptiveThreshold:
    """The threshold for the next score of a stream. A step costs a binary search and the move of half a sorted array.

    Memory is 8 bytes for each score that is kept, and as much again and more with a `window`.
    """

    def __init__(
        self, alpha: float, *, gamma: float = 0.01, scores: Iterable[float] = (), window: int | None = None
    ) -> None:
        """Aim at a share `alpha` of misses, beginning with the scores of calibration units, if any.

        gamma: how fast to follow; .005 to .05 is usual, and larger is quicker and less steady. window: how many of the
        latest scores count (those given at first too); None counts all. Raises ConfigError unless 0 < alpha < 1,
        gamma > 0 and window >= 1, or for a score that is NaN.
        """
        if not (0 < alpha < 1 and gamma > 0 and (window is None or window >= 1)):
            raise ConfigError(
                f"adaptive threshold: got alpha {alpha}, gamma {gamma}, window {window}; expected alpha between 0 and "
                "1, gamma above 0 (as 0.01), window 1 or more or none"
            )
        self.alpha, self.gamma = alpha, gamma
        self.alpha_now = alpha
        self.steps = self.misses = 0
        self._sorted = array("d")
        self._latest: deque[float] | None = None if window is None else deque(maxlen=window)
        for score in scores:
            self._keep(score)

    alpha_now: float
    """alpha_t: what the next band is made for. Below 0 after many misses, above 1 after many hits."""
    steps: int
    """T, the scores of the stream so far."""
    misses: int
    """How many of them lay above their threshold."""

    @property
    def threshold(self) -> float:
        """The next score is a hit up to this. inf if alpha_t is below 1 / (n + 1), -inf (an empty band) from 1 on.

        A band is the forecast plus and minus threshold times the stated spread.
        """
        rank = math.ceil((len(self._sorted) + 1) * (1 - self.alpha_now))
        if rank < 1:
            return -math.inf
        return math.inf if rank > len(self._sorted) else self._sorted[rank - 1]

    def add(self, score: float) -> bool:
        """Take in the next score; True if it lay above the threshold, a miss. Raises ConfigError for NaN."""
        score = _number(score)
        missed = score > self.threshold
        self.alpha_now += self.gamma * (self.alpha - missed)
        self.steps += 1
        self.misses += missed
        self._keep(score)
        return missed

    def bound(self, steps: int | None = None) -> float:
        """How far the share of misses may be from alpha after `steps` (so far, if not said), whatever comes."""
        steps = self.steps if steps is None else steps
        return (max(self.alpha, 1 - self.alpha) + self.gamma) / (self.gamma * max(steps, 1))

    def _keep(self, score: float) -> None:
        score = _number(score)
        if self._latest is not None:
            if len(self._latest) == self._latest.maxlen:
                del self._sorted[bisect_left(self._sorted, self._latest[0])]
            self._latest.append(score)
        insort(self._sorted, score)


def _number(score: float) -> float:
    if math.isnan(score):
        raise ConfigError("adaptive threshold: got the score NaN, expected a number: leave out steps without a score")
    return float(score)
