"""Video files and image folders -> chunks of steps as a View sees them, in bounded memory."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import av

from foretell.data.clip import View
from foretell.data.decode import (
    TruncatedVideo,
    UnreadableSource,
    decode_image,
    decode_images,
    decode_video,
    mean_fps,
    open_video,
    plain,
    promised_seconds,
)
from foretell.data.fit import Fitter
from foretell.data.resample import Chunk, Resampler
from foretell.data.sources import Source, find_sources, frame_files
from foretell.errors import DataError

__all__ = [
    "Chunk",
    "Probe",
    "Source",
    "TruncatedVideo",
    "UnreadableSource",
    "find_sources",
    "probe",
    "read",
    "summarise_fps",
]

FPS_CAP = 30.0
FPS_OF_IMAGES = 10.0
PROBED_AT_MOST = 200


class Probe(NamedTuple):
    """What a source says of itself; nothing is decoded, so that a damaged one may say too much."""

    fps: float
    """Mean source frames a second."""
    frames_estimate: int
    seconds: float
    height: int
    """Stored rows, before rotation and pixel aspect."""
    width: int
    """Stored columns, before rotation and pixel aspect."""


def read(source: Source, view: View) -> Iterator[Chunk]:
    """Decode a source into Chunks of up to 64 steps: its size brought to the view, its rate to `view.fps`.

    Time stamps decide which frame a step shows, so that a variable rate, dropped frames and any source rate come out
    right. Numbered images are taken at the view's rate, one step each. Raises UnreadableSource if there is nothing to
    show, and TruncatedVideo, after the last good chunk, if the video breaks off or is damaged midway.
    """
    fitter = Fitter(view)
    if source.kind == "images":
        pictures: Resampler[av.VideoFrame] = Resampler(view.fps, lambda frame: fitter.paint(frame, None))
        yield from pictures.run(decode_images(source.path, view.fps))
        return
    container, stream = open_video(source.path)
    with container:
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or None
        video: Resampler[av.VideoFrame] = Resampler(view.fps, lambda frame: fitter.paint(frame, aspect))
        try:
            yield from video.run(decode_video(source.path, container, stream))
        except (av.error.FFmpegError, ValueError) as error:
            raise UnreadableSource(source.path, f"its colour format cannot be converted ({plain(error)})") from error


def probe(source: Source) -> Probe:
    """Rate, length and size from the headers. Images have no rate: they count as 10 fps. Raises UnreadableSource."""
    if source.kind == "images":
        files = frame_files(source.path)
        frame = decode_image(files[0])
        return Probe(FPS_OF_IMAGES, len(files), len(files) / FPS_OF_IMAGES, frame.height, frame.width)
    container, stream = open_video(source.path)
    with container:
        fps = mean_fps(stream)
        seconds = promised_seconds(container, stream) or stream.frames / fps
        return Probe(fps, stream.frames or round(seconds * fps), seconds, stream.height, stream.width)


def summarise_fps(sources: Sequence[Source]) -> tuple[float, str]:
    """The rate to use when none is stated, and a sentence that says where it comes from.

    The median of the videos' rates (of 200, evenly spread, if there are more), at most 30; 10 if there are only
    image folders. Raises DataError if none of the sources can be opened.
    """
    videos = [source for source in sources if source.kind == "video"]
    rates = []
    for source in spread(videos, PROBED_AT_MOST):
        try:
            rates.append(probe(source).fps)
        except UnreadableSource:
            continue  # `read` names it with its reason
    if rates:
        median = statistics.median(rates)
        many = f"{len(rates)} video{'s' if len(rates) > 1 else ''}"
        if median > FPS_CAP:
            return FPS_CAP, f"{FPS_CAP:g} fps: the cap, since the median of {many} is {median:g}"
        return median, f"{median:g} fps: the median of {many}"
    if len(videos) < len(sources):
        return FPS_OF_IMAGES, f"{FPS_OF_IMAGES:g} fps: the default for image folders"
    where = os.path.commonpath([source.path.absolute() for source in sources]) if sources else "no source given"
    raise DataError(f"{where}: none of the {len(sources)} files there can be opened as a video")


def spread(sources: Sequence[Source], count: int) -> Sequence[Source]:
    """At most `count` of the sources, evenly spread over their order."""
    if len(sources) <= count:
        return sources
    return [sources[index * len(sources) // count] for index in range(count)]
