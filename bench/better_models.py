"""Which build and objective understands more? Equal CPU-minutes for each, judged on development quadruplets.

    python bench/better_models.py --work WORK [--minutes 8] [--seeds 0] [--quadruplets 40]

Writes bench/results/better_models.json. The development part is where choices are made; the test part is left to
bench/intuition.py, and to what won here. A build that WORK already holds is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from intuition import RECORD_SEED, WORLD
from result import write_result
from train import Clock

import foretell
from foretell import presets
from foretell.data.split import split_stretches
from foretell.data.store import Store
from foretell.evals.exam import HORIZONS, SEEDS, possible_clips
from foretell.evals.intuitive_physics import examine
from foretell.evals.judges import Foresight
from foretell.model.predictors import CausalConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.masked import MaskedConfig
from foretell.objectives.next_latent import NextLatentConfig
from foretell.objectives.objective import ObjectiveConfig, build_objective
from foretell.train.loop import train_loop
from foretell.train.run import RunConfig, run_training, window_batches
from foretell.worlds.record import record
from foretell.worlds.stage import PROPERTIES


class Variant(NamedTuple):
    """A build and what it learns by."""

    model: Callable[[], ModelConfig]
    objective: ObjectiveConfig


def causal() -> ModelConfig:
    """The dense encoder, and attention over the last steps of every token instead of memory in space."""
    return dataclasses.replace(presets.dense(), predictor=CausalConfig())


LEARNED_FROM = NextLatentConfig(horizon=8, settle=0.5)
"""By all but where said: hidden things are hardly foreseen before the encoder rests."""
VARIANTS = {
    "recurrent memory, rollouts of 8": Variant(presets.dense, LEARNED_FROM),
    "recurrent memory, one step alone": Variant(presets.dense, NextLatentConfig(horizon=2, rollout=0.0, settle=0.5)),
    "recurrent memory, encoder learns to the end": Variant(presets.dense, NextLatentConfig(horizon=8)),
    "recurrent memory, colour kept": Variant(presets.colour, LEARNED_FROM),
    "causal attention, rollouts of 8": Variant(causal, LEARNED_FROM),
    "masked, recurrent memory": Variant(presets.dense, MaskedConfig(horizon=8)),
}


def main() -> None:
    """Train and judge each variant, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--episodes", type=int, default=12_000)
    parser.add_argument("--quadruplets", type=int, default=40)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    record(WORLD, arguments.work / "videos", episodes=arguments.episodes, seed=RECORD_SEED)
    foretell.ingest(arguments.work / "videos", arguments.work / "store", workers=1)
    figures: dict[str, list[float]] = {}
    for name in arguments.only:
        for seed in arguments.seeds:
            found = judged(arguments, name, seed)
            print(name, seed, {figure: round(value, 3) for figure, value in found.items()}, flush=True)
            for figure, value in found.items():
                figures.setdefault(f"{name}/{figure}", []).append(value)
    write_result(
        Path(__file__).parent / "results" / "better_models.json",
        protocol={
            "unit": "relative accuracy on quadruplets of the development part; CPU-minutes of training",
            "world": repr(WORLD),
            "episodes": arguments.episodes,
            "minutes": arguments.minutes,
            "quadruplets": arguments.quadruplets,
            "horizons": HORIZONS,
            "seeds of the exam": SEEDS,
            "variants": {name: repr(VARIANTS[name].objective) for name in arguments.only},
        },
        seeds=arguments.seeds,
        metrics=figures,
        baselines={"chance": 0.5},
    )


def judged(arguments: argparse.Namespace, name: str, seed: int) -> dict[str, float]:
    """One training of a variant: accuracy for each property, their mean, and what it cost."""
    variant, store = VARIANTS[name], Store.open(arguments.work / "store")
    folder = arguments.work / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    told = folder / "judged.json"
    if told.exists():
        return dict(json.loads(told.read_text()))
    config = foretell.TrainConfig(steps=1, seed=seed, check_every=250, objective=variant.objective)
    config = dataclasses.replace(config, steps=steps_in(arguments.minutes, variant, store, config))
    began = time.process_time()
    run = RunConfig(model=variant.model(), train=config, hold_out=0.02)  # nothing is calibrated here
    model = foretell.load_model(run_training(store, folder, run))
    cost = (time.process_time() - began) / 60
    judge = Foresight(model, possible_clips(WORLD, 128, SEEDS["normal"]), HORIZONS)
    world = dataclasses.replace(WORLD, part="development")
    found = {
        kind: float(
            examine({name: judge}, world, kind, arguments.quadruplets, SEEDS["quadruplets"])[name].relative.mean()
        )
        for kind in PROPERTIES
    }
    found |= {"mean": sum(found.values()) / len(found), "cpu_minutes": cost, "steps": float(config.steps or 0)}
    told.write_text(json.dumps(found))
    return found


def steps_in(minutes: float, variant: Variant, store: Store, config: foretell.TrainConfig) -> int:
    """Steps that so many CPU-minutes pay for, from a few of them: on a busy machine equal wall time is no equal chance."""
    few = dataclasses.replace(config, steps=12, check_every=10**9, save_every=10**9)
    split = split_stretches(store.lengths, fps=store.view.fps, calibration=0.02, development=0.1, seed=config.seed)
    clock = Clock(window_batches(store, split, few))
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    model = WorldModel(dataclasses.replace(variant.model(), view=store.view))
    with TemporaryDirectory() as folder:
        train_loop(model, build_objective(config.objective, model), clock, few, Path(folder), lambda model, step: {})
    frames = few.batch * few.window
    return max(1, round(minutes * 60 * clock.rate_and_share(frames)[0] / frames))


if __name__ == "__main__":
    main()
