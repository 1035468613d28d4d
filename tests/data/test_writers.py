import resource
import signal
from pathlib import Path

import av
import numpy as np
import pytest

from foretell.data.clip import View
from foretell.data.readers import find_sources, read
from foretell.data.writers import VideoWriter, write_video
from foretell.errors import ConfigError, DataError, ShapeError


def scene(count: int, height: int, width: int) -> np.ndarray:
    """A soft pattern that moves and has colour."""
    y, x, t = np.mgrid[:height, :width, :count]
    waves = [128 + 90 * np.sin(x / 9 + y / 7 + t / 5 + channel) for channel in range(3)]
    return np.stack(waves, axis=-1).transpose(2, 0, 1, 3).astype(np.uint8)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    frames = scene(21, 48, 64)
    write_video(tmp_path / "a.mp4", frames, fps=12.5)
    view = View(height=48, width=64, fps=12.5)
    chunks = list(read(find_sources(tmp_path / "a.mp4")[0], view))
    back = np.concatenate([chunk.frames for chunk in chunks])
    assert back.shape == frames.shape
    assert np.abs(back.astype(float) - frames).mean() < 4  # half the colour resolution, and a fast conversion
    np.testing.assert_allclose(np.concatenate([chunk.seconds for chunk in chunks]), np.arange(21) / 12.5, atol=1e-4)


def test_lossless_is_equal_to_the_bit(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames, fps=10, crf=0)
    chunks = list(read(find_sources(tmp_path / "a.mp4")[0], View(height=48, width=64, fps=10)))
    assert np.array_equal(np.concatenate([chunk.frames for chunk in chunks]), frames)


def test_any_browser_can_play_it_from_the_first_bytes(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", scene(5, 32, 48), fps=10)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.start_time == 0


def test_same_frames_same_bytes_whether_streamed_or_not(tmp_path: Path) -> None:
    frames = scene(40, 32, 48)
    write_video(tmp_path / "a.mp4", frames, fps=10)
    with VideoWriter(tmp_path / "b.mp4", 10, 32, 48) as writer:
        writer.write(frames[:7])
        for frame in frames[7:]:
            writer.write(frame)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_odd_sizes_are_padded_by_the_edge(tmp_path: Path) -> None:
    frames = np.full((3, 33, 47, 3), 200, np.uint8)
    write_video(tmp_path / "a.mp4", frames, fps=10)
    with av.open(str(tmp_path / "a.mp4")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (34, 48, 3)
    assert abs(picture.astype(int) - 200).max() < 6


def test_an_error_midway_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ShapeError), VideoWriter(tmp_path / "a.mp4", 10, 32, 48) as writer:
        writer.write(np.concatenate([scene(5, 32, 48), scene(5, 32, 48)], axis=3))
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", scene(5, 32, 48), fps=10)
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(ShapeError, match=r"\(32, 48, 3\), got uint8 \(1, 32, 47, 3\)|got uint8 \(32, 47, 3\)"):
        write_video(tmp_path / "a.mp4", [*scene(2, 32, 48), scene(1, 32, 47)[0]], fps=10)
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_no_frames_no_rate_no_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no frame"):
        write_video(tmp_path / "a.mp4", [], fps=10)
    with pytest.raises(DataError, match="no frame"), VideoWriter(tmp_path / "a.mp4", 10, 32, 48):
        pass
    with pytest.raises(ConfigError, match="fps"):
        write_video(tmp_path / "a.mp4", scene(1, 32, 48), fps=0)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        write_video(tmp_path / "file" / "a.mp4", scene(1, 32, 48), fps=10)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 64, 80, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(DataError, match=r"a\.mp4: cannot write this video \(File too large\)"):
            write_video(tmp_path / "a.mp4", noise, fps=10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
