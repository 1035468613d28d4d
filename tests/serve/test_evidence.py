"""All that is watched as one stream: units as the calibration counts them, where the alarm was, what is said."""

from __future__ import annotations

import json

import numpy as np
import pytest

from foretell.doubt.martingale import StreamEvidence
from foretell.errors import ConfigError
from foretell.serve.evidence import Stream
from foretell.serve.watch import watch
from foretell.surprise.calibrate import Calibration


@pytest.fixture
def segments() -> Calibration:
    rng = np.random.default_rng(0)
    return Calibration(scores=rng.normal(size=500), unit="segment", unit_seconds=3.0, gap_seconds=1.0)


def test_segments_of_a_long_recording_count_in_order_and_the_alarm_is_placed(segments):
    rng = np.random.default_rng(1)
    scores = np.r_[rng.normal(size=200), rng.normal(size=50) + 4]
    surprise = np.full((250, 8), -100.0)  # at 2 steps a second: 6 steps a segment, 2 of a gap
    surprise[:, 3] = scores
    surprise[:, 7] = 1000  # in the gap: does not count
    surprise = np.r_[np.full(5, np.nan), surprise.ravel()]
    stream, beside = Stream(segments, 0.01, fps=2.0), StreamEvidence(segments.scores)
    stream.add("long.mp4", surprise)
    unit = next(unit for unit, score in enumerate(scores) if beside.add(score) >= np.log(100))
    found = stream.result()
    assert (found.units, found.left_out, found.alarm, found.alarm_file) == (250, 0, True, "long.mp4")
    assert 200 <= unit < 210
    assert found.alarm_s == (5 + 8 * unit + 6) / 2
    assert f"ALARM in long.mp4 at {found.alarm_s:.1f} s: it reached 100." in found.words
    assert "at most 10^" in found.words


def test_a_quiet_stream_over_several_files_says_so(segments):
    rng, stream = np.random.default_rng(2), Stream(segments, 0.05, fps=2.0)
    for i in range(20):
        surprise = np.full((10, 8), -100.0)
        surprise[:, 0] = rng.normal(size=10)
        stream.add(f"{i}.mp4", surprise.ravel())
    stream.add("short.mp4", np.zeros(3))
    found = stream.result()
    assert (found.units, found.left_out, found.alarm, found.alarm_file, found.alarm_s) == (200, 1, False, None, None)
    assert found.log10_evidence < 0 <= found.highest_log10_evidence < 1
    assert "never reached 20. If all of it is normal" in found.words
    assert found.words.endswith("is at most 5%.")


def test_a_file_longer_than_the_clips_of_the_calibration_is_no_unit(calibration):
    stream = Stream(calibration, 0.05, fps=10.0)
    stream.add("long.mp4", np.full(200, 1e6))
    found = stream.result()
    assert (found.units, found.left_out, found.alarm) == (0, 1, False)
    assert found.words.startswith("Nothing could be said")
    assert "1 longer than the clips of the calibration did not count" in found.words


def test_watching_tells_it_in_all_three_places_if_asked(film, tmp_path, scorer, calibration):
    for i in range(12):
        film(f"{i:02d}.mp4", [200 + i] * 15)
    settings = {"scorer": scorer, "calibration": calibration, "controls": {}, "progress": False}
    plain = watch(tmp_path / "videos", tmp_path / "plain", **settings)
    assert plain.stream is None
    assert "vidence" not in str(plain) + (tmp_path / "plain" / "report.html").read_text()
    summary = watch(tmp_path / "videos", tmp_path / "out", stream_alpha=0.01, **settings)
    assert summary.stream is not None
    assert summary.stream.units == 12
    assert summary.stream.alarm
    assert summary.stream.words in str(summary)
    assert "Evidence that this stream is no longer normal footage" in (tmp_path / "out" / "report.html").read_text()
    told = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert told["stream"]["alarm_s"] == 1.5
    assert told["protocol"]["stream"] == {"alpha": 0.01, "seed": 0}
    assert [file.max_surprise for file in summary.files] == [file.max_surprise for file in plain.files]


def test_it_needs_a_calibration_and_an_alpha(calibration):
    with pytest.raises(ConfigError, match=r"no calibration.*calibrate first"):
        Stream(None, 0.05, 10.0)
    with pytest.raises(ConfigError, match="alpha 5"):
        Stream(calibration, 5, 10.0)
