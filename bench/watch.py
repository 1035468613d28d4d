"""Watching one 64 px stream, one frame at a time, on one core: frames a second and the slowest steps.

    python bench/watch.py [--frames 600]

The default dense model with random weights (speed does not depend on them), all horizons, batch 1. Beside it the same without
strangeness, a stretch of either in turn, and the same frames in chunks.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from result import write_result

from foretell.presets import dense
from foretell.surprise.panel import MODEL, fit_panel, untrained_model
from foretell.surprise.score import LatentScorer
from foretell.surprise.stream import SurpriseConfig

STRETCH = 60


def main() -> None:
    """Stream, time every step, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=600)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frames = np.random.default_rng(0).integers(0, 256, (arguments.frames, 64, 64, 3), np.uint8)
    config = SurpriseConfig()
    noise = lambda: [("noise", frames[:48])]  # noqa: E731
    panel = fit_panel(untrained_model(dense(), 0), noise, noise, config, 0)
    scorer = panel.scorers[MODEL]
    assert isinstance(scorer, LatentScorer)
    certain = LatentScorer(scorer.model, scorer.whitening, config)
    wall: list[float] = []
    cpu_streamed = cpu_certain = 0.0
    for number, at in enumerate(range(0, len(frames), STRETCH)):
        stretch = frames[at : at + STRETCH]
        seconds, cpu = stream(scorer, stretch)
        _, cpu_without = stream(certain, stretch)
        if number:  # the first warms up
            wall, cpu_streamed, cpu_certain = wall + seconds, cpu_streamed + cpu, cpu_certain + cpu_without
    scorer.start()
    cpu = time.process_time()
    for at in range(0, len(frames), 64):
        scorer.score(frames[at : at + 64])
    cpu_chunks = time.process_time() - cpu
    milliseconds = np.array(wall) * 1000
    write_result(
        Path(__file__).parent / "results" / "watch.json",
        protocol={
            "view": "64x64",
            "model": "dense, random weights",
            "horizons": config.horizons,
            "chunk": 1,
            "frames": len(frames),
        },
        seeds=[0],
        metrics={
            "frames_per_second": 1000 * len(wall) / milliseconds.sum(),
            "frames_per_cpu_second": len(wall) / cpu_streamed,
            "p50_ms": float(np.percentile(milliseconds, 50)),
            "p99_ms": float(np.percentile(milliseconds, 99)),
        },
        baselines={
            "chunks of 64/frames_per_cpu_second": len(frames) / cpu_chunks,
            "without strangeness/frames_per_cpu_second": len(wall) / cpu_certain,
        },
    )


def stream(scorer: LatentScorer, frames: np.ndarray) -> tuple[list[float], float]:
    """Wall seconds of every step, one frame at a time, and CPU seconds of all."""
    wall, cpu = [], time.process_time()
    for frame in frames:
        began = time.perf_counter()
        scorer.score(frame[None])
        wall.append(time.perf_counter() - began)
    return wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
