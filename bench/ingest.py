"""How close ingest comes to bare decoding, and what memory a ten-hour video takes.

python bench/ingest.py

224 px H.264 to 64 px in one process: frames per CPU-second of `ingest` (read, resample, fit, checksum, statistics,
write) over those of PyAV decoding with one scaler that is kept, and nothing else. Rounds interleave the two.
The ten-hour file repeats the same encoded minute with shifted time stamps; its ingest runs in a process of its own,
whose peak resident memory is measured.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from result import write_result

from foretell.data.ingest import ingest
from foretell.data.store import Store
from foretell.data.writers import VideoWriter

FILES, FRAMES, SIZE, VIEW, FPS = 6, 300, 224, 64, 10
LONG_HOURS, LONG_FPS = 10, 5
BARS = {"ingest_over_bare": 0.9, "long_peak_mib": 1024}


def scene(frames: int, rng: np.random.Generator) -> np.ndarray:
    """A textured ground with a patch that moves and mild noise, as a camera has."""
    ground = rng.integers(0, 200, (14, 14, 3)).repeat(16, 0).repeat(16, 1)
    film = np.broadcast_to(ground, (frames, SIZE, SIZE, 3)).astype(np.uint8)
    for step in range(frames):
        x, y = (100 + 80 * np.array([np.sin(step / 9), np.cos(step / 7)])).astype(int)
        film[step, y : y + 40, x : x + 40] = 230
        film[step] += rng.integers(0, 4, (SIZE, SIZE, 1), dtype=np.uint8)
    return film


def bare(folder: Path) -> int:
    """Decode and scale, keep nothing."""
    frames = 0
    for path in sorted(folder.iterdir()):
        reformatter = VideoReformatter()
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            for frame in container.decode(stream):
                reformatter.reformat(
                    frame, width=VIEW, height=VIEW, format="rgb24", interpolation=Interpolation.AREA, threads=1
                ).to_ndarray()
                frames += 1
    return frames


def ours(folder: Path, out: Path) -> int:
    """The same frames into a store."""
    return ingest(folder, out, view_size=(VIEW, VIEW), fps=FPS, workers=1, progress=False).frames


def frames_per_cpu_second(work: Callable[[], int]) -> float:
    began = time.process_time()
    frames = work()
    assert frames == FILES * FRAMES
    return frames / (time.process_time() - began)


def one_round(folder: Path, number: int) -> tuple[float, float]:
    """Bare and ingest, now one and now the other first, since the machine's load drifts."""
    works = [partial(bare, folder / "videos"), partial(ours, folder / "videos", folder / f"store_{number}")]
    if number % 2:
        other, own = map(frames_per_cpu_second, works)
    else:
        own, other = map(frames_per_cpu_second, reversed(works))
    return other, own


def long_video(path: Path, minute: Path) -> int:
    """Ten hours from one encoded minute, packet by packet; returns the frames."""
    with av.open(str(minute)) as source:
        template = source.streams.video[0]
        packets = [packet for packet in source.demux(template) if packet.dts is not None]
        length = template.duration
        with av.open(str(path), "w") as container:
            stream = container.add_stream_from_template(template)
            for turn in range(LONG_HOURS * 60):
                for packet in packets:
                    copy = av.Packet(bytes(packet))
                    copy.pts, copy.dts = packet.pts + turn * length, packet.dts + turn * length
                    copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, stream
                    copy.duration = packet.duration
                    container.mux(copy)
    return LONG_HOURS * 60 * len(packets)


def ingest_long(folder: Path, rng: np.random.Generator) -> dict[str, float]:
    """Peak memory and speed of the ten-hour file in a process of its own."""
    minute = folder / "minute.mp4"
    with VideoWriter(minute, LONG_FPS, SIZE, SIZE, crf=23) as writer:
        writer.write(scene(60 * LONG_FPS, rng))
    path = folder / "long.mp4"
    frames = long_video(path, minute)
    script = f"from foretell.data.ingest import ingest; ingest({str(path)!r}, {str(folder / 'long')!r}, workers=1)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", script], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    store = Store.open(folder / "long")
    assert store.lengths == [frames], (store.lengths, frames)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "long_peak_mib": after.ru_maxrss / 1024,
        "long_frames": frames,
        "long_file_mb": path.stat().st_size / 1e6,
        "long_frames_per_cpu_second": frames / cpu_seconds,
    }


def main() -> None:
    """Rounds of both; the first is not counted. Then the long file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ingest.json")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(FILES):
            with VideoWriter(folder / "videos" / f"{number}.mp4", FPS, SIZE, SIZE, crf=23) as writer:
                writer.write(scene(FRAMES, rng))
        rounds = [one_round(folder, number) for number in range(arguments.rounds + 1)][1:]
        long = ingest_long(folder, rng)
    write_result(
        arguments.out,
        protocol={
            "files": FILES,
            "frames_per_file": FRAMES,
            "source": f"{SIZE} x {SIZE} H.264, crf 23",
            "view": [VIEW, VIEW],
            "rounds": arguments.rounds,
            "long_file": f"{LONG_HOURS} hours at {LONG_FPS} fps, {SIZE} x {SIZE}",
            "unit": "frames per CPU-second, one process",
            "bars": BARS,
        },
        seeds=[arguments.seed],
        metrics={
            "ingest": [own for _, own in rounds],
            "ingest_over_bare": [own / other for other, own in rounds],
            **long,
        },
        baselines={"bare_pyav_one_scaler": [other for other, _ in rounds]},
    )


if __name__ == "__main__":
    main()
