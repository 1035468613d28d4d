"""Fit a likeness on frozen latents: it learns how things keep their looks, and the model does not learn from it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from foretell.log import progress
from foretell.model.likeness import Likeness, LikenessConfig, new_likeness
from foretell.model.precision import mixed_precision
from foretell.model.world_model import WorldModel
from foretell.train.optim import OptimConfig, build_optimizer, learning_rate

OPTIM = OptimConfig(peak=3e-3)
SCALE = 8
"""Batches from which deviations are taken."""
MOST = 5.0
"""No token weighs more than one that changes by so many times the usual: a screen that rises would outweigh all things."""


def fit_likeness(model: WorldModel, batches: Callable[[int], Tensor], config: LikenessConfig, *, seed: int) -> Likeness:
    """A likeness for `model`, from `batches(step)`: frames uint8 (B, T, 3, H, W). No weight or statistic of the model changes.

    Errors of each direction count in units of what changes there within `apart` steps. Raises ConfigError as `new_likeness` does.
    """
    was_training = model.training
    model.eval()

    @torch.no_grad()
    def latents(step: int) -> Tensor:
        frames = batches(step)
        with mixed_precision("auto", frames.device):
            return model.encode(frames).float()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        likeness = new_likeness(config, model).to(next(model.parameters()).device)
    some = torch.cat([latents(step) for step in range(SCALE)])
    likeness.fit_scale(some)
    gone = some[:, config.apart :] - some[:, : -config.apart]
    unit = gone.flatten(0, 2).std(0) / likeness.std
    optimizer = build_optimizer(OPTIM, likeness)
    with progress(config.steps, "fit likeness", "step") as bar:
        for step in range(config.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(OPTIM, step, config.steps)
            seen = latents(step)
            with mixed_precision("auto", seen.device):
                said = likeness(seen)
            weight = said.change.clamp(max=MOST)
            error = ((said.looks - said.came) / unit.clamp_min(1e-3)).pow(2).mean(-1)
            loss = (weight * error).mean() / weight.mean().clamp_min(1e-6)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(likeness.parameters(), OPTIM.clip)
            optimizer.step()
            bar.set_postfix({"error": f"{loss.item():.3f}"}, refresh=False)
            bar.update()
    model.train(was_training)
    return likeness.eval().requires_grad_(False)
