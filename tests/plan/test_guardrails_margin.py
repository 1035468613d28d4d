"""Margins against their theory: they hold as often as promised, over all steps and constraints at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from foretell.errors import CalibrationError, CheckpointError, ConfigError, ShapeError
from foretell.plan.constraints import Constraints
from foretell.plan.margin import Margin, band, calibrate_margin, margin
from tests.plan.rails import guardrails


@pytest.mark.parametrize(("plans", "delta"), [(9, 0.1), (20, 0.1), (57, 0.05), (199, 0.02)])
def test_coverage_meets_the_promise_from_both_sides(plans, delta):
    random, trials = np.random.default_rng(plans), 4000
    scores = random.gamma(2.0, size=(trials, plans + 1))
    beyond = np.mean([row[-1] > margin(row[:-1], delta) for row in scores])
    noise = 4 * math.sqrt(delta * (1 - delta) / trials)
    assert delta - 1 / (plans + 1) - noise <= beyond <= delta + noise


def test_the_band_holds_over_the_whole_horizon_and_all_constraints_at_once():
    """Errors that grow over the horizon, of two units, correlated: a new plan breaks any of them as seldom as promised."""
    random, trials, plans, delta = np.random.default_rng(0), 1500, 80, 0.1
    size = np.array([1.0, 2.0, 4.0])[:, None] * np.array([1.0, 50.0])
    errors = random.normal(size=(trials, plans + 1, 3, 2)).cumsum(2) * size + 0.5 * size
    beyond, one = 0, 0
    for plan in errors:
        room, count = band(plan[:-1], delta)
        assert count == 60
        beyond += (plan[-1] > room).any()
        one += plan[-1][0, 0] > room[0, 0]
    noise = 4 * math.sqrt(delta * (1 - delta) / trials)
    assert delta - 1 / 61 - noise <= beyond / trials <= delta + noise
    assert one < beyond / 2, "a band over all costs more room than one for a single step"
    assert (room[2] > 1.5 * room[0]).all()
    assert (room[:, 1] > 20 * room[:, 0]).all()


def test_margins_from_quantities_cover_what_lines_between_steps_leave_out():
    random = torch.Generator().manual_seed(0)
    constraints = Constraints(guardrails(), ("x", "y", "clearance"))
    frames = 20 + torch.randn(200, 6, 3, generator=random).cumsum(1)
    now, foretold = frames[:, 0], frames[:, [2, 5]] + 0.1 * torch.randn(200, 2, 3, generator=random)
    made = calibrate_margin(constraints, now, foretold, frames, 0.1, "recorded")
    assert (made.steps, made.plans, made.source, made.constraints) == (2, 150, "recorded", constraints.names)
    fresh = 20 + torch.randn(4000, 6, 3, generator=random).cumsum(1)
    said = fresh[:, [2, 5]] + 0.1 * torch.randn(4000, 2, 3, generator=random)
    worse = constraints.worst_frames(fresh, 3) - constraints.between(fresh[:, 0], said, 3)
    beyond = (worse > torch.tensor(made.room)).any(-1).any(-1).double().mean()
    assert 0.02 < beyond < 0.18  # given one calibration set it is a Beta draw, of deviation 0.025
    with pytest.raises(ShapeError, match="expected"):
        calibrate_margin(constraints, now, foretold, frames[:, :5], 0.1, "recorded")
    with pytest.raises(CalibrationError, match="1 of 200 plans"):
        calibrate_margin(constraints, now, foretold.index_fill(0, torch.tensor([3]), torch.nan), frames, 0.1, "planned")


def test_room_is_never_less_than_none():
    room, _ = band(-5 - np.random.default_rng(0).random((40, 2, 3)), 0.1)
    np.testing.assert_array_equal(room, 0)


def test_a_place_without_errors_does_not_stretch_the_rest():
    worse = np.random.default_rng(0).normal(size=(400, 3, 2))
    plain, _ = band(worse, 0.1)
    still = worse.copy()
    still[::4, 0, 0] = 0  # where sizes are told; those that calibrate do err there, a little
    still[:, 0, 0] *= 1e-3
    stretched, _ = band(still, 0.1)
    assert (stretched[1:] < 1.5 * plain[1:]).all()


def test_too_few_plans_are_refused_with_the_number_needed():
    with pytest.raises(CalibrationError, match=r"delta 0.05: got 18 plans, expected at least 19 .*delta 0.05263 or"):
        margin(np.arange(18.0), 0.05)
    assert margin(np.arange(19.0), 0.05) == 18
    assert margin(np.arange(20.0)[::-1], 0.1) == 18
    with pytest.raises(
        CalibrationError, match="got 15 plans, expected at least 19 for calibration, so about 27 in all"
    ):
        band(np.zeros((20, 2, 1)), 0.05)
    band(np.zeros((27, 2, 1)), 0.05)
    for delta in (0, 1, math.nan):
        with pytest.raises(ConfigError):
            margin(np.arange(9.0), delta)


def test_margins_come_back_as_they_were_and_damage_is_named(tmp_path):
    made = Margin(room=((0.1, 2.0), (0.3, 1e-7)), delta=0.05, plans=40, source="planned", constraints=("a", "b"))
    made.save(tmp_path / "margin.json")
    assert Margin.load(tmp_path / "margin.json") == made
    text = (tmp_path / "margin.json").read_text()
    for damaged, says in (
        (text.replace("2.0", "1.0"), "altered"),
        (text.replace("planned", "recorded"), "altered"),
        (text[:50], "damaged"),
        ("[]", "damaged"),
        (text.replace('"version": 1', '"version": 7'), "got version 7"),
    ):
        (tmp_path / "margin.json").write_text(damaged)
        with pytest.raises(CheckpointError, match=rf"{says}.*calibrate the margins again"):
            Margin.load(tmp_path / "margin.json")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Margin.load(tmp_path / "none.json")
