import csv
import errno
import json
import os
from pathlib import Path

import av
import numpy as np
import pytest

from foretell.data.clip import View
from foretell.data.writers import write_video
from foretell.errors import CalibrationError, ConfigError, DataError
from foretell.serve import watch as module
from foretell.serve.watch import watch
from foretell.surprise.calibrate import Calibration


@pytest.fixture
def run(tmp_path, scorer, calibration, strangeness):
    """Watch videos/ into out/ and give (summary, rows of the table by file)."""

    def go(**changes):
        settings = {"scorer": scorer, "calibration": calibration, "strangeness": strangeness}
        settings |= {"controls": {}, "progress": False} | changes
        summary = watch(tmp_path / "videos", tmp_path / "out", **settings)
        with (tmp_path / "out" / "surprise.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return summary, {one.file: [row for row in rows if row["file"] == one.file] for one in summary.files}

    return go


def summary_file(tmp_path):
    return json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))


def of(summary, name):
    return next(one for one in summary.files if one.file == name)


def test_an_alarm_is_found_where_it_is(run, film, tmp_path):
    film("calm.mp4", [30] * 40)
    film("flash.mp4", [30] * 20 + [200] * 3 + [30] * 4 + [210] * 2 + [30] * 25 + [220] * 3 + [30] * 5)
    summary, rows = run()
    calm, flash = of(summary, "calm.mp4"), of(summary, "flash.mp4")
    assert (calm.alarm, calm.first_alarm_s, calm.first_alarm_frame, calm.alarms) == (False, None, None, [])
    assert (flash.alarm, flash.first_alarm_s, flash.first_alarm_frame) == (True, 2.0, 20)
    assert flash.alarms == [(2.0, 2.9), (5.4, 5.7)]  # less than a second apart is one
    assert flash.p_value == pytest.approx(0.01)
    assert flash.max_surprise_s in (5.4, 5.5, 5.6)
    assert [row["alarm"] for row in rows["flash.mp4"]].count("1") == 8
    assert summary.counts["with_alarm"] == 1
    told = summary_file(tmp_path)
    assert told["promise"]["words"] == "At most 5% of normal clips raise any alarm."
    assert told["promise"]["threshold"] == 95
    assert told["protocol"]["model"]["units"] == 99
    assert told["protocol"]["view"] == {"height": 32, "width": 48, "fps": 10.0, "fit": "letterbox"}
    assert told["protocol"]["foretell"]
    assert told["files"][1]["first_alarm_frame"] == 20
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "summary.json", "surprise.csv"]


def test_what_is_unlike_anything_normal_is_not_known(run, film, tmp_path):
    film("calm.mp4", [30] * 40)
    film("dark.mp4", [30] * 20 + [2] * 10 + [30] * 10)
    film("both.mp4", [30] * 10 + [2] * 10 + [200] * 10)
    summary, rows = run()
    calm, dark, both = (of(summary, name) for name in ("calm.mp4", "dark.mp4", "both.mp4"))
    assert (calm.alarm, calm.unknown) == (False, [])
    assert (dark.alarm, dark.p_value, dark.unknown) == (None, None, [(2.0, 3.0)])
    assert (both.alarm, both.unknown) == (True, [(1.0, 2.0)])
    told = [(row["p_value"] != "", row["alarm"]) for row in rows["dark.mp4"]]
    assert told == [(False, "")] * 2 + [(True, "0")] * 18 + [(False, "")] * 10 + [(True, "0")] * 10
    assert all(row["surprise"] for row in rows["dark.mp4"][2:])  # still scored, and not called normal
    assert {row["alarm"] for row in rows["both.mp4"][20:]} == {"1"}
    assert summary.counts["not_known"] == 2
    assert "I don't know: 2 of 3 files are in part unlike anything normal, first both.mp4 from 1.0 s" in str(summary)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Not known from 2 s" in page
    assert page.count('<rect class="unknown"') == 2
    assert summary_file(tmp_path)["protocol"]["strangeness"]["threshold"] == 240


