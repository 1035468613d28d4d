"""Bands against their theory: coverage on exchangeable draws from both sides, and what they refuse."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from foretell.doubt.bands import Band, conformal_rank, fit_band, unit_scores
from foretell.errors import CalibrationError, CheckpointError, ConfigError, ShapeError

HORIZON, QUANTITIES = 5, 3


def futures(rng: np.random.Generator, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (N, H, Q) that go on from step to step, heavy-tailed, and spreads that know a part of them."""
    hard = rng.gamma(2.0, size=(units, 1, 1))
    walk = np.cumsum(rng.standard_t(4, size=(units, HORIZON, QUANTITIES)), axis=1)
    return walk * hard, hard * np.array([1.0, 2.0, 0.5]) * np.ones((units, HORIZON, 1))


@pytest.mark.parametrize(("units", "level"), [(19, 0.95), (60, 0.9), (137, 0.8)])
def test_coverage_meets_the_level_from_both_sides_jointly_and_step_by_step(units, level):
    rng, trials = np.random.default_rng(units), 3000
    jointly, by_step = 0, np.zeros(HORIZON)
    for _ in range(trials):
        residuals, sigma = futures(rng, units + 1)
        band = fit_band(residuals[:-1], sigma[:-1], level)
        low, high = band.interval(np.zeros((HORIZON, QUANTITIES)), sigma[-1])
        jointly += bool(((low <= residuals[-1]) & (residuals[-1] <= high)).all())
        low, high = band.interval(np.zeros((HORIZON, QUANTITIES)), sigma[-1], whole_horizon=False)
        by_step += ((low <= residuals[-1]) & (residuals[-1] <= high)).all(axis=1)
    noise = 4 * math.sqrt(level * (1 - level) / trials)
    for covered in (jointly, *by_step):
        assert level - noise <= covered / trials <= level + 1 / (units + 1) + noise


def test_step_by_step_bands_are_narrower_and_do_not_hold_jointly():
    rng = np.random.default_rng(0)
    band = fit_band(*futures(rng, 2000), 0.9)
    assert max(band.per_horizon) <= band.joint
    scores = unit_scores(*futures(rng, 4000))
    assert (scores <= np.array(band.per_horizon)).all(axis=1).mean() < 0.88
    assert (scores <= band.joint).all(axis=1).mean() == pytest.approx(0.9, abs=0.04)


def test_interval_by_hand():
    band = Band(level=0.9, units=9, joint=3.0, per_horizon=(1.0, 2.0))
    mean, sigma = np.array([[10.0, 20.0], [30.0, 40.0]]), np.array([[1.0, 2.0], [0.5, 1.0]])
    low, high = band.interval(mean, sigma)
    assert np.array_equal(low, [[7, 14], [28.5, 37]])
    assert np.array_equal(high, [[13, 26], [31.5, 43]])
    low, high = band.interval(np.stack([mean, mean]), np.stack([sigma, sigma]), whole_horizon=False)
    assert np.array_equal(low[1], [[9, 18], [29, 38]])
    assert low.shape == high.shape == (2, 2, 2)


def test_the_scale_of_the_spreads_does_not_change_the_band():
    residuals, sigma = futures(np.random.default_rng(1), 100)
    one, other = fit_band(residuals, sigma, 0.9), fit_band(residuals, sigma / 7, 0.9)
    assert other.joint == pytest.approx(7 * one.joint)


@pytest.mark.parametrize(
    ("units", "level", "rank"), [(9, 0.9, 9), (10, 0.9, 10), (99, 0.95, 95), (8, 0.9, 9), (999, 0.7, 700)]
)
def test_rank_is_exact_in_decimals(units, level, rank):
    assert conformal_rank(units, level) == conformal_rank(units, np.float64(level)) == rank


def test_too_few_units_are_refused_and_the_message_says_how_many_are_enough():
    residuals, sigma = futures(np.random.default_rng(0), 8)
    with pytest.raises(CalibrationError, match=r"got 8 calibration units, expected at least 9.*0\.8889"):
        fit_band(residuals, sigma, 0.9)
    residuals, sigma = futures(np.random.default_rng(0), 9)
    band = fit_band(residuals, sigma, 0.9)
    assert band.joint == unit_scores(residuals, sigma).max()


@pytest.mark.parametrize(
    ("what", "value"), [("residual", np.nan), ("spread", 0.0), ("spread", np.inf), ("spread", -1.0)]
)
def test_numbers_that_mean_nothing_are_refused(what, value):
    residuals, sigma = futures(np.random.default_rng(0), 20)
    (residuals if what == "residual" else sigma)[3, 1, 2] = value
    with pytest.raises(CalibrationError, match="1 of 600"):
        fit_band(residuals, sigma, 0.9)


def test_other_axes_and_levels_are_refused():
    residuals, sigma = futures(np.random.default_rng(0), 20)
    with pytest.raises(ShapeError, match=r"\(N, H, Q\)"):
        fit_band(residuals[0], sigma[0], 0.9)
    with pytest.raises(ShapeError, match=r"spreads \(19, 5, 3\)"):
        fit_band(residuals, sigma[:19], 0.9)
    with pytest.raises(ConfigError, match=r"as 0\.9 for 90%"):
        fit_band(residuals, sigma, 90)
    with pytest.raises(ShapeError, match="H = 5"):
        fit_band(residuals, sigma, 0.9).interval(residuals[0, :4], sigma[0, :4])


def test_a_band_comes_back_from_disk_and_shows_if_it_was_altered(tmp_path):
    band = fit_band(*futures(np.random.default_rng(3), 50), 0.9)
    band.save(tmp_path / "band.json")
    assert Band.load(tmp_path / "band.json") == band
    content = json.loads((tmp_path / "band.json").read_text())
    (tmp_path / "band.json").write_text(json.dumps(dict(content, joint=0.1)))
    with pytest.raises(CheckpointError, match=r"altered.*calibrate the bands again"):
        Band.load(tmp_path / "band.json")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Band.load(tmp_path / "none.json")
