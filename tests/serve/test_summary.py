import json

import numpy as np
import pytest

from foretell.errors import CalibrationError
from foretell.serve.summary import (
    FileResult,
    WatchSummary,
    expected_by_chance,
    longer_than_calibrated,
    number,
    promise,
)
from foretell.surprise.calibrate import Calibration


def result(seconds, surprise=1.0):
    return FileResult(
        file="a.mp4",
        status="scored",
        note="",
        frames=10,
        seconds=seconds,
        max_surprise=surprise,
        max_surprise_s=0.0,
        p_value=0.5,
        alarm=False,
        first_alarm_s=None,
        first_alarm_frame=None,
        alarms=[],
        unknown=[],
        controls={},
    )


@pytest.fixture
def segments():
    return Calibration(scores=np.arange(500.0), unit="segment", unit_seconds=10.0, gap_seconds=2.0)


def test_the_promise_in_words(calibration, segments):
    assert promise(calibration, 0.05).words == "At most 5% of normal clips raise any alarm."
    assert promise(segments, 0.004).words == "At most 0.4% of normal 10-second segments raise any alarm."
    hourly = promise(segments, 1 / 360, asked_per_hour=True)
    assert hourly.words.startswith("At most 1 false alarm an hour of normal video")
    assert hourly.false_alarms_per_hour == pytest.approx(1)
    assert "not calibrated" in promise(None, None).words
    with pytest.raises(CalibrationError):
        promise(calibration, 0.001)


def test_what_chance_would_bring(calibration, segments):
    assert "about 5 alarms" in expected_by_chance(promise(calibration, 0.05), [result(2.0)] * 100)
    assert "about 5 alarms" in expected_by_chance(promise(calibration, 0.05), [result(0.5)] * 100)  # a clip is a clip
    assert "about 50 alarms" in expected_by_chance(promise(calibration, 0.05), [result(20.0)] * 100)
    assert "about 18 alarms" in expected_by_chance(promise(segments, 0.05), [result(3600.0)])
    assert "fewer than one" in expected_by_chance(promise(segments, 0.05), [result(100.0)])
    assert expected_by_chance(promise(None, None), [result(2.0)]) == ""


def test_files_longer_than_the_clips_of_the_calibration(calibration, segments):
    made = promise(calibration, 0.05)
    assert longer_than_calibrated(made, [result(2.5)]) == ""
    assert "2 of the files are longer" in longer_than_calibrated(made, [result(2.5), result(9.0), result(60.0)])
    assert longer_than_calibrated(promise(segments, 0.05), [result(9000.0)]) == ""


def test_a_number_that_is_not_finite_is_null(calibration):
    summary = WatchSummary(
        source="videos",
        created="today",
        promise=promise(calibration, 0.05),
        warnings=[],
        files=[result(2.0, surprise=float("inf"))],
        skipped=[],
        protocol={"x": float("nan")},
    )
    told = json.loads(summary.to_json())
    assert told["files"][0]["max_surprise"] is None
    assert told["protocol"]["x"] is None
    assert told["counts"]["scored"] == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (5.0, "5"),
        (1 / 3, "0.333"),
        (56.25, "56.2"),
        (1234.5, "1234"),
        (0.00123456, "0.00123"),
        (-2.5, "-2.5"),
    ],
)
def test_numbers_are_short(value, said):
    assert number(value) == said