@pytest.mark.parametrize("units", [0, 18])
def test_a_model_that_cannot_say_that_it_does_not_know_says_so(run, film, strangeness, units):
    film("dark.mp4", [30] * 20 + [2] * 10)
    too_few = Calibration(scores=strangeness.scores[:units], unit="clip", unit_seconds=2.0) if units else None
    summary, _ = run(strangeness=too_few)
    assert summary.files[0].unknown == []
    assert "cannot say that it does not know" in summary.warnings[0]


def test_the_table_has_exactly_these_columns(run, film, tmp_path):
    film("a.mp4", [30] * 12)
    run()
    head = (tmp_path / "out" / "surprise.csv").read_text().splitlines()[0]
    assert head == "file,frame,time_s,surprise,p_value,alarm"


@pytest.mark.parametrize("fps", [4.0, 10.0, 25.0, 29.97])
def test_every_source_frame_has_a_row_at_any_rate(run, film, fps):
    """The brightness of a frame is its score, so a row tells which frame it took its score from."""
    brightness = np.linspace(20, 220, 60).astype(int)
    path = film("a.mp4", brightness, fps)
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    _, rows = run()
    table = rows["a.mp4"]
    assert [int(row["frame"]) for row in table] == list(range(60)) == list(range(len(times)))
    assert np.allclose([float(row["time_s"]) for row in table], times, atol=1e-3)
    scored = [(int(row["frame"]), float(row["surprise"])) for row in table if row["surprise"]]
    assert len(scored) >= 60 - 2 * max(1, fps / 10) - 1
    apart = 1 + np.ceil(max(fps / 10, 10 / fps))
    for frame, surprise in scored:
        assert abs(surprise - brightness[frame]) <= apart * np.diff(brightness).max() + 4


def test_steps_before_the_context_are_empty_not_zero(run, film):
    film("a.mp4", [30] * 10)
    _, rows = run()
    assert [row["surprise"] == "" for row in rows["a.mp4"]] == [True, True] + [False] * 8
    assert [(row["p_value"], row["alarm"]) for row in rows["a.mp4"][:2]] == [("", "")] * 2


def test_smoothed_scores_stand_by_their_own_frames(run, film, scorer):
    film("a.mp4", [30] * 20 + [210] * 3 + [30] * 20)
    scorer.smooth = 3
    _, rows = run()
    found = [float(row["surprise"]) for row in rows["a.mp4"] if row["surprise"]]
    expected = [30.0] * 18 + [90, 150, 210, 150, 90] + [30] * 19  # and one more than was scored, from its neighbour
    np.testing.assert_allclose(found, expected, atol=5)


