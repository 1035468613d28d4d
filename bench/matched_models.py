"""World models that differ only in what they are asked for: JEPA; pixels at equal time, at four times that, at equal steps.

One trunk, one predictor, one store, one order of windows and one schedule; neither says how the picture moves (`carry`),
neither chooses a checkpoint: the last weights are judged. Equal time is CPU time: how long a step of each takes is
measured in turns, so that a busy machine slows both, and the pixel model gets as many steps as take the JEPA's seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import foretell
from foretell import presets
from foretell.data.split import Split, split_stretches
from foretell.data.store import Store
from foretell.log import write_whole
from foretell.model.actions import Batch
from foretell.model.folder import save_model
from foretell.model.precision import mixed_precision
from foretell.model.world_model import WorldModel
from foretell.objectives.next_latent import NextLatentConfig
from foretell.objectives.next_pixels import NextPixelsConfig
from foretell.objectives.objective import Objective, ObjectiveConfig, build_objective, save_objective
from foretell.train.loop import TrainConfig, step_generator, train_loop, weighted_sum
from foretell.train.optim import OptimConfig, build_optimizer
from foretell.train.run import RunConfig, run_facts, window_batches
from foretell.training import without_carry
from foretell.worlds.physics import Physics
from foretell.worlds.record import record

Kind = Literal["jepa", "pixels_equal_time", "pixels_equal_steps", "pixels_four_times"]
TIMES = {"pixels_equal_time": 1, "pixels_four_times": 4}
"""How much of the JEPA's time a model of pixels gets, where that is what is matched."""
TURNS, STEPS_A_TURN = 6, 5
"""How the speed of a step is measured: so many turns each, one after the other, of so many steps."""
HORIZON = 10
"""Steps of a training rollout of both: those that are judged."""


@dataclass(frozen=True, kw_only=True)
class Matched:
    """What all models of one comparison share."""

    work: Path
    """Where videos, store and models are kept."""
    world: Physics
    """What they are trained on."""
    episodes: int
    """Of it."""
    seed: int
    """Of these episodes."""
    steps: int
    """Training steps of the JEPA, and of the pixel model at equal steps."""

    def store(self) -> Store:
        """Record and ingest, if it is not done."""
        videos = self.work / "videos"
        record(self.world, videos, episodes=self.episodes, seed=self.seed)
        foretell.ingest(videos, self.work / "store", workers=1)
        return Store.open(self.work / "store")

    def run_config(self, kind: Kind, seed: int, steps: int) -> RunConfig:
        """All settings of a training."""
        objective: ObjectiveConfig = NextLatentConfig(horizon=HORIZON)
        if kind != "jepa":
            objective = NextPixelsConfig(horizon=HORIZON)
        train = TrainConfig(steps=steps, seed=seed, objective=objective, check_every=10**6, save_every=100)
        return RunConfig(model=without_carry(presets.dense()), train=train, hold_out=0.05, development=0.05)

    def trained(self, kind: Kind, seed: int) -> tuple[Path, dict[str, Any]]:
        """The model folder of one seed, trained unless WORK holds it, and what its training took."""
        out = self.work / f"{kind}{seed}"
        told = out / "took.json"
        if not told.exists():
            steps = self.steps
            if kind in TIMES:
                steps = round(TIMES[kind] * self.steps * self.pixel_steps_per_step())
            store = self.store()
            with _counted(out / "cpu_seconds.json") as spent:
                weights = train(store, out, self.run_config(kind, seed, steps))
            write_whole(told, json.dumps({"steps": steps, "cpu_seconds": spent(), "parameters": weights}) + "\n")
        return out, json.loads(told.read_text())

    def pixel_steps_per_step(self) -> float:
        """How many steps of the pixel model take as long as one of the JEPA; measured once and kept."""
        told = self.work / "speed.json"
        if not told.exists():
            store = self.store()
            kinds: dict[Kind, Callable[[int], None]] = {}
            for kind in ("jepa", "pixels_equal_steps"):
                config = self.run_config(kind, 0, self.steps)
                kinds[kind] = _one_step(*_built(config), window_batches(store, _split(store, config), config.train))
            for take in kinds.values():
                take(0)  # what is done only once is not timed
            seconds = dict.fromkeys(kinds, 0.0)
            for turn in range(TURNS):
                for kind, take in kinds.items():
                    began = time.process_time()
                    for step in range(STEPS_A_TURN):
                        take(1 + turn * STEPS_A_TURN + step)
                    seconds[kind] += time.process_time() - began
            taken = {kind: value / (TURNS * STEPS_A_TURN) for kind, value in seconds.items()}
            write_whole(told, json.dumps({"cpu_seconds_a_step": taken}) + "\n")
        seconds = json.loads(told.read_text())["cpu_seconds_a_step"]
        return float(seconds["jepa"] / seconds["pixels_equal_steps"])


@contextmanager
def _counted(path: Path) -> Iterator[Callable[[], float]]:
    """CPU-seconds of what is done inside, with those of runs that were cut short."""

    def spent() -> float:
        return float(json.loads(path.read_text())) if path.exists() else 0.0

    began = time.process_time()
    try:
        yield spent
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(spent() + time.process_time() - began) + "\n")


def train(store: Store, out: Path, config: RunConfig) -> int:
    """Train, write the model folder (model and what the objective owns), and count the weights. An interrupted one goes on."""
    split = _split(store, config)
    torch.set_num_threads(1)
    model, objective = _built(config)
    batches = window_batches(store, split, config.train)
    train_loop(model, objective, batches, config.train, out, lambda model, step: {})
    model.eval()
    save_model(out, model, run_facts(store, split, config))
    save_objective(out, objective)
    return sum(p.numel() for part in (model, objective) for p in part.parameters())


def _built(config: RunConfig) -> tuple[WorldModel, Objective]:
    torch.manual_seed(config.train.seed)
    model = WorldModel(config.model)
    return model, build_objective(config.train.objective, model)


def _split(store: Store, config: RunConfig) -> Split:
    shares = {"calibration": config.hold_out, "development": config.development}
    return split_stretches(store.lengths, fps=store.view.fps, seed=config.train.seed, **shares)


def _one_step(model: WorldModel, objective: Objective, batches: Callable[[int], Batch]) -> Callable[[int], None]:
    """A training step as the loop takes it."""
    optimizer = build_optimizer(OptimConfig(), torch.nn.ModuleDict({"model": model, "objective": objective}))

    def take(step: int) -> None:
        model.train()
        objective.before_step(model, 0.5)
        frames, _ = batches(step)
        with mixed_precision("auto", frames.device):
            terms = objective.terms(model, frames, step_generator(0, step))
        loss = weighted_sum(terms, objective.weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return take
