"""What does a model understand of the physical world? Matched quadruplets, and the baselines that keep the answer honest.

Relative accuracy asks which two of four clips are impossible, by mean surprise; who compares neighbouring frames is at
chance. The absolute figures ask it of one clip alone, by its largest surprise. After arXiv 1803.07616 and 2502.11831, but
nothing is chosen per property.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from foretell.evals.detect import auroc
from foretell.evals.intervals import Figure, bootstrap, share
from foretell.evals.judges import Judge, surprise_of_quadruplets
from foretell.surprise.calibrate import Calibration
from foretell.worlds.physics import Physics
from foretell.worlds.quadruplets import Quadruplet, quadruplet
from foretell.worlds.record import episode_seed

TIE = 1e-9
"""Share of the sum within which two sums of surprise are one: the order of adding changes the last digits."""
AT_ONCE = 20
"""Quadruplets of one property that are held in memory."""


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What one judge said of n quadruplets of one property."""

    surprise: np.ndarray
    """(4, n, T): of two possible and two impossible clips; NaN where a step was not scored."""
    shows: np.ndarray
    """int (n,): the first frame at which an impossible clip shows what cannot be."""

    @property
    def relative(self) -> np.ndarray:
        """(n,): 1 where the impossible two surprise more than the possible two, 0.5 for a tie, else 0."""
        sums = np.nansum(self.surprise, axis=2)
        more = (sums[2] + sums[3]) - (sums[0] + sums[1])
        return np.where(np.abs(more) <= TIE * sums.sum(0), 0.5, (more > 0).astype(float))

    @property
    def largest(self) -> np.ndarray:
        """(4, n): the largest surprise of each clip."""
        return np.asarray(np.nanmax(self.surprise, axis=2))

    @property
    def delays(self) -> np.ndarray:
        """int (2 n,): frames from the first that shows it to the peak of surprise from there on, impossible clips alone."""
        steps = np.arange(self.surprise.shape[2])
        after = np.where(steps >= self.shows[:, None], np.nan_to_num(self.surprise[2:], nan=-np.inf), -np.inf)
        return (after.argmax(2) - self.shows).ravel()

    def figures(self, calibration: Calibration | None, alpha: float) -> dict[str, Figure]:
        """relative, auroc, delay (frames), and given a calibration accuracy and caught (impossible clips that alarm)."""
        largest, n = self.largest, len(self.shows)
        abnormal = np.repeat([False, False, True, True], n)
        found = {
            "relative": share(self.relative),
            "auroc": bootstrap(lambda chosen: auroc(largest[:, chosen].ravel(), abnormal), n),
            "delay": bootstrap(lambda chosen: float(np.median(self.delays.reshape(2, n)[:, chosen])), n),
        }
        if calibration is not None:
            alarms = largest > calibration.threshold(alpha)
            found["caught"] = share(alarms[2:].ravel())
            found["accuracy"] = share(np.concatenate([~alarms[:2].ravel(), alarms[2:].ravel()]))
        return found


def examine(
    judges: Mapping[str, Judge], world: Physics, kind: str, count: int, seed: int, first: int = 0
) -> dict[str, Verdicts]:
    """What each judge says of the quadruplets `first` to `count` (not included) of one property.

    All see the same ones; each frame is looked at once.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in judges}
    shows: list[int] = []
    for at in range(first, count, AT_ONCE):
        fours = [quadruplet(world, kind, episode_seed(seed, i)) for i in range(at, min(count, at + AT_ONCE))]
        shows += [four.shows for four in fours]
        order = np.stack([four.order for four in fours])
        for name, judge in judges.items():
            parts[name].append(surprise_of_quadruplets(judge, [four.possible for four in fours], order))
    return {
        name: Verdicts(surprise=np.concatenate(of_judge, axis=1), shows=np.array(shows))
        for name, of_judge in parts.items()
    }


def example(world: Physics, kind: str, seed: int) -> Quadruplet:
    """The first quadruplet that `examine` takes, to be shown: not chosen."""
    return quadruplet(world, kind, episode_seed(seed, 0))
