"""next_pixels: foretell the pixels of the next frames. The baseline beside next_latent, of the same encoder and predictor.

Matched with next_latent: encoder, predictor, rollouts, optimizer and batches. Not matched: the few weights that paint
(3.6% of the dense preset's), that nothing holds latents apart but the pixels which they must tell, and that the norm of
latents rests early. Latents normalised by the mean and deviation of their batch, as next_latent needs them, do not tell how
bright a frame is beside one of another batch: with 8 clips of 8 palettes in a batch all was painted grey, and the loss stood
still.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from foretell.model.layers import LatentNorm
from foretell.model.world_model import WorldModel
from foretell.objectives.next_latent import check_least, errors_ahead
from foretell.shapes import check_axes


@dataclass(frozen=True, kw_only=True)
class NextPixelsConfig:
    """Weights of the named terms, and the few numbers behind them."""

    next: float = 1.0
    """Weight of the one-step error."""
    rollout: float = 1.0
    """Weight of the error of open-loop rollouts, mean over steps 2 .. horizon."""
    horizon: int = 4
    """Steps of a training rollout."""
    starts: int = 2
    """Rollouts started in every clip."""
    hidden: int = 96
    """Width of the one hidden layer between a token and its pixels."""

    def __post_init__(self) -> None:
        check_least(self, horizon=2, starts=1, hidden=1)


SCALED = 0.05
"""Share of the training after which the norm of latents keeps its mean and deviation."""


class NextPixels(nn.Module):
    """frames (B, T, 3, H, W) -> named loss terms: squared errors of brightness (0 to 1) of foretold frames.

    It owns the weights that paint: each token paints its own pixels, alone, so that what happens is foretold by the
    predictor. A pooled latent's one token paints the whole frame, which takes more weights than `matched` allows.
    """

    resting = False

    def __init__(self, config: NextPixelsConfig, model: WorldModel) -> None:
        super().__init__()
        self.config = config
        self.weights = {"next": config.next, "rollout": config.rollout}
        view, self.grid = model.config.view, model.grid
        self.edges = view.height // self.grid[0], view.width // self.grid[1]
        width = model.config.encoder.latent_width
        self.paint = nn.Sequential(
            nn.Linear(width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 3 * self.edges[0] * self.edges[1])
        )

    def terms(
        self, model: WorldModel, frames: Tensor, generator: torch.Generator, actions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms whose weighted sum is the loss; their names are those of `weights`."""
        brightness = frames.float() / 255
        latents, config = model.encode(frames), self.config
        ahead = (self.decode, config.horizon, config.starts, generator)
        return errors_ahead(model, model.predict(latents, actions), brightness, *ahead, actions=actions)

    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, T, P, D) -> frames (B, T, 3, H, W), brightness 0 to 1 but not held to it. Raises ShapeError."""
        check_axes(latents, f"B T {self.grid[0] * self.grid[1]} D", "latents")
        patches = self.paint(latents).float()
        axes = {"h": self.grid[0], "y": self.edges[0], "x": self.edges[1]}
        return rearrange(patches, "b t (h w) (c y x) -> b t c (h y) (w x)", **axes)

    def before_step(self, model: WorldModel, done: float) -> None:
        """All learn to the end, but for the norm of latents: it rests once it has found their scale; `done` is 0 to 1."""
        for part in model.encoder.modules():
            if isinstance(part, LatentNorm):
                part.train(done < SCALED)

    def after_step(self, model: WorldModel) -> None:
        """Nothing follows the weights."""
