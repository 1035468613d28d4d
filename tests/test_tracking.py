"""A stream, foretold: no step twice, what is learned from, and the promise under drift."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretell.doubt.adaptive import AdaptiveThreshold
from foretell.model.quantities import Mixture
from foretell.serve.tracked import Step
from foretell.tracking import AT_ONCE, judged, stretches
from foretell.train.forecaster import Forecast
from foretell.train.quantities import Told

HORIZON = 3


def said(count: int, abstained: np.ndarray) -> Forecast:
    """All means 0, all spreads 2."""
    mean, spread = np.zeros((count, HORIZON, 1)), np.full((count, HORIZON, 1), 2.0)
    nothing = Mixture(torch.zeros(0), torch.zeros(0), torch.zeros(0))
    return Forecast(mean, spread, -spread, spread, mean, abstained, np.ones(count), nothing)


def told(truth: np.ndarray) -> Told:
    empty = torch.zeros(len(truth))
    return Told(seen=empty, said=empty, next=empty, pictures=empty, truth=torch.from_numpy(truth), clip=empty)


def follow(truth: np.ndarray, abstained: np.ndarray, follows: AdaptiveThreshold) -> list[Step]:
    return list(judged("a.mp4", 8, said(len(truth), abstained), told(truth), follows))


@pytest.mark.parametrize("length", [5, 11, 12, 200, 8 + 3 * AT_ONCE, 9 + 3 * AT_ONCE, 1000])
def test_every_step_after_the_first_ones_is_foretold_once(length: int) -> None:
    frames, truth = np.arange(length), np.arange(length)[:, None]
    foretold = []
    for first, (piece, rows) in stretches(frames, truth, 8, HORIZON):
        np.testing.assert_array_equal(piece, rows[:, 0])
        for start in range(0, len(piece) - 8 - HORIZON + 1, HORIZON):  # as windows are cut
            assert piece[start + 8] == first + start
            foretold += piece[start + 8 : start + 8 + HORIZON].tolist()
    assert foretold == list(range(8, 8 + len(foretold)))
    assert len(foretold) == max(0, (length - 8) // HORIZON * HORIZON)


def test_it_learns_from_the_largest_miss_of_what_was_claimed_and_known() -> None:
    truth = np.array([[1.0, -3, 2], [1, np.nan, 1], [50, 50, 1], [9, 9, 9]])[:, :, None]
    abstained = np.array([[False] * 3, [False] * 3, [True, True, False], [True] * 3])
    follows = AdaptiveThreshold(0.2, scores=[1.0] * 10)
    found = follow(truth, abstained, follows)
    assert [step.first for step in found] == [8, 11, 14, 17]
    assert [step.miss for step in found] == [1.5, None, 0.5, None]
    assert [step.missed for step in found] == [True, None, False, None]
    assert follows.steps == 2
    assert [step.spreads for step in found] == [1.0] * 4


def test_an_empty_band_is_not_everything() -> None:
    """After many hits everything misses, after many misses nothing does: one is told and the other is not."""
    follows = AdaptiveThreshold(0.5, gamma=1.0, scores=[1.0] * 10)
    found = follow(np.zeros((3, HORIZON, 1)), np.zeros((3, HORIZON), bool), follows)
    assert [step.spreads for step in found] == [1.0, -np.inf, 1.0]
    assert [step.missed for step in found] == [False, True, False]


def test_the_share_inside_is_kept_where_errors_grow_threefold() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 2, (4000, HORIZON, 1)) * np.where(np.arange(4000) < 2000, 1, 3)[:, None, None]
    usual = np.abs(rng.normal(0, 1, (500, HORIZON))).max(1)
    follows = AdaptiveThreshold(0.1, gamma=0.02, scores=usual)
    found = follow(truth, np.zeros((4000, HORIZON), bool), follows)
    missed = np.array([step.missed for step in found])
    assert abs(missed.mean() - 0.1) <= follows.bound()
    assert abs(missed[2200:].mean() - 0.1) < 0.02
    fixed = np.array([step.miss for step in found]) > np.quantile(usual, 0.9)
    assert fixed[2200:].mean() > 0.6