def test_what_cannot_be_read_is_named_and_the_rest_is_watched(run, film, tmp_path):
    film("good.mp4", [30] * 80)
    noise = np.random.default_rng(0).integers(0, 80, (80, 32, 48, 3), np.uint8)
    write_video(tmp_path / "videos" / "half.mp4", noise, 10)
    half = (tmp_path / "videos" / "half.mp4").read_bytes()
    (tmp_path / "videos" / "empty.mp4").write_bytes(b"")
    (tmp_path / "videos" / "half.mp4").write_bytes(half[: len(half) * 3 // 5])
    (tmp_path / "videos" / "notes.txt").write_text("not a video")
    summary, rows = run()
    assert {one.file for one in summary.skipped} == {"empty.mp4", "notes.txt"}
    assert all(one.reason and "/" not in one.reason for one in summary.skipped)
    assert len(rows["good.mp4"]) == 80
    broken = of(summary, "half.mp4")
    assert 0 < len(rows["half.mp4"]) < 80
    assert broken.status == "scored"
    assert "Read up to" in broken.note
    page = (tmp_path / "out" / "report.html").read_text()
    assert "empty.mp4" in page
    assert "notes.txt" in page


def test_a_video_shorter_than_the_context_is_never_called_normal(run, film, tmp_path):
    film("short.mp4", [250, 250])
    film("long.mp4", [30] * 20)
    summary, rows = run()
    short = of(summary, "short.mp4")
    assert short.status == "not scored"
    assert short.alarm is None
    assert short.p_value is None
    assert "too few" in short.note
    assert summary.counts == {
        "files": 2,
        "scored": 1,
        "not_scored": 1,
        "skipped": 0,
        "with_alarm": 0,
        "not_known": 0,
        "frames": 22,
        "seconds": 2.2,
    }
    assert [row["alarm"] for row in rows["short.mp4"]] == ["", ""]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Not scored" in page
    assert short.note in page


def test_without_calibration_there_are_scores_and_the_reason(run, film, tmp_path, scorer):
    film("flash.mp4", [30] * 20 + [250] * 5 + [30] * 20)
    summary, rows = run(calibration=None, controls={"motion": (type(scorer)(scorer.view), None)})
    assert all(row["p_value"] == row["alarm"] == "" for row in rows["flash.mp4"])
    assert rows["flash.mp4"][21]["surprise"]
    flash = summary.files[0]
    assert (flash.alarm, flash.p_value, flash.controls["motion"].alarm) == (None, None, None)
    assert flash.max_surprise > 200
    assert summary.promise.alpha is None
    assert "not calibrated" in summary.warnings[0]
    told = summary_file(tmp_path)
    assert told["protocol"]["model"] is None
    assert told["files"][0]["alarm"] is None
    assert "not calibrated" in (tmp_path / "out" / "report.html").read_text()


def test_a_rate_by_the_hour_sets_the_line(run, film):
    film("a.mp4", [30] * 20 + [93] * 10)
    summary, _ = run(false_alarms_per_hour=180.0)  # of 1,800 clips of 2 s an hour: a tenth
    assert summary.promise.alpha == pytest.approx(0.1)
    assert summary.promise.threshold == 90
    assert summary.promise.false_alarms_per_hour == pytest.approx(180)
    assert summary.promise.words.startswith("At most 180 false alarms an hour")
    assert summary.files[0].alarm


def test_a_promise_that_cannot_be_made_is_refused_before_any_work(run, film, scorer, tmp_path):
    film("a.mp4", [30] * 20)
    for asked in ({"alpha": 0.001}, {"false_alarms_per_hour": 1.0}):
        with pytest.raises(CalibrationError, match="99 calibration clips"):
            run(**asked)
    with pytest.raises(ConfigError, match="neither alpha nor"):
        run(alpha=None)
    with pytest.raises(CalibrationError):
        run(controls={"motion": (scorer, Calibration(scores=np.arange(3.0), unit="clip", unit_seconds=2.0))})
    assert scorer.videos == 0
    assert not (tmp_path / "out").exists()


def test_controls_are_judged_by_their_own_line(run, film, scorer):
    film("a.mp4", [30] * 20 + [80] * 10)
    low = Calibration(scores=np.arange(1.0, 100.0) / 2, unit="clip", unit_seconds=2.0)
    others = {"motion": (type(scorer)(scorer.view), low), "untrained network": (type(scorer)(scorer.view, 9), None)}
    summary, _ = run(controls=others)
    assert summary.files[0].alarm is False
    assert summary.files[0].controls["motion"].alarm is True
    assert summary.files[0].controls["untrained network"].alarm is None
    assert summary.protocol["controls"]["motion"]["threshold"] == 47.5


def test_watching_the_calibration_footage_is_warned_of(run, film):
    film("known.mp4", [30] * 20)
    film("new.mp4", [30] * 20)
    summary, _ = run()
    assert any("known.mp4" in warning and "new.mp4" not in warning for warning in summary.warnings)


def test_files_longer_than_the_calibration_clips_are_warned_of(run, film):
    film("long.mp4", [30] * 100)
    film("like.mp4", [30] * 22)
    summary, _ = run()
    assert any(
        "1 of the files is longer" in warning and "90 false alarms an hour" in warning for warning in summary.warnings
    )


def test_every_video_starts_afresh(run, film, scorer):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        film(name, [30] * 8)
    _, rows = run()
    assert scorer.videos == 3
    assert all([row["surprise"] == "" for row in table] == [True] * 2 + [False] * 6 for table in rows.values())


def test_nothing_readable_is_an_error_that_names_every_file(run, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    (tmp_path / "videos" / "b.mp4").write_bytes(b"no video at all")
    with pytest.raises(DataError, match=r"(?s)none of its 2 files.*a\.mp4: .*b\.mp4: "):
        run()
    assert not list((tmp_path / "out").iterdir())


def test_names_of_all_kinds(run, film, tmp_path):
    deep = "/".join(["ein sehr langer Ordner " * 8] * 4)
    names = ["größe/映像 №1.mp4", 'a, "b".mp4', f"{deep}/{'n' * 200}.mp4"]
    for name in names:
        film(name, [30] * 12)
    os.rename(film("plain.mp4", [30] * 12), tmp_path / "videos" / os.fsdecode(b"bad\xff.mp4"))
    names.append(r"bad\xff.mp4")  # no text, so it is shown by its bytes
    summary, rows = run()
    assert {one.file for one in summary.files} == set(names)
    assert all(len(rows[name]) == 12 for name in names)
    assert {one["file"] for one in summary_file(tmp_path)["files"]} == set(names)


def test_one_file_may_be_given(tmp_path, film, scorer, calibration):
    summary = watch(
        film("a.mp4", [30] * 12), tmp_path / "out", scorer=scorer, calibration=calibration, controls={}, progress=True
    )
    assert [one.file for one in summary.files] == ["a.mp4"]


class Interrupting:
    """A scorer that is stopped in its second video."""

    def __init__(self, view: View, error: BaseException) -> None:
        self.view, self.context, self.smooth, self.error, self.videos = view, 2, 1, error, 0

    def start(self) -> None:
        self.videos += 1
        if self.videos == 2:
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_stopped_midway_it_leaves_nothing_half_and_the_old_results_alone(run, film, tmp_path, scorer, error):
    film("a.mp4", [30] * 12)
    film("b.mp4", [30] * 12)
    run()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    stopped = Interrupting(scorer.view, error)
    stopped.score = scorer.score  # type: ignore[attr-defined]
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError
    with pytest.raises(expected, match="No space left" if expected is DataError else None):
        run(scorer=stopped)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("failing", ["write_report", "write_text"])
def test_a_disk_that_fills_up_at_the_end_leaves_no_results_at_all(run, film, tmp_path, monkeypatch, failing):
    def full(path: Path, *_: object) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    film("a.mp4", [30] * 12)
    monkeypatch.setattr(module, failing, full)
    with pytest.raises(DataError, match="No space left on device"):
        run()
    assert not list((tmp_path / "out").iterdir())


def test_an_output_that_cannot_be_written_is_told_before_any_work(tmp_path, film, scorer, calibration, monkeypatch):
    film("a.mp4", [30] * 12)
    (tmp_path / "file").write_text("in the way")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    settings = {"scorer": scorer, "calibration": calibration, "controls": {}, "progress": False}
    with pytest.raises(DataError, match="cannot be written"):
        watch(tmp_path / "videos", tmp_path / "file" / "out", **settings)
    monkeypatch.setattr(Path, "touch", refuse)  # root may write anywhere, so a read-only folder is played
    with pytest.raises(DataError, match="Permission denied"):
        watch(tmp_path / "videos", tmp_path / "out", **settings)
    assert scorer.videos == 0


def test_memory_stays_the_same_for_a_video_four_times_as_long(tmp_path, scorer, calibration):
    """Peak of what Python allocates (frames among it), measured at 128 s and at 512 s: a minute of frames fits in both."""
    import tracemalloc

    noise = np.random.default_rng(0).integers(0, 80, (64, 32, 48, 3), np.uint8)
    peaks = []
    for minutes, repeats in (("short", 20), ("long", 80)):
        path = tmp_path / minutes / "a.mp4"
        write_video(path, (frame for _ in range(repeats) for frame in noise), 10, crf=35)
        tracemalloc.start()
        watch(path, tmp_path / "out", scorer=scorer, calibration=calibration, controls={}, progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    frames_more = 60 * 64 * noise[0].nbytes
    assert peaks[1] - peaks[0] < 0.1 * frames_more
