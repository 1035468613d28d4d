"""Ingest that is killed, starved, misled: it continues to the same bytes, or says what is wrong."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretell.data.ingest as ingest_module
from foretell.data import ingest_plan, ingest_worker
from foretell.data.ingest import IngestSummary, ingest
from foretell.data.readers import read
from foretell.data.store import Store
from foretell.errors import ConfigError, DataError

Film = Callable[..., Path]
FRAME = 24 * 40 * 3


def run(videos: Path, out: Path, **changes: Any) -> IngestSummary:
    return ingest(videos, out, **{"view_size": (24, 40), "fps": 10.0, "workers": 1, "progress": False, **changes})


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(store.iterdir())}


def test_the_summary_names_and_counts_what_was_skipped(videos: Path, tmp_path: Path) -> None:
    (videos / "day_2" / "labels.csv").write_text("frame,label\n")
    (videos / "broken.mp4").write_bytes((videos / "day_2" / "b.mp4").read_bytes()[:-700])
    (videos / "empty.avi").touch()
    summary = run(videos, tmp_path / "store", fps=None)
    assert (summary.clips, summary.frames) == (3, 31 + 70 + 12)
    names, reasons = zip(*summary.skipped, strict=True)
    assert names == ("broken.mp4", "day_2/labels.csv", "empty.avi")
    assert reasons[1:] == ("not a video", "empty file (0 bytes)")
    assert "after frame" in reasons[0]
    assert summary.rate == "10 fps: the median of 4 videos"
    text = str(summary)
    assert "3 clips, 113 frames, 24 x 40 px (letterbox) at 10 fps: the median of 4 videos" in text
    assert "skipped 3 files:\n  broken.mp4: " in text
    assert json.loads((tmp_path / "store" / "store.json").read_text())["skipped"] == [
        list(pair) for pair in summary.skipped
    ]


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    (tmp_path / "videos" / "b.csv").touch()
    with pytest.raises(DataError, match=r"no video here can be read \(a\.mp4: empty file \(0 bytes\); b\.csv: not a"):
        run(tmp_path / "videos", tmp_path / "store")
    with pytest.raises(DataError, match="did not finish"):
        Store.open(tmp_path / "store")
    with pytest.raises(ConfigError, match="workers"):
        run(tmp_path / "videos", tmp_path / "store", workers=0)


def test_processes_side_by_side_give_the_same_clips(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (videos / "empty.avi").touch()
    alone = run(videos, tmp_path / "alone")
    monkeypatch.setattr(ingest_plan, "SMALL_BYTES", 0)
    together = run(videos, tmp_path / "together", workers=2, progress=True)
    assert together.skipped == alone.skipped == [("empty.avi", "empty file (0 bytes)")]
    one, two = Store.open(tmp_path / "alone"), Store.open(tmp_path / "together")
    assert {clip.shard for clip in two.clips} == {"frames-00.u8", "frames-01.u8"}
    assert one.statistics == two.statistics
    for number, clip in enumerate(one.clips):
        np.testing.assert_array_equal(one.window(number, 0, clip.frames), two.window(number, 0, clip.frames))
    before = contents(tmp_path / "together")
    shutil.rmtree(tmp_path / "together")
    run(videos, tmp_path / "together", workers=2)
    assert contents(tmp_path / "together") == before


def digests(store: Path) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents(store).items()}


def lines_in_logs(store: Path) -> int:
    return sum(log.read_bytes().count(b"\n") for log in store.glob("*.jsonl"))


@pytest.mark.parametrize(
    ("workers", "kill"), [(1, os.kill), (2, os.killpg), (2, os.kill)], ids=["alone", "with workers", "workers orphaned"]
)
def test_killed_at_any_moment_it_continues_to_the_same_bytes(
    tmp_path: Path, make_film: Film, greys: Callable, monkeypatch: pytest.MonkeyPatch, workers: int, kill: Callable
) -> None:
    videos, out = tmp_path / "videos", tmp_path / "killed"
    videos.mkdir()
    make_film(videos / "0.mp4", greys(40).repeat(3, axis=0))
    for number in range(1, 16):
        shutil.copy(videos / "0.mp4", videos / f"{number}.mp4")
    script = f"""
