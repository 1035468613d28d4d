"""How well do scores tell abnormal from normal? Ranks alone, no threshold."""

from __future__ import annotations

import numpy as np

from foretell.errors import ShapeError


def auroc(scores: np.ndarray, abnormal: np.ndarray) -> float:
    """Area under the ROC curve: the chance that an abnormal one scores above a normal one, ties count half.

    scores (N,) finite, abnormal bool (N,). The Mann-Whitney statistic over its maximum. Raises ShapeError if the two do
    not match, or one of the two kinds is missing.
    """
    scores, abnormal = np.asarray(scores, np.float64), np.asarray(abnormal, bool)
    positive, negative = int(abnormal.sum()), int((~abnormal).sum())
    if scores.shape != abnormal.shape or scores.ndim != 1 or not positive or not negative:
        raise ShapeError(
            f"auroc: scores {scores.shape}, labels {abnormal.shape} with {positive} abnormal and {negative} normal; "
            "expected two of one length and at least one of each kind"
        )
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((rank[abnormal].sum() - positive * (positive + 1) / 2) / (positive * negative))
