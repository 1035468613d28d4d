"""Fit a decoder on frozen latents: it learns to read the model, and the model does not learn from it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from foretell.log import progress
from foretell.model.decoder import Decoder
from foretell.model.precision import mixed_precision
from foretell.model.world_model import WorldModel
from foretell.train.optim import OptimConfig, build_optimizer, learning_rate

OPTIM = OptimConfig(peak=3e-3, warmup=20)
BACKDROP = 4
"""Batches whose middle picture is the background."""
SQUARES = 10.0
"""Weight of squared errors of brightness (0 to 1) beside absolute ones: at an error of 0.1 both count the same."""
APART, SHARE, MOST = 0.15, 0.08, 20.0
"""From so much brightness away from the background on, a pixel is of a thing. All such pixels weigh by at least this share
more, but none by more than MOST: a small thing that moves about is few pixels of a frame, and a decoder of one pooled
token would leave it out (seen in rooms)."""


def fit_decoder(model: WorldModel, batches: Callable[[int], Tensor], *, steps: int, seed: int) -> Decoder:
    """A decoder for `model`, from `batches(step)`: frames uint8 (B, T, 3, H, W). No weight or statistic of the model changes.

    Absolute errors keep edges sharp where squared ones would blur them; squared ones see to it that a small thing is not
    left out.
    """
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder(model.config).to(next(model.parameters()).device)
    background = torch.cat([brightness(batches(step)) for step in range(BACKDROP)]).flatten(0, 1).median(0).values
    decoder.background.data.copy_(background)
    optimizer = build_optimizer(OPTIM, decoder)
    with progress(steps, "fit decoder", "step") as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(OPTIM, step, steps)
            frames = batches(step)
            with mixed_precision("auto", frames.device):
                with torch.no_grad():
                    latents = model.encode(frames)
                painted = decoder(latents)
            truth = brightness(frames)
            error = painted.float() - truth
            things = ((truth - background).abs() > APART).any(2, keepdim=True)
            weight = 1 + (SHARE / things.float().mean().clamp_min(1e-6)).clamp(max=MOST) * things
            loss = (weight * (error.abs() + SQUARES * error.square())).mean() / weight.mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), OPTIM.clip)
            optimizer.step()
            bar.set_postfix({"error": f"{255 * error.detach().abs().mean().item():.1f}"}, refresh=False)
            bar.update()
    model.train(was_training)
    return decoder.eval()


def brightness(frames: Tensor) -> Tensor:
    """uint8 frames -> float, 0 to 1."""
    return frames.float() / 255
