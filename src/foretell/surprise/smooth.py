"""Surprise averaged over time: a centred mean, streaming. What lasts stands out from what flickers, at a stated delay."""

from __future__ import annotations

import numpy as np

from foretell.errors import ConfigError


class Smoother:
    """The mean of each step's surprise and that of `steps` // 2 steps on both its sides, of one video.

    Steps that were not scored (NaN) count in no mean, but have one if a step beside them was. A value comes `steps` // 2
    steps late; at both ends of a video the mean is over the steps that there are. Raises ConfigError unless `steps` is odd.
    """

    def __init__(self, steps: int) -> None:
        if steps < 1 or steps % 2 == 0:
            raise ConfigError(f"smooth: got {steps} steps, expected an odd number, 1 for none")
        self.half = steps // 2
        self.known = np.empty(0)  # the last steps given; the first of them are there for the means of the others
        self.done = 0  # how many of them have had their mean

    def add(self, surprise: np.ndarray) -> np.ndarray:
        """surprise (T,) of the next steps -> means (T',) of all steps whose neighbours are known by now."""
        self.known = np.concatenate([self.known, np.asarray(surprise, np.float64)])
        return self._means(max(self.done, len(self.known) - self.half))

    def end(self) -> np.ndarray:
        """Means of the steps that still wait."""
        return self._means(len(self.known))

    def _means(self, until: int) -> np.ndarray:
        scored = ~np.isnan(self.known)
        total, count = (np.r_[0, np.cumsum(of)] for of in (np.where(scored, self.known, 0), scored))
        now = np.arange(self.done, until)
        first, last = np.maximum(now - self.half, 0), np.minimum(now + self.half + 1, len(self.known))
        known = count[last] - count[first]
        means = np.where(known > 0, (total[last] - total[first]) / np.maximum(known, 1), np.nan)
        forget = max(0, until - self.half)
        self.known, self.done = self.known[forget:], until - forget
        return means
