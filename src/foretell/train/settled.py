"""The predictor learns on alone, on latents that no longer change: each frame is encoded once, and steps are many and cheap.

Where an encoder is done, or has nothing to learn (model/moments.py), time is better spent on how things go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from foretell.errors import ConfigError, DataError
from foretell.log import progress
from foretell.model.precision import mixed_precision
from foretell.model.world_model import WorldModel
from foretell.train.checkpoint import load_checkpoint, save_checkpoint
from foretell.train.heads import Cache
from foretell.train.loop import step_generator, stop_if_not_finite
from foretell.train.optim import OptimConfig, build_optimizer, learning_rate

SAVE_EVERY = 1000
"""Steps between two checkpoints to resume from."""
CHECKPOINT = "settled.safetensors"


@dataclass(frozen=True, kw_only=True)
class SettledConfig:
    """How long the predictor learns on alone, and on what."""

    steps: int
    """Training steps."""
    batch: int = 512
    """Windows in a step."""
    seen: int = 3
    """Steps of the model that are seen before it goes on by its own words."""
    horizon: int = 5
    """Steps on its own words, as many as a plan looks ahead."""
    peak: float = 1e-3
    """Highest learning rate."""

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.seen, self.horizon) < 1:
            raise ConfigError(f"settled: got {self}, expected 1 or more of everything")


def settle(model: WorldModel, cache: Cache, config: SettledConfig, seed: int, folder: Path) -> None:
    """Train the predictor in place on a cache; a function of (model, cache, config, seed). A run that was killed goes on.

    Raises ForetellError before the optimizer sees an error or gradient that is not finite.
    """
    assert model.config.actions is not None
    starts = window_starts(cache, config, model.config.actions.skip)
    predictor = model.predictor.train()
    optim = OptimConfig(peak=config.peak)
    optimizer = build_optimizer(optim, predictor)
    checkpoint, run = folder / CHECKPOINT, {"step": 0}
    if checkpoint.exists():
        run = load_checkpoint(checkpoint, predictor, optimizer)
    with progress(config.steps, "settle", "step", done=run["step"]) as bar:
        for step in range(run["step"], config.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(optim, step, config.steps)
            drawn = torch.randint(len(starts), (config.batch,), generator=step_generator(seed, step))
            with mixed_precision("auto", cache.latents.device):
                error = window_error(model, cache, starts[drawn], config)
            optimizer.zero_grad()
            error.backward()
            norm = torch.nn.utils.clip_grad_norm_(predictor.parameters(), optim.clip)
            stop_if_not_finite(step, error, norm, {"error": error})
            optimizer.step()
            if step % 50 == 0:
                bar.set_postfix({"error": error.item()}, refresh=False)
            bar.update()
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == config.steps:
                save_checkpoint(checkpoint, predictor, optimizer, {"step": step + 1})
    model.eval()


def check_long_enough(lengths: Sequence[int], config: SettledConfig, skip: int) -> None:
    """Raise DataError if no clip of these lengths holds a window: said before an encoder is trained, not after."""
    span = (config.seen + config.horizon) * skip
    if max(lengths) <= span:
        raise DataError(
            f"settled: the longest clip has {max(lengths)} frames, expected more than {span}: record longer ones"
        )


def window_starts(cache: Cache, config: SettledConfig, skip: int) -> Tensor:
    """Indices of frames with a whole window behind them in their clip."""
    frames = torch.arange(len(cache.ends))
    return frames[frames + (config.seen + config.horizon) * skip < cache.ends]


def window_error(model: WorldModel, cache: Cache, starts: Tensor, config: SettledConfig) -> Tensor:
    """Absolute error one step ahead of what was seen and, from its end on, of a rollout: mean over windows and steps.

    Absolute, since in a tenth of the steps something is hit, and squares would speak of these alone.
    """
    assert model.config.actions is not None
    skip, steps = model.config.actions.skip, config.seen + config.horizon
    at = starts[:, None] + skip * torch.arange(steps + 1)
    latents = cache.latents[at]
    blocks = cache.actions[starts[:, None] + torch.arange(skip * steps)].unflatten(1, (steps, skip)).flatten(2)
    foretold = model.predict(latents[:, : config.seen], blocks[:, : config.seen])
    ahead = model.rollouts(foretold, [config.seen - 1], config.horizon + 1, blocks)[:, 0, 1:]
    said = torch.cat([foretold.next, ahead], 1)
    return (said.float() - latents[:, 1:]).abs().mean()
