"""Figures of doubt on hand-made forecasts whose truth is known."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from foretell.evals.uncertainty import (
    Said,
    answer_figures,
    band_figures,
    odd_figures,
    reliability_curve,
    risk_curves,
    risk_figures,
    shell_figures,
)

LEVEL = 0.9


def gaussian(count: int = 4000, seed: int = 0, believed: float = 1.0) -> tuple[Said, np.ndarray]:
    """Forecasts of which the spread is right up to a factor, and the true deviations (N, H, Q)."""
    rng = np.random.default_rng(seed)
    true = np.exp(rng.normal(0, 0.7, (count, 1, 1))) * np.array([1.0, 2.0, 4.0])[:, None] * np.ones(2)
    truth = true * rng.standard_normal(true.shape)
    mean, spread = np.zeros_like(true), believed * true
    side = norm.ppf((1 + LEVEL ** (1 / 2)) / 2)
    whole = norm.ppf((1 + LEVEL ** (1 / 6)) / 2)
    said = Said(
        truth=truth,
        mean=mean,
        spread=spread,
        apart=0.1 * spread,
        each=(-side * spread, side * spread),
        joint=(-whole * spread, whole * spread),
        pit=norm.cdf(truth / spread),
        abstained=np.zeros((count, 3), bool),
        strange=rng.chisquare(9, count) / 9,
        shell=rng.random(count),
    )
    return said, true


def test_a_forecaster_that_is_right_is_the_oracle():
    said, true = gaussian()
    slices = np.where(true[:, 0, 0] > 1, "windy", "calm")
    figures = band_figures(said, slices, true, LEVEL)
    for step in (1, 2, 3):
        assert figures[f"coverage, step {step}"]["value"] == pytest.approx(0.9, abs=0.015)
        assert figures[f"width over oracle, step {step}"]["value"] == pytest.approx(1.0)
    assert figures["coverage, whole horizon"]["value"] == pytest.approx(0.9, abs=0.015)
    assert figures["calibration error"]["value"] < 0.01
    worst = next(name for name in figures if name.startswith("coverage, worst slice"))
    assert figures[worst]["value"] <= figures["coverage, whole horizon"]["value"] + 1e-9


def test_one_that_is_too_sure_is_found_out():
    said, true = gaussian(believed=0.5)
    figures = band_figures(said, np.zeros(len(true)), true, LEVEL)
    # 1.96 stated deviations are 0.98 true ones, of both quantities
    assert figures["coverage, step 2"]["value"] == pytest.approx((2 * norm.cdf(0.5 * 1.9488) - 1) ** 2, abs=0.02)
    assert figures["width over oracle, step 2"]["value"] == pytest.approx(0.5)
    assert figures["calibration error"]["value"] > 0.08
    stated, came = reliability_curve(said)
    assert (came[stated < 0.4] > stated[stated < 0.4]).all()


def test_doubt_that_knows_the_errors_closes_the_whole_gap_and_equal_doubt_none_of_it():
    said, _ = gaussian(600)
    perfect = dataclasses.replace(said, spread=np.abs(said.truth - said.mean))
    assert risk_figures(perfect, {})["gap closed, all steps"]["value"] == pytest.approx(1.0)
    same = dataclasses.replace(said, spread=np.ones_like(said.spread))
    assert risk_figures(same, {})["gap closed, all steps"]["value"] == pytest.approx(0.0, abs=1e-9)
    curves = risk_curves(perfect)
    np.testing.assert_allclose(curves["its doubt"][1], curves["oracle"][1])
    assert curves["random"][1] == pytest.approx(perfect.errors.mean())


def test_odd_clips_among_normal_ones_are_silenced_first_if_they_are_strange():
    said, _ = gaussian(600)
    far = dataclasses.replace(said, truth=said.truth + 30, strange=said.strange + 400, shell=said.shell + 1)
    figures = risk_figures(said, {"far": far})
    blind = risk_figures(said, {"far": dataclasses.replace(far, strange=said.strange)})
    name = "gap closed, odd clips among them"
    assert figures[name]["value"] > blind[name]["value"] + 0.1
    assert figures["gap closed, all steps"] == blind["gap closed, all steps"]
    ours, others = odd_figures(said, {"far": far})
    assert ours["AUROC, far"]["value"] == 1.0
    assert others["spread/AUROC, far"]["value"] == pytest.approx(0.5)
    assert shell_figures(said, {"far": far})["shell/AUROC, far"]["value"] == 1.0


def test_every_step_is_right_wrong_or_not_known():
    said, _ = gaussian(500)
    silent = np.zeros((500, 3), bool)
    silent[:100] = True
    figures = answer_figures(dataclasses.replace(said, abstained=silent))
    assert sum(figures[name]["value"] for name in ("right", "wrong", "abstained")) == pytest.approx(1.0)
    assert figures["abstained"]["value"] == pytest.approx(0.2)
