"""Push-T: how often a T-shaped block is pushed to where a goal image shows it, 25 frames ahead, in 50 steps.

    python bench/pusht.py --work WORK [--seed 0] [--steps 8000]

Records 1,500 episodes of the mixed policy, trains a wider model than the preset's (latents of 64, twice the channels), and evaluates it
beside random and scripted policies on tasks of episodes never seen; success as in the field, by place and angle (20 of 512, 20
degrees), solved starts removed. What WORK holds already is not done again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import foretell
from foretell import presets
from foretell.acting import evaluate_planning
from foretell.data.store import Store
from foretell.model.encoders import PooledConfig
from foretell.model.predictors import SteeredConfig
from foretell.model.world_model import ModelConfig
from foretell.train.heads import HeadsConfig
from foretell.train.run import RunConfig, run_training
from foretell.worlds.played import Played
from foretell.worlds.pusht import PushT, PushTConfig
from foretell.worlds.record import record

MODEL = ModelConfig(
    encoder=PooledConfig(latent_width=64, channels=48, hidden=512), predictor=SteeredConfig(hidden=384, memory=64)
)


def main() -> None:
    """Record, train, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pusht.json")
    arguments = parser.parse_args()
    work, folder = arguments.work, arguments.work / f"model{arguments.seed}"
    record(Played(PushT(PushTConfig()), "mixed", 150), work / "videos", episodes=1500, seed=1)
    foretell.ingest(work / "videos", work / "store", workers=1)
    began = time.process_time()
    run = RunConfig(
        model=MODEL,
        train=presets.act_training(foretell.TrainConfig(steps=arguments.steps, seed=arguments.seed)),
        skip=5,
        hold_out=0.1,
        development=0.05,
        heads=HeadsConfig(steps=4000, farthest=10),
    )
    run_training(Store.open(work / "store"), folder, run)
    print(f"{(time.process_time() - began) / 60:.1f} CPU-minutes of training", flush=True)
    evaluate_planning(folder, arguments.out, world="pusht", over="least")


if __name__ == "__main__":
    main()
