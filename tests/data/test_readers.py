"""Healthy files of many kinds, read through the eyes of a View."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from foretell.data.clip import View
from foretell.data.readers import (
    Chunk,
    TruncatedVideo,
    UnreadableSource,
    find_sources,
    probe,
    read,
    summarise_fps,
)
from foretell.errors import DataError

Film = Callable[..., Path]
QUARTER_TURN_LEFT = (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30)
HALF_TURN = (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30)


def look(path: Path, view: View) -> Chunk:
    """All chunks of a video as one."""
    chunks = list(read(find_sources(path)[0], view))
    return Chunk(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("full_range.mp4", "libx264", "yuvj420p"),
        ("ten_bit.mp4", "libx264", "yuv420p10le"),
        ("a.mov", "libx264", "yuv444p"),
        ("grey.mkv", "ffv1", "gray"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.webm", "libvpx", "yuv420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("a.ts", "libx264", "yuv420p"),
    ],
)
def test_containers_codecs_and_colours(
    tmp_path: Path, make_film: Film, greys: Callable, shown: Callable, name: str, codec: str, pixels: str
) -> None:
    path = make_film(tmp_path / name, greys(13), codec=codec, pixels=pixels)
    seen = look(path, View(height=32, width=64, fps=10))
    assert seen.frames.shape == (13, 32, 64, 3)
    assert shown(seen.frames) == list(range(13))
    np.testing.assert_allclose(seen.seconds, np.arange(13) / 10, atol=2e-3)
    assert seen.steps.tolist() == list(range(13))
    assert np.ptp(seen.frames[:, 16, 32].astype(int), axis=-1).max() <= 3  # grey stays grey


@pytest.mark.parametrize("source_fps", [2.5, 10, 12.5, 25, 29.97])
@pytest.mark.parametrize("fps", [4.0, 10.0, 15.0])
def test_any_rate_to_any_rate_by_time_stamps(
    tmp_path: Path, make_film: Film, greys: Callable, shown: Callable, source_fps: float, fps: float
) -> None:
    seen = look(make_film(tmp_path / "a.mp4", greys(40), fps=source_fps), View(height=32, width=48, fps=fps))
    times = np.arange(40) / source_fps
    np.testing.assert_allclose(seen.seconds, times, atol=1e-3)
    assert seen.steps.tolist() == np.floor(seen.seconds * fps + 0.25).astype(int).tolist()
    expected = [np.flatnonzero(seen.seconds <= (step + 0.25) / fps).max() for step in range(seen.steps[-1] + 1)]
    assert shown(seen.frames) == expected


def test_variable_rate(tmp_path: Path, make_film: Film, greys: Callable, shown: Callable) -> None:
    times = [0, 0.1, 0.21, 0.9, 1.0, 1.5, 1.52, 1.53, 2.0]
    for name in ("a.mp4", "a.mkv"):
        seen = look(make_film(tmp_path / name, greys(9), times=times), View(height=32, width=48, fps=10))
        np.testing.assert_allclose(seen.seconds, times, atol=1e-3)
        assert seen.steps.tolist() == [0, 1, 2, 9, 10, 15, 15, 15, 20]
        assert shown(seen.frames) == [0, 1, 2, 2, 2, 2, 2, 2, 2, 3, 4, 4, 4, 4, 4, 6, 7, 7, 7, 7, 8]


def corners(height: int, width: int, count: int = 2) -> np.ndarray:
    """Red top left, green top right, blue bottom left, white bottom right."""
    frame = np.zeros((count, height, width, 3), np.uint8)
    frame[:, : height // 2, : width // 2, 0] = 255
    frame[:, : height // 2, width // 2 :, 1] = 255
    frame[:, height // 2 :, : width // 2, 2] = 255
    frame[:, height // 2 :, width // 2 :] = 255
    return frame


def names_of_corners(frame: np.ndarray, top: int, left: int) -> str:
    """Colours of the four corners of the part of the frame that starts at (top, left), in reading order."""
    height, width = frame.shape[:2]
    inside = frame[top + 4 :: height - 2 * top - 9, left + 4 :: width - 2 * left - 9][:2, :2].reshape(4, 3)
    return "".join({(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 1): "w"}[tuple(rgb)] for rgb in inside > 128)


@pytest.mark.parametrize(
    ("matrix", "expected", "top", "left"),
    [(None, "rgbw", 16, 0), (HALF_TURN, "wbgr", 16, 0), (QUARTER_TURN_LEFT, "gwrb", 0, 16)],
)
def test_rotation_is_honoured(
    tmp_path: Path, make_film: Film, matrix: tuple[int, ...] | None, expected: str, top: int, left: int
) -> None:
    path = make_film(tmp_path / "a.mp4", corners(48, 96), matrix=matrix)
    frame = look(path, View(height=64, width=64, fps=10)).frames[0]
    assert names_of_corners(frame, top, left) == expected
    assert frame[:top].max(initial=0) == frame[:, :left].max(initial=0) == 0


def test_letterbox_keeps_all_and_crop_fills(tmp_path: Path, make_film: Film) -> None:
    path = make_film(tmp_path / "a.mp4", corners(48, 96))
    boxed = look(path, View(height=64, width=64, fps=10)).frames[0]
    assert (boxed[:16].max(), boxed[48:].max()) == (0, 0)
    assert boxed[16:48].max(axis=2).min() > 100
    filled = look(path, View(height=64, width=64, fps=10, fit="crop")).frames[0]
    assert filled.max(axis=2).min() > 60  # no bars, only the soft seams between the colours
    assert names_of_corners(filled, 0, 0) == "rgbw"


def test_pixels_that_are_not_square(tmp_path: Path, make_film: Film) -> None:
    path = make_film(tmp_path / "a.mp4", corners(64, 64), pixel_aspect=Fraction(2, 1))
    frame = look(path, View(height=64, width=64, fps=10)).frames[0]
    assert (frame[:16].max(), frame[48:].max()) == (0, 0)
    assert names_of_corners(frame, 16, 0) == "rgbw"


def test_a_size_that_changes_midway(tmp_path: Path, make_film: Film) -> None:
    wide, tall = (make_film(tmp_path / f"{size}.ts", corners(*size, count=9)) for size in ((48, 96), (96, 48)))
    (tmp_path / "both.ts").write_bytes(wide.read_bytes() + tall.read_bytes())
    seen = look(tmp_path / "both.ts", View(height=64, width=64, fps=10))
    assert seen.frames.shape == (18, 64, 64, 3)
    assert names_of_corners(seen.frames[0], 16, 0) == names_of_corners(seen.frames[17], 0, 16) == "rgbw"
    assert seen.steps.tolist() == list(range(18))  # the second part's time stamps start again


def test_a_long_video_comes_in_bounded_chunks(tmp_path: Path, make_film: Film, greys: Callable) -> None:
    path = make_film(tmp_path / "a.mp4", greys(40).repeat(10, axis=0), fps=20)
    chunks = list(read(find_sources(path)[0], View(height=16, width=24, fps=10)))
    assert [len(chunk.frames) for chunk in chunks] == [64, 64, 64, 8]
    assert sum(len(chunk.seconds) for chunk in chunks) == 400


def test_numbered_images(tmp_path: Path, make_film: Film, greys: Callable, shown: Callable) -> None:
    kinds = [("png", "png", "rgb24"), ("jpg", "mjpeg", "yuvj420p"), ("bmp", "bmp", "bgr24")]
    (tmp_path / "run").mkdir()
    for index, frame in enumerate(greys(12)):
        suffix, codec, pixels = kinds[index % 3]
        make_film(tmp_path / f"run/frame{index}.{suffix}", frame[None], codec=codec, pixels=pixels)
    source = find_sources(tmp_path)[0]
    seen = look(tmp_path / "run", View(height=32, width=48, fps=4))
    assert shown(seen.frames) == list(range(12))
    np.testing.assert_allclose(seen.seconds, np.arange(12) / 4)
    assert tuple(probe(source)) == (10.0, 12, 1.2, 48, 80)
    assert summarise_fps([source]) == (10.0, "10 fps: the default for image folders")
    (tmp_path / "run" / "frame7.jpg").write_bytes((tmp_path / "run" / "frame7.jpg").read_bytes()[:-20])
    with pytest.raises(TruncatedVideo, match=r"run: image frame7\.jpg: is cut off"):
        look(tmp_path / "run", View(height=32, width=48, fps=4))
    (tmp_path / "run" / "frame0.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableSource, match=r"run: image frame0\.png: cannot be decoded"):
        look(tmp_path / "run", View(height=32, width=48, fps=4))


def test_probe_and_the_rate_for_all(tmp_path: Path, make_film: Film, greys: Callable) -> None:
    for name, fps in (("1.mp4", 8), ("2.avi", 12.5), ("3.mkv", 50)):
        codec, pixels = ("mjpeg", "yuvj420p") if name == "2.avi" else ("libx264", "yuv420p")
        make_film(tmp_path / name, greys(25), fps=fps, codec=codec, pixels=pixels)
    (tmp_path / "notes.txt").write_text("not counted")
    sources = find_sources(tmp_path)
    np.testing.assert_allclose(probe(sources[1]), (12.5, 25, 2.0, 48, 80))
    assert probe(sources[2]).seconds == pytest.approx(0.5, abs=0.03)
    assert summarise_fps(sources) == (12.5, "12.5 fps: the median of 3 videos")
    assert summarise_fps(sources[2:]) == (30.0, "30 fps: the cap, since the median of 1 video is 50")
    with pytest.raises(DataError, match="none of the 1 files there can be opened as a video"):
        summarise_fps(sources[3:])
