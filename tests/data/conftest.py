"""Small videos to order: frames, time stamps, codec, rotation, pixel shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

QUARTER_TURN_LEFT = (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30)
CLOCK = 1000


def grey_steps(count: int, height: int = 48, width: int = 80) -> np.ndarray:
    """Frame k is one grey of level 20 + 5 k: tells which source frame is shown, whatever the codec did to it."""
    levels = (20 + 5 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def shown_frames(frames: np.ndarray) -> list[int]:
    """The inverse of `grey_steps`, from the middle of the picture."""
    height, width = frames.shape[1:3]
    middle = frames[:, height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4]
    return [round((float(level) - 20) / 5) for level in middle.mean(axis=(1, 2, 3))]


def film(
    path: Path,
    frames: np.ndarray,
    *,
    fps: float = 10,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    pixel_aspect: Fraction | None = None,
    matrix: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write `frames` (T, H, W, 3) at `times` (seconds; steady at fps unless given)."""
    times = np.arange(len(frames)) / fps if times is None else times
    container_options = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.thread_count = 1
        if codec in ("libx264", "ffv1"):
            stream.codec_context.time_base = Fraction(1, CLOCK)
        clock = stream.codec_context.time_base or 1 / Fraction(fps).limit_denominator(1001)
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if matrix:
            stream.set_display_matrix(matrix)
        for pixel_rows, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixel_rows, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = round(time / clock), clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with three clips of different lengths in two sub-folders."""
    rng = np.random.default_rng(7)
    for name, count in (("day_2/b.mp4", 31), ("day_10/a.mp4", 70), ("day_10/c.mkv", 12)):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        scene = rng.integers(0, 255, (1, 6, 10, 3)).repeat(8, axis=1).repeat(8, axis=2)
        film(path, (scene * np.linspace(0.2, 1, count)[:, None, None, None]).astype(np.uint8))
    return tmp_path / "videos"


@pytest.fixture
def make_film() -> Callable[..., Path]:
    return film


@pytest.fixture
def greys() -> Callable[..., np.ndarray]:
    return grey_steps


@pytest.fixture
def shown() -> Callable[[np.ndarray], list[int]]:
    return shown_frames
