"""Random windows of 16 x 64 x 64 x 3 from the clip store, beside Lance, HDF5 and decoding the videos, in one run.

python bench/store.py          (needs: pip install "foretell[bench]")

Every reader copies the bytes of a window into the same numpy array, from the page cache, in one process. HDF5 and
Lance are given in several layouts each; the fastest of each counts as the baseline. `hdf5_in_memory` does not count:
its chunk cache holds the whole data set in the process, which a real store does not allow. Rounds interleave all
readers, so that what else the machine does falls on all alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["OMP_NUM_THREADS"] = "1"

import av
import h5py
import lance
import numpy as np
import pyarrow as pa
from av.video.reformatter import Interpolation, VideoReformatter
from result import write_result

from foretell.data.ingest import ingest
from foretell.data.store import Store
from foretell.data.writers import write_video

CLIPS, FRAMES, SIZE, WINDOW, FPS = 60, 200, 64, 16, 10
BARS = {"store_over_lance": 15, "store_over_hdf5": 3}
Reader = Callable[[int, int, np.ndarray], None]
"""Put the window of (clip, first frame) into an array."""


def videos(folder: Path, rng: np.random.Generator) -> None:
    """Textured scenes with a patch that moves."""
    for number in range(CLIPS):
        scene = rng.integers(0, 200, (8, 8, 3)).repeat(8, 0).repeat(8, 1) + rng.integers(0, 25, (SIZE, SIZE, 3))
        frames = np.broadcast_to(scene, (FRAMES, SIZE, SIZE, 3)).astype(np.uint8)
        for step in range(FRAMES):
            x, y = (28 + 20 * np.array([np.sin(step / 9 + number), np.cos(step / 7)])).astype(int)
            frames[step, y : y + 12, x : x + 12] = 255 - 40 * (number % 5)
        write_video(folder / f"{number:02d}.mp4", frames, FPS)


def from_store(store: Store) -> Reader:
    def read(clip: int, start: int, out: np.ndarray) -> None:
        np.copyto(out, store.window(clip, start, WINDOW))

    return read


def from_hdf5(path: Path, pixels: np.ndarray, chunk: int | None, cache_bytes: int = 16 * 2**20) -> Reader:
    with h5py.File(path, "w") as file:
        file.create_dataset("frames", data=pixels, chunks=None if chunk is None else (chunk, SIZE, SIZE, 3))
    frames = h5py.File(path, "r", rdcc_nbytes=cache_bytes, rdcc_nslots=100_003)["frames"]

    def read(clip: int, start: int, out: np.ndarray) -> None:
        first = clip * FRAMES + start
        np.copyto(out, frames[first : first + WINDOW])  # faster than `read_direct`, which takes the slow path

    return read


def from_lance(path: Path, pixels: np.ndarray, column: pa.Array) -> Reader:
    dataset = lance.write_dataset(pa.table({"frame": column}), str(path))

    def read(clip: int, start: int, out: np.ndarray) -> None:
        first = clip * FRAMES + start
        taken = dataset.take(list(range(first, first + WINDOW)))["frame"].combine_chunks()
        assert taken.offset == 0
        np.copyto(out, np.frombuffer(taken.buffers()[-1], np.uint8, out.size).reshape(out.shape))

    return read


def from_videos(folder: Path) -> Reader:
    paths = sorted(folder.iterdir())
    reformatter = VideoReformatter()

    def read(clip: int, start: int, out: np.ndarray) -> None:
        with av.open(str(paths[clip])) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            container.seek(round(start / FPS / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                index = round(frame.time * FPS)
                if index >= start:
                    out[index - start] = reformatter.reformat(
                        frame, format="rgb24", interpolation=Interpolation.AREA, threads=1
                    ).to_ndarray()
                if index == start + WINDOW - 1:
                    return

    return read


def readers(folder: Path, seed: int) -> dict[str, Reader]:
    """All readers over the same frames, checked to give the same windows."""
    videos(folder / "videos", np.random.default_rng(seed))
    ingest(folder / "videos", folder / "store", fps=FPS, progress=False)
    store = Store.open(folder / "store")
    pixels = np.concatenate([store.window(clip, 0, FRAMES) for clip in range(CLIPS)])
    rows = pa.array(pixels.reshape(-1))
    layouts = {
        "lance_binary": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(SIZE * SIZE * 3), len(pixels), [None, pa.py_buffer(pixels)]
        ),
        "lance_list": pa.FixedSizeListArray.from_arrays(rows, SIZE * SIZE * 3),
    }
    made: dict[str, Reader] = {"store": from_store(store)}
    made |= {name: from_lance(folder / name, pixels, column) for name, column in layouts.items()}
    made |= {f"hdf5_chunk_{chunk}": from_hdf5(folder / f"{chunk}.h5", pixels, chunk) for chunk in (1, 8, 16)}
    made["hdf5_contiguous"] = from_hdf5(folder / "contiguous.h5", pixels, None)
    made["hdf5_in_memory"] = from_hdf5(folder / "memory.h5", pixels, 16, 2 * pixels.nbytes)
    made["decode_pyav"] = from_videos(folder / "videos")
    out = np.empty((WINDOW, SIZE, SIZE, 3), np.uint8)
    for name, read in made.items():
        for clip, start in ((0, 0), (CLIPS - 1, FRAMES - WINDOW), (CLIPS // 2, 77)):
            out[:] = 0
            read(clip, start, out)
            assert (out == store.window(clip, start, WINDOW)).all(), name
    return made


def windows_per_cpu_second(read: Reader, cpu_seconds: float, rng: np.random.Generator) -> float:
    """Read random windows for so long; process time counts all threads that a reader may start."""
    out = np.empty((WINDOW, SIZE, SIZE, 3), np.uint8)
    places = [(int(rng.integers(CLIPS)), int(rng.integers(FRAMES - WINDOW + 1))) for _ in range(4096)]
    done, began = 0, time.process_time()
    while time.process_time() - began < cpu_seconds:
        for step in range(done, done + 16):
            read(*places[step % len(places)], out)
        done += 16
    return done / (time.process_time() - began)


def main() -> None:
    """Rounds of all readers; the first is not counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu-seconds", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "store.json")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        made = readers(Path(folder), arguments.seed)
        rng = np.random.default_rng(arguments.seed)
        rounds = [
            {name: windows_per_cpu_second(read, arguments.cpu_seconds, rng) for name, read in made.items()}
            for _ in range(arguments.rounds + 1)
        ][1:]
    names = list(made)

    def best(kind: str) -> str:
        return max(
            (name for name in names if name.startswith(kind)),
            key=lambda name: statistics.median(one[name] for one in rounds),
        )

    lance_best, hdf5_best = best("lance"), best("hdf5_chunk")
    write_result(
        arguments.out,
        protocol={
            "clips": CLIPS,
            "frames_per_clip": FRAMES,
            "window": [WINDOW, SIZE, SIZE, 3],
            "rounds": arguments.rounds,
            "cpu_seconds_per_round": arguments.cpu_seconds,
            "unit": "windows per CPU-second, bytes copied out, page cache warm, one process",
            "lance_layout_that_counts": lance_best,
            "hdf5_layout_that_counts": hdf5_best,
            "bars": BARS,
        },
        seeds=[arguments.seed],
        metrics={
            "store": [one["store"] for one in rounds],
            "store_over_lance": [one["store"] / one[lance_best] for one in rounds],
            "store_over_hdf5": [one["store"] / one[hdf5_best] for one in rounds],
            "store_over_decoding": [one["store"] / one["decode_pyav"] for one in rounds],
        },
        baselines={name: [one[name] for one in rounds] for name in names if name != "store"},
    )


if __name__ == "__main__":
    main()
