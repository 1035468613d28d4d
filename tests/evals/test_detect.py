"""AUROC against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.errors import ShapeError
from foretell.evals.detect import auroc


def test_is_the_chance_that_an_abnormal_one_scores_higher() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 12, 83).astype(float)  # with ties
    abnormal = rng.random(83) < 0.3
    pairs = np.sign(scores[abnormal][:, None] - scores[~abnormal][None])
    assert auroc(scores, abnormal) == pytest.approx((pairs.mean() + 1) / 2, abs=1e-12)


def test_separated_and_constant_scores() -> None:
    abnormal = np.array([False, False, True, True, True])
    assert auroc(np.arange(5.0), abnormal) == 1.0
    assert auroc(-np.arange(5.0), abnormal) == 0.0
    assert auroc(np.ones(5), abnormal) == 0.5


@pytest.mark.parametrize(
    ("scores", "abnormal"),
    [(np.ones(3), [True] * 3), (np.ones(3), [True, False]), (np.ones((2, 2)), [[True, False]] * 2)],
)
def test_refuses_what_has_no_answer(scores: np.ndarray, abnormal: list) -> None:
    with pytest.raises(ShapeError):
        auroc(scores, np.array(abnormal))
