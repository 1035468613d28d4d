"""Push-T: how often a T-shaped block is pushed to where a goal image shows it, 25 frames ahead, in 50 steps.

    python bench/pusht.py --work WORK [--seed 0] [--steps 4000]

Records 1,500 episodes of the mixed policy without loss, trains a model whose token says in one part what is seen and in the other where,
and evaluates it beside random and scripted policies on tasks of episodes never seen; success as in the field, by place and angle (20 of
512, 20 degrees), solved starts removed. The agent asks for places and angle as its probe reads them in the goal image, at any step of a
plan. What WORK holds already is not done again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import foretell
from foretell.acting import evaluate_planning
from foretell.data.store import Store
from foretell.model.encoders import WhatWhereConfig
from foretell.model.predictors import SteeredConfig
from foretell.model.world_model import ModelConfig
from foretell.objectives.next_latent import NextLatentConfig
from foretell.train.heads import HeadsConfig
from foretell.train.loop import TrainConfig
from foretell.train.optim import OptimConfig
from foretell.train.run import RunConfig, run_training
from foretell.worlds.played import Played
from foretell.worlds.pusht import PushT, PushTConfig
from foretell.worlds.record import record

MODEL = ModelConfig(encoder=WhatWhereConfig(), predictor=SteeredConfig(hidden=384, memory=64))
OBJECTIVE = NextLatentConfig(isotropy=30.0, within=0.0, inverse=3.0, slow=5.0, settle=0.25)
"""No change within a clip is asked for: the block rests in most windows, and a code of what moves forgets it."""


def main() -> None:
    """Record, train, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pusht.json")
    arguments = parser.parse_args()
    work, folder = arguments.work, arguments.work / f"model{arguments.seed}"
    record(Played(PushT(PushTConfig()), "mixed", 150), work / "videos", episodes=1500, seed=1, lossless=True)
    foretell.ingest(work / "videos", work / "store", workers=1)
    began = time.process_time()
    train = TrainConfig(
        steps=arguments.steps,
        seed=arguments.seed,
        batch=96,
        window=6,
        check_every=250,
        save_every=250,
        objective=OBJECTIVE,
        optim=OptimConfig(peak=1e-3),
    )
    run = RunConfig(
        model=MODEL,
        train=train,
        skip=5,
        hold_out=0.1,
        development=0.05,
        heads=HeadsConfig(steps=4000, farthest=10),
    )
    run_training(Store.open(work / "store"), folder, run)
    print(f"{(time.process_time() - began) / 60:.1f} CPU-minutes of training", flush=True)
    evaluate_planning(folder, arguments.out, world="pusht", aim="meaning", over="least")


if __name__ == "__main__":
    main()
