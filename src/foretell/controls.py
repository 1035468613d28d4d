"""Networks that must stand beside a world model in its exam, each trained like it but for one thing.

untrained encoder: random weights see, only what foretells is trained (and a likeness, where the model has one). shuffled
time: frames in random order. pixel network: foretells pixels instead of latents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from foretell.data.clip import Clip
from foretell.evals.forecast import as_frames
from foretell.evals.judges import Foresight, Judge, PixelForesight
from foretell.log import write_whole
from foretell.model.actions import Batch
from foretell.model.likeness import Likeness, LikenessConfig, new_likeness
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.next_latent import NextLatentConfig
from foretell.objectives.next_pixels import NextPixels, NextPixelsConfig
from foretell.objectives.objective import Objective, build_objective
from foretell.train.likeness import fit_likeness
from foretell.train.loop import TrainConfig, step_generator, train_loop
from foretell.worlds.physics import Physics
from foretell.worlds.record import episode_seed

UNTRAINED, SHUFFLED, PIXELS = "untrained encoder", "shuffled time", "pixel network"
CONTROLS = (UNTRAINED, SHUFFLED, PIXELS)
EPISODES_SEED = 70_001
HORIZON = 8


@dataclass(frozen=True, kw_only=True)
class ControlTask:
    """All that decides a control's weights."""

    name: str
    model: ModelConfig
    world: Physics
    steps: int
    seed: int
    likeness: LikenessConfig | None = None

    @property
    def folder(self) -> str:
        """Where it is kept, below the folder of all controls: another task, another name."""
        return f"{self.name.replace(' ', '-')}-{hashlib.sha256(repr(self).encode()).hexdigest()[:12]}"


def train_controls(tasks: Sequence[ControlTask], folder: Path, pool: Executor) -> list[Future[None]]:
    """Set every control to be trained, side by side in processes of their own; what an earlier call has trained is kept."""
    missing = [task for task in tasks if not (folder / task.folder / "done").exists()]
    return [pool.submit(_train, task, folder / task.folder) for task in missing]


def control_judges(
    tasks: Sequence[ControlTask], folder: Path, normal: Sequence[Clip], horizons: Sequence[int]
) -> dict[str, Judge]:
    """The trained controls as judges, by name."""
    judges: dict[str, Judge] = {}
    for task in tasks:
        model, objective, likeness = _read(task, folder / task.folder)
        if isinstance(objective, NextPixels):
            judges[task.name] = PixelForesight(model, objective.decode, normal, horizons)
        else:
            judges[task.name] = Foresight(model, normal, horizons, likeness)
    return judges


def _build(task: ControlTask) -> tuple[WorldModel, Objective, TrainConfig]:
    torch.manual_seed(task.seed)
    model = WorldModel(task.model)
    if task.name == UNTRAINED:
        model.encoder.requires_grad_(False)
    objective = NextPixelsConfig(horizon=HORIZON) if task.name == PIXELS else NextLatentConfig(horizon=HORIZON)
    config = TrainConfig(steps=task.steps, seed=task.seed, window=task.world.frames, objective=objective)
    return model, build_objective(objective, model), config


def _train(task: ControlTask, folder: Path) -> None:
    torch.set_num_threads(1)
    model, objective, config = _build(task)
    train_loop(model, objective, _batches(task, config), config, folder, lambda model, step: {})
    weights = {f"model.{k}": v for k, v in model.state_dict().items()}
    weights |= {f"objective.{k}": v for k, v in objective.state_dict().items()}
    if task.likeness is not None:
        batches = _batches(task, config)
        likeness = fit_likeness(model, lambda step: batches(step).frames, task.likeness, seed=task.seed)
        weights |= {f"likeness.{k}": v for k, v in likeness.state_dict().items()}
    save_tensors(folder / "weights.safetensors", weights, {})
    write_whole(folder / "done", repr(task) + "\n")


def _read(task: ControlTask, folder: Path) -> tuple[WorldModel, Objective, Likeness | None]:
    model, objective, _ = _build(task)
    likeness = None if task.likeness is None else new_likeness(task.likeness, model).eval()
    weights, _ = load_tensors(folder / "weights.safetensors")
    for prefix, module in (("model.", model), ("objective.", objective), ("likeness.", likeness)):
        if module is not None:
            module.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return model.eval(), objective.eval(), likeness


def _batches(task: ControlTask, config: TrainConfig) -> Callable[[int], Batch]:
    """Fresh episodes at every step, a function of (task, step)."""

    def batches(step: int) -> Batch:
        seeds = [episode_seed(EPISODES_SEED, step * config.batch + i) for i in range(config.batch)]
        frames = as_frames([task.world.episode(seed) for seed in seeds])
        if task.name == SHUFFLED:
            orders = torch.rand(frames.shape[:2], generator=step_generator(task.seed, step)).argsort(1)
            frames = torch.stack([clip[order] for clip, order in zip(frames, orders, strict=True)])
        return Batch(frames)

    return batches


def control_tasks(
    config: ModelConfig, world: Physics, steps: int, seed: int = 0, likeness: LikenessConfig | None = None
) -> list[ControlTask]:
    """One task for each control, of the build of a model; those that foretell latents learn a likeness where it has, in as many steps."""
    world = replace(world, part="train")
    likeness = None if likeness is None else replace(likeness, steps=steps)
    return [
        ControlTask(
            name=name,
            model=config,
            world=world,
            steps=steps,
            seed=seed,
            likeness=None if name == PIXELS else likeness,
        )
        for name in CONTROLS
    ]
