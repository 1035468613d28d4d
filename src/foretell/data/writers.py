"""Frames -> H.264 files that any browser plays. The same frames give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video import VideoStream
from av.video.reformatter import Interpolation, VideoReformatter

from foretell.errors import ConfigError, DataError, ShapeError

# On 64 px scenes `superfast` encodes 1.4 times as many frames per CPU-second as `veryfast`, at the same error.
# No B-frames: the first time stamp is 0 and nothing is reordered. One thread: the bytes do not depend on the machine.
ENCODER = {"preset": "superfast", "bf": "0", "g": "30", "rc-lookahead": "0"}
BT709, BT601, LIMITED = 1, 6, 1
KEEP_SIZE_WITHOUT_RINGING = Interpolation.AREA


class VideoWriter:
    """Write one mp4 as frames arrive (H.264, yuv420p, index at the front). Use it in a `with` block.

    At crf 0 it is lossless, colours too; few browsers play that. The file appears under its name only when the block ends
    without an error; until then it is a hidden `.part` file in the same folder. An odd height or width is padded by one
    repeated edge pixel, since yuv420p halves both. Raises ConfigError for an impossible rate, ShapeError for frames of
    another size and DataError if the file cannot be written or no frame came.
    """

    def __init__(self, path: Path | str, fps: float, height: int, width: int, crf: int = 16) -> None:
        if not 0 < fps <= 1000:
            raise ConfigError(f"{path}: fps is {fps}, expected more than 0 and at most 1000")
        self.path = Path(path).absolute()
        self.height, self.width = height, width
        self.frames = 0
        self._part = self.path.parent / f".{os.getpid()}-{id(self):x}.part"  # short: the name itself may be 255 bytes
        self._reformatter = VideoReformatter()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._part), "w", format="mp4", options={"movflags": "+faststart"})
        except OSError as error:
            raise self._cannot_write(error) from error
        rate = Fraction(fps).limit_denominator(1001)
        self._pixels = "yuv420p" if crf else "rgb24"
        codec = "libx264" if crf else "libx264rgb"
        stream = self._container.add_stream(codec, rate=rate, options={**ENCODER, "crf": str(crf)})
        assert isinstance(stream, VideoStream)
        self._stream = stream
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = self._pixels
        self._stream.thread_count = 1
        if crf:  # say which colours these are; players guess otherwise, and guess differently
            context = self._stream.codec_context
            context.colorspace, context.color_primaries = BT601, BT709
            context.color_trc, context.color_range = BT709, LIMITED

    def write(self, frames: np.ndarray) -> None:
        """Append one frame (H, W, 3) or several (T, H, W, 3), uint8."""
        many = frames if frames.ndim == 4 else frames[None]
        if many.dtype != np.uint8 or many.shape[1:] != (self.height, self.width, 3):
            size = f"({self.height}, {self.width}, 3)"
            raise ShapeError(f"{self.path}: expected uint8 frames {size}, got {frames.dtype} {frames.shape}")
        if self.height % 2 or self.width % 2:
            many = np.pad(many, ((0, 0), (0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        try:
            for pixels in many:
                self._encode(np.ascontiguousarray(pixels))
        except OSError as error:
            raise self._cannot_write(error) from error

    def _encode(self, pixels: np.ndarray) -> None:
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(pixels, format="rgb24"),
            format=self._pixels,
            interpolation=KEEP_SIZE_WITHOUT_RINGING,
            threads=1,
        )
        frame.pts = self.frames
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self.frames == 0:
            self.discard()
            raise DataError(f"{self.path}: no frame was written, so there is no video; give at least one")
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._part.replace(self.path)
        except BaseException as error:  # Ctrl-C, too: a video that has no name yet is not to be found again
            self.discard()
            if isinstance(error, OSError):
                raise self._cannot_write(error) from error
            raise

    def discard(self) -> None:
        """Give up: leave nothing behind."""
        try:
            self._container.close()
        except OSError:
            pass  # the file is thrown away in any case
        finally:
            self._part.unlink(missing_ok=True)

    def _cannot_write(self, error: OSError) -> DataError:
        reason = error.strerror or str(error)
        return DataError(
            f"{self.path}: cannot write this video ({reason}); choose a folder that is writable and has room"
        )

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def write_video(path: Path | str, frames: Iterable[np.ndarray] | np.ndarray, fps: float, *, crf: int = 16) -> None:
    """Write frames, each uint8 (H, W, 3), as one mp4 of `fps`; see VideoWriter for what is raised."""
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise DataError(f"{path}: no frame was given, so there is no video; give at least one")
    if first.ndim != 3:
        raise ShapeError(f"{path}: expected frames (H, W, 3), got an array of shape {first.shape}")
    with VideoWriter(path, fps, first.shape[0], first.shape[1], crf) as writer:
        writer.write(first)
        for frame in frames:
            writer.write(frame)
