"""Does it mean what it says? Coverage and width of bands, calibration of forecasts and of probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foretell.errors import ConfigError, ShapeError
from foretell.evals.intervals import Figure, share

LEVELS = (np.arange(20) + 0.5) / 20
"""2.5%, 7.5%, .. 97.5%: the levels at which a forecast's distribution is held against what came."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often the truth lay inside, and how wide inside is."""

    per_horizon: list[Figure]
    """(H,) share of units with all quantities inside at this step."""
    joint: Figure
    """Share of units with all quantities inside at all steps."""
    width: np.ndarray
    """(H, Q) mean width, in the unit of each quantity."""
    by_slice: dict[str, Figure]
    """The joint share of each slice."""
    worst: str | None
    """The slice with the lowest joint share, of those with enough units; None if there is none."""


def coverage(
    truth: np.ndarray, low: np.ndarray, high: np.ndarray, slices: np.ndarray | None = None, *, fewest: int = 30
) -> Coverage:
    """Truth and band (N, H, Q), bounds count as inside; slices: (N,) a label for each unit (fast, hidden, ..).

    Conformal bands promise coverage on average over all units, not in a slice: the worst one shows who pays. The worst
    of many slices lies below the level by chance alone, so look at its interval; slices of less than `fewest` units are
    not considered. Raises ShapeError if the arrays do not match.
    """
    truth, low, high = (np.asarray(a, np.float64) for a in (truth, low, high))
    labels = np.asarray([] if slices is None else slices)
    if not truth.shape == low.shape == high.shape or truth.ndim != 3 or not truth.size:
        raise ShapeError(
            f"coverage: truth {truth.shape}, low {low.shape}, high {high.shape}; expected three of one shape (N, H, Q)"
        )
    if slices is not None and labels.shape != truth.shape[:1]:
        raise ShapeError(f"coverage: slices {labels.shape} for {len(truth)} units, expected one label a unit")
    inside = np.asarray(((low <= truth) & (truth <= high)).all(axis=2))
    jointly = np.asarray(inside.all(axis=1))
    by_slice = {str(label): share(jointly[labels == label]) for label in np.unique(labels)}
    large = {name: figure["value"] for name, figure in by_slice.items() if figure["n"] >= fewest}
    return Coverage(
        per_horizon=[share(of_step) for of_step in inside.T],
        joint=share(jointly),
        width=(high - low).mean(axis=0),
        by_slice=by_slice,
        worst=min(large, key=large.__getitem__, default=None),
    )


def regression_ece(pit: np.ndarray) -> float:
    """Mean over 20 levels p of |share of truths at or below the forecast's p-quantile - p|.

    0 is calibrated, .25 a truth that is always the median, .5 truths that all lie beyond on one side.

    pit (N,): the forecast's distribution function at what came, F(y); uniform if the forecasts are calibrated. Source:
    Kuleshov, Fenner and Ermon, ICML 2018. Raises ShapeError for other axes, ConfigError for values outside 0..1.
    """
    pit = np.asarray(pit, np.float64)
    if pit.ndim != 1 or not len(pit):
        raise ShapeError(f"regression ECE: got {pit.shape}, expected (N,), one value of F(y) a forecast")
    if not ((pit >= 0) & (pit <= 1)).all():
        raise ConfigError(f"regression ECE: got values from {pit.min()} to {pit.max()}, expected F(y) within 0..1")
    empirical = np.searchsorted(np.sort(pit), LEVELS, side="right") / len(pit)
    return float(np.abs(empirical - LEVELS).mean())


def brier(probabilities: np.ndarray, branch: np.ndarray) -> float:
    """Mean over forecasts of sum_k (p_k - [k came])^2: 0 is perfect, 2 is certain and wrong.

    probabilities (N, K), branch int (N,): which one came. Source: Brier, Monthly Weather Review 78, 1950. Raises
    ShapeError and ConfigError if these are not probabilities and their outcomes.
    """
    probabilities, branch = _branches(probabilities, branch)
    came = np.eye(probabilities.shape[1])[branch]
    return float(((probabilities - came) ** 2).sum(axis=1).mean())


def classification_ece(probabilities: np.ndarray, branch: np.ndarray, bins: int = 15) -> float:
    """Mean gap between how sure it was of its likeliest branch and how often that came, over `bins` bins of equal width.

    sum_b n_b / N |accuracy_b - confidence_b|; a confidence on an edge belongs to the bin below. Biased upwards where
    forecasts are few. Arguments and errors as in `brier`. Source: Guo et al., ICML 2017.
    """
    probabilities, branch = _branches(probabilities, branch)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == branch
    of_bin = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    gap = np.bincount(of_bin, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(branch))


def _branches(probabilities: np.ndarray, branch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities, branch = np.asarray(probabilities, np.float64), np.asarray(branch)
    if probabilities.ndim != 2 or branch.shape != probabilities.shape[:1] or not len(branch):
        raise ShapeError(f"probabilities {probabilities.shape}, outcomes {branch.shape}; expected (N, K) and (N,)")
    sums = probabilities.sum(axis=1)
    if not (probabilities >= 0).all() or not np.allclose(sums, 1, atol=1e-4):
        raise ConfigError(
            f"probabilities: lowest {probabilities.min():g}, sums from {sums.min():g} to {sums.max():g}; expected none "
            "below 0 and each row to sum to 1"
        )
    if not np.issubdtype(branch.dtype, np.integer) or branch.min() < 0 or branch.max() >= probabilities.shape[1]:
        raise ConfigError(f"outcomes: got {branch.dtype}, expected integers from 0 to {probabilities.shape[1] - 1}")
    return probabilities, branch
