"""A file on disk -> decoded frames with times, up to the first damage. The one place that knows what libav forgives."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from foretell.data.sources import IMAGE_CODECS, frame_files
from foretell.errors import DataError

# Files that lie beside videos. Some of them libav would even "decode": a text becomes a terminal session.
_BESIDE_VIDEOS = """.bin .csv .gz .h5 .htm .html .ini .json .jsonl .log .md .npy .npz .parquet .pdf .pkl .pt .py .rst
.safetensors .sh .srt .tar .toml .tsv .txt .u8 .vtt .xml .yaml .yml .zip"""
NOT_VIDEO_SUFFIXES = frozenset(_BESIDE_VIDEOS.split())
NO_HEADER = "not a video, or its header is damaged or cut off"
TEXT_FORMATS = ("tty", "srt", "webvtt", "ass", "lrc")
PICTURE_FORMATS = ("image2", "_pipe")
LONGEST_GAP_SECONDS = 3600.0
UNSTATED_FPS = 25.0


class UnreadableSource(DataError):
    """A source that is no video, or whose video cannot be read. `reason` is the message without the path."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


class TruncatedVideo(UnreadableSource):
    """A video that breaks midway; raised after its last good frame."""


def open_video(path: Path) -> tuple[InputContainer, VideoStream]:
    """Open a file and find the moving picture in it. Close the container. Raises UnreadableSource."""
    container = _open(path)
    try:
        return container, _video_stream(path, container)
    except UnreadableSource:
        container.close()
        raise


def decode_video(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield (seconds since the first frame, frame), times strictly rising.

    A missing, repeated or backward time stamp is counted on at the mean rate. Raises UnreadableSource if no frame
    decodes, TruncatedVideo at the first damage, at a gap of more than an hour, or at an end before the promised one.
    """
    interval = 1 / mean_fps(stream)
    start: float | None = None
    last = 0.0
    frame = None
    for frame in _good_frames(path, container, stream):
        time = frame.time
        if start is None:
            start = time or 0.0
            seconds = 0.0
        else:
            seconds = last + interval if time is None else time - start
            if seconds <= last:
                seconds = last + interval
            elif seconds - last > LONGEST_GAP_SECONDS:
                raise TruncatedVideo(path, f"time stamps jump by {(seconds - last) / 3600:.1f} hours at {last:.2f} s")
        last = seconds
        yield seconds, frame
    if frame is None:
        raise UnreadableSource(path, "no frame of it can be decoded")
    shown = frame.duration * frame.time_base if frame.duration and frame.time_base else 0
    end = last + max(float(shown), interval)
    promised = promised_seconds(container, stream)
    if promised is not None and promised - end > max(2.5 * interval, 0.005 * promised):
        raise TruncatedVideo(path, f"cut off: ends at {end:.2f} s, its header promises {promised:.2f} s")


def promised_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the headers say the picture lasts; None where they do not (a live recording, a raw stream)."""
    if container.format.name == "avi" and stream.frames:  # libav shortens an AVI's duration to what the file holds
        return stream.frames / mean_fps(stream)
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    if container.duration and len(container.streams) == 1:  # else it may be the sound that is longer
        return container.duration / av.time_base
    return None


def mean_fps(stream: VideoStream) -> float:
    """Mean source frames a second; 25 if the file does not say."""
    rate: Fraction | None = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else UNSTATED_FPS


def plain(error: Exception) -> str:
    """What went wrong, without numbers of errors and names of functions."""
    return str(getattr(error, "strerror", None) or error)


def decode_images(folder: Path, fps: float) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield (seconds, frame) of a folder's numbered images at `fps`. Raises as `decode_video`."""
    for index, path in enumerate(frame_files(folder)):
        try:
            frame = decode_image(path)
        except UnreadableSource as error:
            if index == 0:
                raise UnreadableSource(folder, f"image {path.name}: {error.reason}") from error
            raise TruncatedVideo(folder, f"image {path.name}: {error.reason}") from error
        yield index / fps, frame


def decode_image(path: Path) -> av.VideoFrame:
    """One picture. Raises UnreadableSource."""
    # A new decoder each time: libav's PNG decoder adds the picture before to the next if it is kept.
    decoder = av.CodecContext.create(IMAGE_CODECS[path.suffix.lower()], "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    try:
        data = path.read_bytes()
        frames = decoder.decode(av.Packet(data))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnreadableSource(path, f"cannot be decoded ({plain(error)})") from error
    # libav fills the missing half of a JPEG with grey and says nothing: look for the end behind the last scan.
    if decoder.name == "mjpeg" and data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
        raise UnreadableSource(path, "is cut off")
    if not frames or frames[0].is_corrupt:
        raise UnreadableSource(path, "cannot be decoded")
    return frames[0]


def _open(path: Path) -> InputContainer:
    try:
        size = os.stat(path).st_size
        if path.suffix.lower() in NOT_VIDEO_SUFFIXES:
            raise UnreadableSource(path, "not a video")
        if size == 0:
            raise UnreadableSource(path, "empty file (0 bytes)")
        # An absolute path cannot be taken for a protocol, as "12:30.mp4" would be.
        return av.open(os.path.abspath(path), metadata_errors="replace")
    except av.error.InvalidDataError as error:
        raise UnreadableSource(path, NO_HEADER) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnreadableSource(path, f"cannot be opened ({plain(error)})") from error


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    if container.format.name in TEXT_FORMATS:
        raise UnreadableSource(path, "not a video")
    if any(name in container.format.name for name in PICTURE_FORMATS):
        raise UnreadableSource(path, "a single picture, not a video")
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise UnreadableSource(path, "audio only, no video" if container.streams.audio else NO_HEADER)
    stream = streams[0]
    if not (stream.codec_context and stream.width and stream.height):
        raise UnreadableSource(path, "its video codec is unknown or its header holds no picture size")
    stream.thread_count = 1  # several processes decode side by side; threads in each would only wait for each other
    stream.thread_type = "NONE"
    return stream


def _is_cover(stream: VideoStream) -> bool:
    """The picture of an album in a sound file: a video stream of one frame."""
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _good_frames(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Frames up to the first damaged one. Damage before the first good frame is a cut in mid-scene: passed over."""
    joined = container.format.name == "mpegts"  # there a new recording behind the first is flagged too
    good, last = 0, 0.0
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                if good == 0:
                    continue
                raise
            for frame in frames:
                if not (frame.is_corrupt or (packet.is_corrupt and not joined)):
                    good, last = good + 1, frame.time or 0.0
                    yield frame
                elif good:
                    raise TruncatedVideo(path, f"damaged after frame {good} ({last:.2f} s)")
    except av.error.FFmpegError as error:
        if not good:
            raise UnreadableSource(path, f"no frame of it can be decoded ({plain(error)})") from error
        raise TruncatedVideo(path, f"damaged after frame {good} ({last:.2f} s): {plain(error)}") from error
