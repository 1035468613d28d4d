"""Is this stream still normal? Evidence that may be looked at after every step, for weeks, without voiding its promise.

A threshold held against a p-value at every step is certain to be crossed some day. Here a fortune of 1 bets, at fair
odds, that the next score will be high. Against a stream that is exchangeable with the normal scores it cannot be
expected to grow, and the chance that it EVER reaches 1 / alpha, at any time of a stream of any length, is at most alpha
(Ville's inequality). So: alarm once the evidence reaches 1 / alpha.

p-values. Score t is ranked among all that came before it, the calibration scores first and then the stream's own past:

    p_t = (#{s_i > s_t} + u_t #{s_i = s_t, i <= t}) / (n + t),    u_t uniform on (0, 1], drawn anew.

These are exactly independent and uniform if all n + t scores are exchangeable. Ranks among the n calibration scores
alone are not: they share one draw of those n. If they happen to lie low, every p-value is a little too small, and over a
long stream the bets compound that until the promise is broken. The price of the valid choice: what is new becomes
usual. A change must be caught while it is still rare among all that was seen; after that it counts as normal here.

Bets. Each step pays eps p^(eps - 1) for eps in BETS, with mean 1 over a uniform p, much for a small p. Money that is put
on an eps stays on it and compounds. Not all is bet at once, or the fortune would be gone before a late change: what is
left in the safe after t steps is 1 / log2(2 + t), so a change at step t costs about ln t + 2 ln ln t nats more than one
at the start, not a number of nats that grows with t. It is a mixture of power martingales, one begun at every step:
Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2nd ed. 2022), chapters 8 and 9 (algorithm 9.4,
Sleeper/Stayer, empties its safe at a constant rate).

What is promised on exchangeable scores is not promised on scores that depend on their neighbours: give it one score a
unit (foretell.surprise.calibrate), with gaps, of the same camera as the calibration, not one a frame.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import numpy as np

from foretell.errors import ConfigError

BETS = np.arange(1, 10) / 10
"""eps: low ones win on p-values near 0, high ones on a slight shift."""


class OnlineRanks:
    """p-values of a stream, each ranked among all scores before it. The first ones are those of normal units, if any.

    Scores are kept in order, 8 bytes each: a week of one score every 10 s is .5 MB. A step is a binary search and the
    move of half of them: microseconds after a week, a millisecond once there are some millions.
    """

    def __init__(self, normal: Iterable[float] = (), *, seed: int = 0) -> None:
        """seed: of the draws that break ties; choose it before looking at the stream. Raises ConfigError for NaN."""
        self._sorted = array("d", sorted(_number(score) for score in normal))
        self._random = np.random.default_rng(seed)

    def add(self, score: float) -> float:
        """Take in the next score; its p-value in (0, 1], small for a high score. Raises ConfigError for NaN."""
        score = _number(score)
        first, end = bisect_left(self._sorted, score), bisect_right(self._sorted, score)
        above, tied = len(self._sorted) - end, 1 + end - first
        self._sorted.insert(end, score)
        return (above + (1 - self._random.random()) * tied) / len(self._sorted)


class StreamEvidence:
    """Evidence that a stream is no longer exchangeable with normal scores, towards higher ones."""

    def __init__(self, normal: Iterable[float] = (), *, seed: int = 0) -> None:
        """Begin with the scores of normal units; without any, only a change within the stream can be seen.

        Arguments and errors are those of OnlineRanks.
        """
        self._ranks = OnlineRanks(normal, seed=seed)
        self._on_bets = np.full(len(BETS), -math.inf)
        self.steps, self.log_evidence, self.highest_log_evidence = 0, 0.0, 0.0

    steps: int
    """Scores of the stream so far."""
    log_evidence: float
    """Natural logarithm of the fortune now, which was 1 at the start."""
    highest_log_evidence: float
    """The highest that it has been: alarms do not go away."""

    def add(self, score: float) -> float:
        """Take in the next score of the stream; the natural logarithm of the evidence. Raises ConfigError for NaN."""
        p = self._ranks.add(score)
        stake = (safe(self.steps) - safe(self.steps + 1)) / len(BETS)
        self.steps += 1
        self._on_bets = np.logaddexp(self._on_bets, math.log(stake)) + log_rewards(p)
        self.log_evidence = float(np.logaddexp.reduce(self._on_bets, initial=math.log(safe(self.steps))))
        self.highest_log_evidence = max(self.highest_log_evidence, self.log_evidence)
        return self.log_evidence

    def alarm(self, alpha: float) -> bool:
        """Whether the evidence has ever reached 1 / alpha. Raises ConfigError unless 0 < alpha < 1.

        If the stream is normal this is ever so with probability at most alpha, however long one watches.
        """
        if not 0 < alpha < 1:
            raise ConfigError(f"alpha: got {alpha}, expected more than 0 and less than 1")
        return self.highest_log_evidence >= -math.log(alpha)


def log_rewards(p: np.ndarray | float) -> np.ndarray:
    """p-values (...) in (0, 1] -> (..., K) logarithm of what each bet pays for 1: ln eps + (eps - 1) ln p."""
    return np.asarray(np.log(BETS) + (BETS - 1) * np.log(p)[..., None])


def safe(steps: int) -> float:
    """What is not yet bet after so many steps: 1 / log2(2 + t), so 1 at first, and some is left at any time."""
    return 1 / math.log2(2 + steps)


def _number(score: float) -> float:
    if math.isnan(score):
        raise ConfigError("stream evidence: got the score NaN, expected a number: leave out units without a score")
    return float(score)