import foretell.data.ingest_plan
from foretell.data.ingest import ingest
foretell.data.ingest_plan.SMALL_BYTES = 0
ingest({str(videos)!r}, {str(out)!r}, view_size=(96, 128), fps=10, workers={workers}, progress=False)
"""
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    deadline = time.monotonic() + 60
    while lines_in_logs(out) < 2 + workers:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(DataError, match="did not finish"):
        Store.open(out)
    monkeypatch.setattr(ingest_plan, "SMALL_BYTES", 0)
    for folder in (out, tmp_path / "straight"):
        run(videos, folder, view_size=(96, 128), workers=workers)
    assert digests(out) == digests(tmp_path / "straight")
    Store.open(out).verify()


def unfinished(videos: Path, out: Path) -> dict[str, bytes]:
    """Make a store, return its bytes, and leave it as a kill after the first clip would."""
    run(videos, out)
    whole = contents(out)
    (out / "store.json").unlink()
    lines = whole["frames-00.jsonl"].splitlines(keepends=True)
    first = json.loads(lines[1])["frames"]
    (out / "frames-00.jsonl").write_bytes(b"".join(lines[:2]))
    (out / "frames-00.u8").write_bytes(whole["frames-00.u8"][: first * FRAME])
    return whole


@pytest.mark.parametrize("left_pixels", [0, 1, FRAME * 3 + 17, FRAME * 500])
@pytest.mark.parametrize("left_log", [b"", b'{"name": "day_10/a.mp4", "offs'])
def test_what_was_not_committed_never_happened(videos: Path, tmp_path: Path, left_pixels: int, left_log: bytes) -> None:
    out = tmp_path / "store"
    whole = unfinished(videos, out)
    with (out / "frames-00.u8").open("ab") as file:
        file.write(b"\xaa" * left_pixels)
    with (out / "frames-00.jsonl").open("ab") as file:
        file.write(left_log)
    run(videos, out)
    assert contents(out) == whole


def test_commits_whose_pixels_never_reached_the_disk_are_done_again(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    whole = unfinished(videos, out)
    pixels = bytearray((out / "frames-00.u8").read_bytes())
    pixels[FRAME : 2 * FRAME] = bytes(FRAME)  # as after a power cut
    (out / "frames-00.u8").write_bytes(pixels)
    run(videos, out)
    assert contents(out) == whole
    unfinished(videos, out)
    (out / "frames-00.u8").unlink()
    run(videos, out)
    assert contents(out) == whole
    unfinished(videos, out)
    (out / "frames-00.jsonl").write_bytes(b'{"vers')  # killed in its first moment
    run(videos, out)
    assert contents(out) == whole


def test_a_clip_is_never_decoded_twice(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = unfinished(videos, tmp_path / "store")
    decoded = []
    monkeypatch.setattr(
        ingest_worker, "read", lambda source, view: (decoded.append(source.name), read(source, view))[1]
    )
    run(videos, tmp_path / "store")
    assert sorted(decoded) == ["day_10/a.mp4", "day_10/c.mkv"]
    run(videos, tmp_path / "store")
    assert len(decoded) == 2
    assert contents(tmp_path / "store") == whole


def test_ctrl_c_leaves_a_store_that_continues(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(videos, tmp_path / "straight")
    chunks = 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal chunks
        for chunk in read(*arguments):
            chunks += 1
            if chunks == 3:
                raise KeyboardInterrupt
            yield chunk

    monkeypatch.setattr(ingest_worker, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(videos, tmp_path / "store")
    monkeypatch.setattr(ingest_worker, "read", read)
    run(videos, tmp_path / "store")
    assert contents(tmp_path / "store") == contents(tmp_path / "straight")


def test_a_full_disk_says_how_much_is_needed_and_continues(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "straight")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(DataError, match=r"frames-00\.u8: cannot be written \(File too large\); about 0 MB more"):
            run(videos, tmp_path / "store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    with pytest.raises(DataError, match="did not finish"):
        Store.open(tmp_path / "store")
    run(videos, tmp_path / "store")
    assert contents(tmp_path / "store") == contents(tmp_path / "straight")


def test_a_worker_that_dies_is_not_passed_over(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_plan, "SMALL_BYTES", 0)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(DataError, match=r"an ingest process died \(exit code 1;"):
        run(videos, tmp_path / "store", workers=2)


def test_places_that_cannot_be_written(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no store can be made here"):
        run(videos, videos / "day_2" / "b.mp4")
    with pytest.raises(DataError, match=r"/proc/store: no store can be made here .*choose another --out"):
        run(videos, Path("/proc/store"))
    (tmp_path / "store" / "frames-00.u8").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be written"):
        run(videos, tmp_path / "store")


def test_another_view_is_refused_and_the_rate_is_kept(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "store", fps=7.0)
    assert run(videos, tmp_path / "store", fps=None).rate == "7 fps: that of the store as it was begun"
    for change in ({"fps": 8.0}, {"view_size": (40, 24)}, {"fit": "crop"}):
        with pytest.raises(DataError, match=r"begun with View\(.*choose another --out"):
            run(videos, tmp_path / "store", **{"fps": 7.0, **change})


def test_new_videos_are_added_changed_and_vanished_ones_are_refused(
    videos: Path, tmp_path: Path, make_film: Film, greys: Callable
) -> None:
    out = tmp_path / "store"
    run(videos, out)
    make_film(videos / "day_3.mp4", greys(5))
    assert run(videos, out).clips == 4
    assert [clip.name for clip in Store.open(out).clips] == ["day_2/b.mp4", "day_3.mp4", "day_10/a.mp4", "day_10/c.mkv"]
    Store.open(out).verify()
    os.utime(videos / "day_3.mp4", ns=(1, 1))
    with pytest.raises(DataError, match=r"holds the clip day_3\.mp4, which has changed since"):
        run(videos, out)
    (videos / "day_3.mp4").unlink()
    with pytest.raises(DataError, match=r"day_3\.mp4, which is not among the videos given"):
        run(videos, out)


def test_a_log_of_another_version_or_damaged_is_refused(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    run(videos, out)
    log = (out / "frames-00.jsonl").read_text()
    (out / "frames-00.jsonl").write_text(log.replace('"version": 1', '"version": 2'))
    with pytest.raises(DataError, match="begun as version 2, this foretell writes version 1"):
        run(videos, out)
    (out / "frames-00.jsonl").write_text(log.replace('"crc32"', '"crc"'))
    with pytest.raises(DataError, match="the log is damaged"):
        run(videos, out)


def test_two_ingests_do_not_mix(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "SECONDS_TO_WAIT_FOR_LOCK", 0.0)
    with (
        ingest_module._locked(tmp_path / "store"),
        pytest.raises(DataError, match="another ingest is writing this store"),
    ):
        run(videos, tmp_path / "store")
    assert run(videos, tmp_path / "store").clips == 3


def test_a_store_inside_the_folder_of_videos(videos: Path) -> None:
    for _ in range(2):
        assert run(videos, videos / "store").skipped == []
    assert len(Store.open(videos / "store")) == 3


def test_one_file_and_names_in_any_script(videos: Path, tmp_path: Path) -> None:
    odd = tmp_path / "видео 视频" / ("ü" * 120 + ".mp4")
    odd.parent.mkdir()
    shutil.copy(videos / "day_2" / "b.mp4", odd)
    assert run(odd, tmp_path / "störe" / "λ").clips == 1
    assert Store.open(tmp_path / "störe" / "λ").clips[0].name == odd.name
