"""Broken, odd and foreign files: what is refused, with what reason; and time stamps that cannot be trusted."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from foretell.data import decode
from foretell.data.clip import View
from foretell.data.decode import TruncatedVideo, UnreadableSource
from foretell.data.readers import find_sources, read

VIEW = View(height=48, width=80, fps=10)
Film = Callable[..., Path]


def read_all(path: Path) -> tuple[int, UnreadableSource | None]:
    """Source frames that came, and the error that ended it."""
    frames, ended = 0, None
    try:
        for chunk in read(find_sources(path)[0], VIEW):
            frames += len(chunk.seconds)
    except UnreadableSource as error:
        ended = error
    assert ended is None or str(ended) == f"{path}: {ended.reason}"
    assert ended is None or "\n" not in str(ended)
    return frames, ended


def noisy(count: int, height: int = 48, width: int = 80) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (count, height, width, 3), dtype=np.uint8)


def sound(path: Path, codec: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "empty file (0 bytes)"),
        ("noise.mp4", np.random.default_rng(3).bytes(30_000), "not a video, or its header is damaged or cut off"),
        ("zeros.avi", bytes(30_000), "not a video, or its header is damaged or cut off"),
        ("text.mp4", b"hello world\n" * 99, "not a video, or its header is damaged or cut off"),
        ("page.nfo", b"hello world\n" * 99, "not a video"),  # libav plays it as a terminal session
        ("labels.csv", b"frame,label\n1,0\n", "not a video"),
        ("truth.parquet", b"PAR1", "not a video"),
        ("readme", b"nothing here", "not a video, or its header is damaged or cut off"),
    ],
)
def test_no_video(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    frames, error = read_all(tmp_path / name)
    assert frames == 0
    assert type(error) is UnreadableSource
    assert error.reason == reason


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    assert read_all(sound(tmp_path / "a.wav", "pcm_s16le"))[1].reason == "audio only, no video"
    assert read_all(sound(tmp_path / "a.mka", "pcm_s16le"))[1].reason == "audio only, no video"


def test_a_single_picture_is_no_video(tmp_path: Path, make_film: Film) -> None:
    picture = make_film(tmp_path / "cover.jpg", noisy(1), codec="mjpeg", pixels="yuvj420p")
    assert read_all(picture)[1].reason == "a single picture, not a video"


def test_a_video_without_frames(tmp_path: Path) -> None:
    for name in ("none.mp4", "none.mkv"):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p"
            container.start_encoding()
        frames, error = read_all(tmp_path / name)
        assert frames == 0
        assert type(error) is UnreadableSource


def test_missing_dead_and_forbidden(tmp_path: Path) -> None:
    (tmp_path / "dead.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "x.csv").touch()
    found = {source.name: source for source in find_sources(tmp_path)}
    with pytest.raises(UnreadableSource, match=r"cannot be opened \(No such file or directory\)"):
        next(read(found["dead.mp4"], VIEW))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx")])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_a_video_that_is_cut_off_yields_what_it_has_and_says_so(
    tmp_path: Path, make_film: Film, name: str, codec: str, share: float
) -> None:
    path = make_film(tmp_path / name, noisy(60), codec=codec)
    assert read_all(path) == (60, None)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    frames, error = read_all(path)
    assert 0.5 * share * 60 < frames < 60
    assert type(error) is TruncatedVideo


def test_cut_off_avi_and_mpeg(tmp_path: Path, make_film: Film) -> None:
    for path in (
        make_film(tmp_path / "a.avi", noisy(60), codec="mjpeg", pixels="yuvj420p"),
        make_film(tmp_path / "a.ts", noisy(60)),
    ):
        assert read_all(path) == (60, None)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        frames, error = read_all(path)
        assert 20 < frames < 40
        assert type(error) is TruncatedVideo


def test_an_mp4_without_its_index_cannot_be_read(tmp_path: Path, make_film: Film) -> None:
    path = make_film(tmp_path / "a.mp4", noisy(20))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") + 100])
    assert read_all(path)[1].reason == "not a video, or its header is damaged or cut off"


def test_damage_in_the_middle_ends_the_reading_there(tmp_path: Path, make_film: Film) -> None:
    path = make_film(tmp_path / "a.mp4", noisy(60))
    data = bytearray(path.read_bytes())
    middle = len(data) * 6 // 10
    data[middle : middle + 4000] = np.random.default_rng(2).bytes(4000)
    path.write_bytes(data)
    frames, error = read_all(path)
    assert 20 < frames < 45
    assert type(error) is TruncatedVideo
    assert error.reason.startswith(f"damaged after frame {frames} (")


def test_very_long_and_odd_names(tmp_path: Path, make_film: Film) -> None:
    deep = tmp_path / ("ordner-mit-ü-" + "x" * 200) / ("y" * 240) / ("z" * 240)
    deep.mkdir(parents=True)
    for name in ("12:30 café 视频.mp4", "50%d%%.mp4", "concat:a.mp4", "n" * 251 + ".mp4"):
        path = make_film(tmp_path / "plain.mp4", noisy(5)).rename(deep / name)
        assert read_all(path) == (5, None)


def times_of(monkeypatch: pytest.MonkeyPatch, stamps: list[float | None], fps: float = 10) -> Iterator[float]:
    frames = [SimpleNamespace(time=stamp, duration=0, time_base=None) for stamp in stamps]
    monkeypatch.setattr(decode, "_good_frames", lambda *_: iter(frames))
    monkeypatch.setattr(decode, "promised_seconds", lambda *_: None)
    return (seconds for seconds, _ in decode.decode_video(Path("x"), None, SimpleNamespace(average_rate=fps)))


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([3.0, 3.1, 3.2, 3.3], [0.0, 0.1, 0.2, 0.3]),  # relative to the first
        ([None, None, None], [0.0, 0.1, 0.2]),  # none at all
        ([0.0, 0.1, None, 0.3], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, 0.0, 0.2, 0.2, 0.4], [0.0, 0.1, 0.2, 0.3, 0.4]),  # repeated
        ([5.0, 5.1, 0.0, 0.1, 0.2], [0.0, 0.1, 0.2, 0.3, 0.4]),  # two recordings behind one another
        ([0.0, 0.1, 2.0], [0.0, 0.1, 2.0]),  # a gap is a gap
    ],
)
def test_time_stamps(monkeypatch: pytest.MonkeyPatch, stamps: list[float | None], expected: list[float]) -> None:
    np.testing.assert_allclose(list(times_of(monkeypatch, stamps)), expected, atol=1e-9)


def test_a_jump_of_hours_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    times = times_of(monkeypatch, [0.0, 0.1, 95443.7])
    assert [next(times), next(times)] == [0.0, 0.1]
    with pytest.raises(TruncatedVideo, match=r"jump by 26\.5 hours at 0\.10 s"):
        next(times)
