"""Bands around a future: how far from the forecast the truth will stay, at a stated level. Numbers in, numbers out.

A unit is a clip (or a start in it, one a clip): its forecast of Q quantities over H steps, and what came. Its score at
a step is the largest miss there, counted in the spread that the model stated: s_h = max_q |r_hq| / sigma_hq. One
quantile of max_h s_h gives a band that holds over the whole horizon at once, with no price for counting steps; one
quantile for each h gives narrower bands that hold each for its own step only. Both are split conformal: if a new unit
is as likely to rank anywhere among the n calibration units, the band holds with probability at least `level`, and less
than level + 1 / (n + 1) where no scores are tied. Given one calibration set, coverage itself is Beta distributed around
that: for n = 1,000 and 90%, within about 2 points. Source: Angelopoulos and Bates, arXiv 2107.07511; Stankeviciute et
al., NeurIPS 2021 (many steps); Diquigiovanni et al., Journal of Multivariate Analysis 189, 2022 (the maximum).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from foretell.errors import CalibrationError, ConfigError, ShapeError
from foretell.log import read_sealed, write_sealed

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Band:
    """How many stated spreads to leave on either side of a forecast. Made by `fit_band`."""

    level: float
    """The share of new units whose truth stays inside, at least."""
    units: int
    """How many calibration units it stands on."""
    joint: float
    """Spreads to leave so that the whole horizon, all quantities, stays inside."""
    per_horizon: tuple[float, ...]
    """(H,) spreads to leave so that all quantities stay inside at this one step."""

    def interval(
        self, mean: np.ndarray, sigma: np.ndarray, *, whole_horizon: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Forecast and stated spread (..., H, Q) -> low and high (..., H, Q), in the unit of the quantity.

        `whole_horizon` False gives the bands that hold step by step. Raises ShapeError for another horizon or shape.
        """
        mean, sigma = np.asarray(mean, np.float64), np.asarray(sigma, np.float64)
        if mean.shape != sigma.shape or mean.ndim < 2 or mean.shape[-2] != len(self.per_horizon):
            raise ShapeError(
                f"band: forecast {mean.shape}, spread {sigma.shape}; expected two of one shape (..., H, Q) with "
                f"H = {len(self.per_horizon)}, the horizon it was calibrated on"
            )
        half = (self.joint if whole_horizon else np.array(self.per_horizon)[:, None]) * sigma
        return mean - half, mean + half

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all. Raises DataError if it cannot be written."""
        content = asdict(self)
        write_sealed(path, dict(content, per_horizon=list(self.per_horizon)), VERSION)

    @classmethod
    def load(cls, path: Path) -> Band:
        """Read what `save` wrote. Raises CheckpointError if it is missing, altered or of another version."""
        content = read_sealed(path, VERSION, "a band", "calibrate the bands again")
        return cls(**dict(content, per_horizon=tuple(content["per_horizon"])))


def fit_band(residuals: np.ndarray, sigma: np.ndarray, level: float) -> Band:
    """Residuals (truth - forecast) and stated spreads (N, H, Q) of N calibration units -> the band at `level`.

    The spreads may be of any make and any scale, as long as they did not see these units: neither training nor
    what set their scale (train/quantities.py) may have used them. Raises ConfigError unless 0 < level < 1, ShapeError for other axes, and
    CalibrationError if the units are too few for the level, a number is not finite or a spread not above 0.
    """
    scores = unit_scores(residuals, sigma)
    units = len(scores)
    rank = conformal_rank(units, level)
    if rank > units:
        needed = math.ceil(1 / (1 - Fraction(str(float(level))))) - 1
        raise CalibrationError(
            f"bands at level {level:g}: got {units} calibration units, expected at least {needed}: calibrate on more "
            f"clips, or ask for level {units / (units + 1):.4g} or less"
        )
    per_horizon = np.sort(scores, axis=0)[rank - 1]
    joint = np.sort(scores.max(axis=1))[rank - 1]
    return Band(level=float(level), units=units, joint=float(joint), per_horizon=tuple(per_horizon.tolist()))


def unit_scores(residuals: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """(N, H, Q) residuals and spreads -> (N, H) max_q |r| / sigma. Raises ShapeError and CalibrationError."""
    residuals, sigma = _checked(residuals, sigma)
    return np.asarray((np.abs(residuals) / sigma).max(axis=2))


def conformal_rank(units: int, level: float) -> int:
    """ceil((n + 1) level): which of n scores in ascending order is the quantile; n + 1 says that they are too few.

    Exact, with the level as it is written in decimals: 0.9 of 10 is the 9th, whatever 0.9 is in binary. Raises
    ConfigError unless 0 < level < 1.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level: got {level}, expected more than 0 and less than 1, as 0.9 for 90%")
    return math.ceil((units + 1) * Fraction(str(float(level))))


def _checked(residuals: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    residuals, sigma = np.asarray(residuals, np.float64), np.asarray(sigma, np.float64)
    if residuals.shape != sigma.shape or residuals.ndim != 3 or not residuals.size:
        raise ShapeError(
            f"bands: residuals {residuals.shape}, spreads {sigma.shape}; expected two of one shape (N, H, Q): units, "
            "steps ahead, quantities"
        )
    bad = int((~np.isfinite(residuals)).sum()) + int((~(np.isfinite(sigma) & (sigma > 0))).sum())
    if bad:
        raise CalibrationError(
            f"bands: {bad} of {2 * residuals.size} residuals and spreads are not finite, or spreads not above 0: leave "
            "out units whose truth is unknown, and give every forecast a spread"
        )
    return residuals, sigma
