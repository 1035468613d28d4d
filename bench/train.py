"""Frames trained per CPU-second, and the share of the time that data takes, in the real loop on a real clip store.

python bench/train.py

A frame is one step of a window in a training step: batch x window of them, of 64 x 64 pixels, from a store of the
physics world. Times are CPU time of the process, from one call for a batch to the next, one thread; presets take turns,
so that what else the machine does falls on all alike. Bars: 600 frames per CPU-second for dense, 1,500 for pooled, and
less than 5% of the time in data.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from result import write_result

from foretell import presets
from foretell.data.ingest import ingest
from foretell.data.split import split_stretches
from foretell.data.store import Store
from foretell.model.actions import Batch
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.next_latent import NextLatent
from foretell.train.loop import TrainConfig, train_loop
from foretell.train.run import window_batches
from foretell.worlds.physics import Physics
from foretell.worlds.record import record

EPISODES, WARM = 60, 2
BARS = {"dense": 600, "pooled": 1500, "data_share": 0.05}
MODELS: dict[str, Callable[[], ModelConfig]] = {"dense": presets.dense, "pooled": presets.pooled}


class Clock:
    """Stands before `batches` and notes the CPU time at which each call begins and how long it takes."""

    def __init__(self, batches: Callable[[int], Batch]) -> None:
        self.batches = batches
        self.began: list[float] = []
        self.data: list[float] = []

    def __call__(self, step: int) -> Batch:
        self.began.append(time.process_time())
        batch = self.batches(step)
        self.data.append(time.process_time() - self.began[-1])
        return batch

    def rate_and_share(self, frames: int) -> tuple[float, float]:
        """Frames per CPU-second and share of the time in data: medians over steps, without the first `WARM`."""
        step = statistics.median(b - a for a, b in zip(self.began[WARM:], self.began[WARM + 1 :], strict=False))
        return frames / step, statistics.median(self.data[WARM:]) / step


def one_run(model: ModelConfig, store: Store, steps: int, folder: Path) -> tuple[float, float]:
    """Train a new model for a few steps in the real loop."""
    config = TrainConfig(steps=steps + WARM + 1, check_every=10**9, save_every=10**9)
    split = split_stretches(store.lengths, fps=store.view.fps, calibration=0.2, development=0.1, seed=config.seed)
    clock = Clock(window_batches(store, split, config))
    torch.manual_seed(config.seed)
    network = WorldModel(model)
    train_loop(network, NextLatent(config.objective, network), clock, config, folder, lambda model, step: {})
    return clock.rate_and_share(config.batch * config.window)


def main() -> None:
    """Record, ingest, then rounds of short runs of each preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "train.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    rates: dict[str, list[float]] = {name: [] for name in MODELS}
    shares: dict[str, list[float]] = {name: [] for name in MODELS}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        record(Physics(), folder / "videos", episodes=EPISODES, seed=0, progress=False)
        ingest(folder / "videos", folder / "store", workers=1, progress=False)
        store = Store.open(folder / "store")
        for number in range(arguments.rounds):
            for name, preset in MODELS.items():
                rate, share = one_run(preset(), store, arguments.steps, folder / f"{name}{number}")
                rates[name].append(rate)
                shares[name].append(share)

    config = TrainConfig(steps=1)
    write_result(
        arguments.out,
        protocol={
            "measure": "process CPU time from batch to batch in train_loop, median over steps; one thread",
            "rounds": arguments.rounds,
            "steps": arguments.steps,
            "data": f"store of {EPISODES} episodes of {Physics()}",
            "train": dataclasses.asdict(config),
            "models": {name: str(preset()) for name, preset in MODELS.items()},
            "parameters": {
                name: sum(p.numel() for p in WorldModel(preset()).parameters()) for name, preset in MODELS.items()
            },
            "bars": BARS,
        },
        seeds=[config.seed],
        metrics={f"{name}_frames_per_cpu_second": found for name, found in rates.items()}
        | {f"{name}_data_share": found for name, found in shares.items()},
        baselines={},
    )


if __name__ == "__main__":
    main()
