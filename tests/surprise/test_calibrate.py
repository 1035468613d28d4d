"""Calibration against its theory: exact rank statistics, not only examples."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from foretell.errors import CalibrationError, CheckpointError, ConfigError
from foretell.surprise.calibrate import Calibration, calibrate, choose_unit, unit_maxima, units_needed


def make(scores, **changes) -> Calibration:
    return Calibration(**({"scores": np.asarray(scores), "unit": "clip", "unit_seconds": 4.0} | changes))


@pytest.mark.parametrize(("units", "alpha"), [(19, 0.05), (50, 0.05), (99, 0.1), (137, 0.013)])
def test_false_alarm_rate_meets_the_promise_from_both_sides(units, alpha):
    random, trials, steps = np.random.default_rng(units), 8000, 7
    normal = random.gamma(2.0, size=(trials, units + 1, steps)).max(axis=2)
    alarms = sum(unit[-1] > make(unit[:-1]).threshold(alpha) for unit in normal)
    noise = 4 * math.sqrt(alpha * (1 - alpha) / trials)
    assert alpha - 1 / (units + 1) - noise <= alarms / trials <= alpha + noise


def test_false_alarm_rate_given_one_calibration_set_is_beta_distributed():
    random, units, alpha = np.random.default_rng(0), 199, 0.1
    count = round(
        alpha * (units + 1)
    )  # scores above the threshold or at it: the rate is Beta(count, units + 1 - count)
    rates = [1 - make(random.random(units)).threshold(alpha) for _ in range(4000)]
    mean, variance = count / (units + 1), count * (units + 1 - count) / ((units + 1) ** 2 * (units + 2))
    assert np.mean(rates) == pytest.approx(mean, abs=4 * math.sqrt(variance / 4000))
    assert np.std(rates) == pytest.approx(math.sqrt(variance), rel=0.05)
    assert math.sqrt(variance) == pytest.approx(math.sqrt(alpha * (1 - alpha) / (units + 2)))


def test_p_values_of_normal_units_are_uniform_on_their_ranks():
    random, units = np.random.default_rng(1), 9
    draws = random.normal(size=(20000, units + 1))
    p_values = np.array([make(draw[:-1]).p_value(draw[-1:])[0] for draw in draws])
    share = np.array([(np.isclose(p_values, rank / 10)).mean() for rank in range(1, 11)])
    np.testing.assert_allclose(share, 0.1, atol=4 * math.sqrt(0.09 / 20000))


def test_threshold_and_p_value_are_two_forms_of_one_alarm():
    random = np.random.default_rng(2)
    for units in (1, 2, 9, 19, 20, 99, 100, 333):
        scores = random.integers(0, 12, size=units) / 8  # many ties
        calibration = make(scores)
        surprise = np.concatenate([scores, random.normal(1, 1, 40), [-np.inf, np.inf]])
        p_values = calibration.p_value(surprise)
        alphas = {k / 100 for k in range(1, 100)} | {k / (units + 1) for k in range(1, units + 1)} | {1 - 1e-12}
        alphas |= {math.nextafter(alpha, side) for alpha in set(alphas) for side in (0, 1)}
        for alpha in alphas:
            if units >= units_needed(alpha):
                np.testing.assert_array_equal(surprise > calibration.threshold(alpha), p_values <= alpha)
            else:
                assert not (p_values <= alpha).any()


def test_threshold_is_the_stated_order_statistic():
    scores = np.random.default_rng(3).permutation(np.arange(99.0))
    assert make(scores).threshold(0.05) == math.ceil(100 * 0.95) - 1  # scores count from 0
    assert make(scores).threshold(0.01) == 98


def test_more_surprise_is_never_more_normal():
    calibration, surprise = make([3.0, 1.0, 2.0, 2.0]), np.linspace(0, 4, 33)
    assert (np.diff(calibration.p_value(surprise)) <= 0).all()
    np.testing.assert_array_equal(calibration.p_value(np.array([0.5, 2.0, 2.5, 9.0])), [1.0, 0.8, 0.4, 0.2])
    thresholds = [calibration.threshold(alpha) for alpha in (0.2, 0.4, 0.6, 0.8)]
    assert thresholds == sorted(thresholds, reverse=True)


def test_what_was_not_scored_has_no_p_value():
    p_values = make([1.0, 2.0]).p_value(np.array([np.nan, 5.0, np.nan]))
    np.testing.assert_array_equal(np.isnan(p_values), [True, False, True])


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 19), (0.01, 99), (0.3, 3), (1 / 3, 2), (1 / 49, 48), (0.99, 1)])
def test_too_few_units_are_refused_with_the_number_needed(alpha, needed):
    assert units_needed(alpha) == needed
    make(np.arange(needed)).threshold(alpha)
    if needed > 1:
        with pytest.raises(CalibrationError, match=rf"got {needed - 1} calibration clips, expected at least {needed}:"):
            make(np.arange(needed - 1)).threshold(alpha)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, math.nan])
def test_impossible_alpha_is_refused(alpha):
    with pytest.raises(ConfigError, match="alpha"):
        make([1.0, 2.0]).threshold(alpha)


def test_false_alarms_per_hour_and_alpha_are_one_promise():
    calibration = make(np.arange(400), unit="segment", unit_seconds=10.0)
    assert calibration.alpha_for_false_alarms_per_hour(1) == pytest.approx(1 / 360)
    assert calibration.false_alarms_per_hour(1 / 360) == pytest.approx(1)
    assert units_needed(calibration.alpha_for_false_alarms_per_hour(1)) == 359
    for rate in (0, 360, 1000):
        with pytest.raises(ConfigError, match="less than 360, the segments of 10 s"):
            calibration.alpha_for_false_alarms_per_hour(rate)


def test_clips_are_units_of_their_own():
    units = unit_maxima(np.array([np.nan, np.nan, 1.0, 7.0, np.nan, 2.0]), fps=3, unit="clip")
    assert (units.maxima.tolist(), units.ends.tolist(), units.left_out) == ([7.0], [6], 0)
    for nothing in (np.full(5, np.nan), np.array([])):
        assert unit_maxima(nothing, fps=3, unit="clip").left_out == 1


def test_long_recordings_are_cut_into_full_segments_with_gaps():
    surprise = np.arange(24.0)
    surprise[:2] = np.nan  # the context
    surprise[11:15] = np.nan  # one whole segment not scored
    cut = {"fps": 2, "unit": "segment", "segment_seconds": 2.0, "gap_seconds": 0.5}
    units = unit_maxima(surprise, **cut)
    # segments at 2..5, 7..10, (12..15), 17..20; what is left from 22 on is too short
    assert (units.maxima.tolist(), units.left_out) == ([5.0, 10.0, 15.0, 20.0], 0)
    surprise[15] = np.nan
    units = unit_maxima(surprise, **cut)
    assert (units.maxima.tolist(), units.left_out) == ([5.0, 10.0, 20.0], 1)
    assert units.ends.tolist() == [6, 11, 21]
    for short in (np.arange(3.0), np.full(9, np.nan), np.array([])):
        assert (len(unit_maxima(short, **cut).maxima), unit_maxima(short, **cut).left_out) == (0, 1)
    with pytest.raises(ConfigError, match="a step or more"):
        unit_maxima(surprise, fps=2, unit="segment", segment_seconds=0.1)


def test_unit_follows_the_median_length():
    assert choose_unit([3, 9, 400]) == "clip"
    assert choose_unit([3, 11, 400]) == "segment"
    assert choose_unit([10.0]) == "clip"
    with pytest.raises(CalibrationError, match="no clips"):
        choose_unit([])


def test_calibrate_takes_a_folder_of_clips_or_a_long_recording():
    random = np.random.default_rng(4)
    clips = {"a.mp4": random.random(20), "b.mp4": random.random(30), "short.mp4": np.full(4, np.nan)}
    calibration = calibrate(clips, fps=10)
    assert (calibration.unit, calibration.names, calibration.left_out) == ("clip", ("a.mp4", "b.mp4"), 1)
    assert calibration.unit_seconds == pytest.approx(1.8)
    np.testing.assert_array_equal(calibration.scores, sorted([clips["a.mp4"].max(), clips["b.mp4"].max()]))
    assert calibration.overlap(["b.mp4", "new.mp4", "short.mp4"]) == ["b.mp4"]

    day = calibrate({"day.mp4": random.random(3600)}, fps=10, segment_seconds=8.0, gap_seconds=2.0)
    assert (day.unit, day.unit_seconds, day.gap_seconds, len(day.scores)) == ("segment", 8.0, 2.0, 36)
    with pytest.raises(CalibrationError, match="1 units left out"):
        calibrate({"short.mp4": np.full(4, np.nan)}, fps=10)
    with pytest.raises(CalibrationError, match="1 of them finite"):
        calibrate({"a.mp4": np.array([1.0]), "b.mp4": np.array([np.inf])}, fps=10)


def test_round_trip_is_exact(tmp_path):
    before = make(np.random.default_rng(5).normal(size=31), left_out=2, names=("Füchse/späte.mp4", "b.mp4"))
    before.save(tmp_path / "calibration.json")
    after = Calibration.load(tmp_path / "calibration.json")
    np.testing.assert_array_equal(before.scores, after.scores)
    for name in ("unit", "unit_seconds", "gap_seconds", "left_out", "names"):
        assert getattr(before, name) == getattr(after, name)
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"]


def _other_version(text: str) -> str:
    return json.dumps(dict(json.loads(text), version=9))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: "", "damaged"),
        (lambda text: "[1, 2]", "damaged"),
        (lambda text: '{"scores": [1]}', "damaged"),
        (lambda text: text.replace("0.125", "0.126"), "altered"),
        (_other_version, "got version 9, expected 1"),
    ],
)
def test_damage_is_named(tmp_path, damage, says):
    path = tmp_path / "calibration.json"
    make([0.125, 0.5]).save(path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(CheckpointError, match=rf"calibration\.json: {says}.*calibrate again"):
        Calibration.load(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"No such file.*calibrate again"):
        Calibration.load(tmp_path / "calibration.json")
