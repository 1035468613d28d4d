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
LEVELS, SHARE, MOST = 8, 0.08, 8.0
"""Of each channel when colours are counted; and a pixel weighs as much more as its colour is rarer than this share of all pixels,
but none by more than MOST: a small thing that moves about is few pixels of a frame, and a decoder of one pooled token would
leave it out (an agent of 30 pixels in varied rooms: off by 80 grey levels, by 37 so, and 3.7 in place of 3.0 over all)."""


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
    backdrop = torch.cat([brightness(batches(step)) for step in range(BACKDROP)]).flatten(0, 1)
    decoder.background.data.copy_(backdrop.median(0).values)
    shares = torch.bincount(colours(backdrop).flatten(), minlength=LEVELS**3) / backdrop[:, 0].numel()
    weights = 1 + (SHARE / shares.clamp_min(1e-9)).clamp(max=MOST)
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
            weight = weights[colours(truth)][:, :, None]
            loss = (weight * (error.abs() + SQUARES * error.square())).mean() / weight.mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), OPTIM.clip)
            optimizer.step()
            bar.set_postfix({"error": f"{255 * error.detach().abs().mean().item():.1f}"}, refresh=False)
            bar.update()
    model.train(was_training)
    return decoder.eval()


def colours(pictures: Tensor) -> Tensor:
    """Brightness (..., 3, H, W) -> which of LEVELS ** 3 colours, (..., H, W)."""
    red, green, blue = (pictures * LEVELS).long().clamp(0, LEVELS - 1).unbind(-3)
    return (red * LEVELS + green) * LEVELS + blue


def brightness(frames: Tensor) -> Tensor:
    """uint8 frames -> float, 0 to 1."""
    return frames.float() / 255
