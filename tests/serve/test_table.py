import csv
import math

import numpy as np
import pytest

from foretell.serve.table import SurpriseTable, Track


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def written(tmp_path, calibration):
    """Write chunks of (surprise, seconds, steps) as one file and read the rows back."""

    def write(*chunks, name="a.mp4", calibrated=True):
        track = Track(calibration if calibrated else None, 0.05 if calibrated else None)
        with SurpriseTable(tmp_path / "t.csv") as table:
            table.begin(name, track)
            for surprise, seconds, steps in chunks:
                track.add(np.array(surprise, float), np.zeros(len(surprise)))
                table.add(np.array(seconds, float), np.array(steps, int))
            table.end()
        return rows_of(tmp_path / "t.csv"), table, track

    return write


def test_every_source_frame_has_a_row_with_the_score_of_its_step(written):
    rows, table, _ = written(([math.nan, 50, 97], [0, 0.04, 0.1, 0.14, 0.2, 0.24], [0, 0, 1, 1, 2, 2]))
    assert [row["frame"] for row in rows] == list("012345")
    assert [row["surprise"] for row in rows] == ["", "", "50", "50", "97", "97"]
    assert [row["p_value"] for row in rows] == ["", "", "0.51", "0.51", "0.04", "0.04"]
    assert [row["alarm"] for row in rows] == ["", "", "0", "0", "1", "1"]
    assert [row["time_s"] for row in rows] == ["0.0000", "0.0400", "0.1000", "0.1400", "0.2000", "0.2400"]
    assert table.frames == 6
    assert table.first_alarm is not None
    assert (table.first_alarm.frame, table.first_alarm.time_s) == (4, 0.2)


def test_a_frame_that_stands_for_several_steps_takes_the_highest(written):
    rows, *_ = written(([1, 2, 99, 3, 4, math.nan, 7], [0, 0.4, 0.5], [0, 4, 5]))
    assert [row["surprise"] for row in rows] == ["99", "4", "7"]
    assert [row["alarm"] for row in rows] == ["1", "0", "0"]


def test_chunks_change_nothing(written):
    surprise, seconds, steps = [5, 96, 7, 8, 9, 10], [0, 0.1, 0.11, 0.3, 0.35, 0.5], [0, 1, 1, 3, 3, 5]
    whole, *_ = written((surprise, seconds, steps))
    pieces, *_ = written(*(([a], [b], [c]) for a, b, c in zip(surprise, seconds, steps, strict=True)))
    late, *_ = written(([], seconds[:4], steps[:4]), (surprise, seconds[4:], steps[4:]))
    assert whole == pieces == late


def test_frames_whose_step_never_came_are_there_and_not_scored(written):
    rows, *_ = written(([1, 2], [0, 0.1, 0.2, 0.3], [0, 1, 2, 3]))
    assert [row["surprise"] for row in rows] == ["1", "2", "", ""]


def test_without_calibration_only_the_score_stands(written):
    rows, table, track = written(([math.nan, 500], [0, 0.1], [0, 1]), calibrated=False)
    assert [(row["surprise"], row["p_value"], row["alarm"]) for row in rows] == [("", "", ""), ("500", "", "")]
    assert table.first_alarm is None
    assert not track.alarms().any()
    assert track.threshold is None


@pytest.mark.parametrize("name", ['a,b "c".mp4', "größe/映像.mp4", "two\nlines.mp4"])
def test_any_name_comes_back(written, name):
    rows, *_ = written(([1], [0], [0]), name=name)
    assert rows[0]["file"] == name


def test_a_name_that_is_no_text_is_written_by_its_bytes(written):
    rows, *_ = written(([1], [0], [0]), name="bad\udcff.mp4")
    assert rows[0]["file"] == "bad\\udcff.mp4"


def test_an_alarm_is_exactly_a_score_above_the_line(calibration):
    track = Track(calibration, 0.05)
    scores = np.array([94.9, 95.0, 95.0001, math.nan, 200.0])
    track.add(scores, np.zeros(len(scores)))
    assert track.threshold == 95
    assert track.alarms().tolist() == (scores > 95).tolist() == [track.is_alarm(step) for step in range(5)]
    assert track.highest(0, 4) == 4
    assert track.highest(0, 2) == 2
    assert track.highest(3, 3) is None
