"""Watching one 64 px stream, one frame at a time, on one core: frames a second and the slowest steps.

    python bench/watch.py [--frames 600]

The default dense model with random weights (speed does not depend on them), all horizons, batch 1. Floor: the same frames in one chunk.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from result import write_result

from foretell.presets import dense
from foretell.surprise.panel import untrained_model
from foretell.surprise.score import LatentScorer, SurpriseConfig, fit_whitening


def main() -> None:
    """Stream, time every step, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=600)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frames = np.random.default_rng(0).integers(0, 256, (arguments.frames, 64, 64, 3), np.uint8)
    model, config = untrained_model(dense(), 0), SurpriseConfig()
    scorer = LatentScorer(model, fit_whitening(model, lambda: [("noise", frames[:48])], config), config)
    for frame in frames[:30]:
        scorer.score(frame[None])
    wall, cpu = [], time.process_time()
    for frame in frames:
        began = time.perf_counter()
        scorer.score(frame[None])
        wall.append(time.perf_counter() - began)
    cpu_streamed = time.process_time() - cpu
    scorer.start()
    cpu = time.process_time()
    for at in range(0, len(frames), 64):
        scorer.score(frames[at : at + 64])
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
        baselines={"chunks of 64/frames_per_cpu_second": len(wall) / (time.process_time() - cpu)},
    )


if __name__ == "__main__":
    main()
