"""masked: a video JEPA. What tubes hide from one encoder is filled in, as another encoder that sees all would say it.

After V-JEPA and V-JEPA 2 (arXiv 2404.08471, 2506.09985), at small scale: tubes and their scales, target encoder and L1 are
theirs. Beside it, as in V-JEPA 2-AC, the model's own predictor learns to foretell the target's latents and sends no gradient
into them (by the terms of next_latent: squared errors), so that surprise and rollouts are asked of it as of any other model.

Different here: a hidden patch is painted mid-grey instead of left out, so that any encoder will do, and a visible token at
its edge sees grey. Two kinds of tubes take turns over clips; there, every clip has both. Who fills in is a recurrent
memory that knows the steps up to now, not a transformer that knows the later ones, too. The encoder's last layer
normalises targets, each dimension over the batch; there, each token over its dimensions.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from foretell.errors import ConfigError
from foretell.model.encoders import TOKEN_PIXELS, DenseConfig, ViTConfig
from foretell.model.layers import LatentNorm
from foretell.model.predictors import RecurrentConfig, RecurrentPredictor
from foretell.model.world_model import WorldModel, scaled
from foretell.objectives.next_latent import check_least, errors_ahead

ASPECTS = (0.75, 1.5)
"""Least and largest height of a block of tokens over its width."""
ATTEMPTS = 1000
"""Draws of tubes for one clip, until one leaves something to see."""
GREY = 128
"""Brightness of a hidden pixel: 0 to the encoder."""


@dataclass(frozen=True, kw_only=True)
class MaskedConfig:
    """Weights of the named terms, and the numbers behind them."""

    masked: float = 1.0
    """Weight of the absolute error at hidden tokens."""
    next: float = 1.0
    """Weight of the predictor's one-step error, where nothing is hidden; it does not reach the encoder."""
    rollout: float = 1.0
    """Weight of the same for open-loop rollouts, mean over steps 2 .. horizon."""
    horizon: int = 4
    """Steps of a training rollout."""
    starts: int = 2
    """Rollouts started in every clip."""
    short_blocks: int = 8
    """Blocks hidden together in every other clip: many small ones."""
    short_scale: float = 0.15
    """Share of the picture that each of these covers."""
    long_blocks: int = 2
    """Blocks hidden together in the other clips: few large ones."""
    long_scale: float = 0.7
    """Share of the picture that each of these covers."""
    hidden: int = 128
    """Channels of the memory of what fills in hidden tokens."""
    momentum: float = 0.99925
    """Share of the target encoder that is kept in a step: it lags by some 1 / (1 - momentum) steps."""

    def __post_init__(self) -> None:
        check_least(self, horizon=2, starts=1, short_blocks=1, long_blocks=1, hidden=1)
        for name in ("short_scale", "long_scale", "momentum"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"objective {name}: got {getattr(self, name)}, expected a share between 0 and 1")


class Masked(nn.Module):
    """frames (B, T, 3, H, W) -> named loss terms. Tubes and starts are a function of (seed, step).

    The model's encoder is the target: it sees whole frames, gets no gradient and follows the context encoder. That one is
    owned here, as are the token that stands for a hidden one and what fills it in.
    """

    resting = False

    def __init__(self, config: MaskedConfig, model: WorldModel) -> None:
        super().__init__()
        if not isinstance(model.config.encoder, DenseConfig | ViTConfig):
            raise ConfigError(
                f"objective masked: got encoder {type(model.config.encoder).__name__}, expected one that learns, with "
                "a grid of tokens: preset dense or vit"
            )
        self.config = config
        self.weights = {"masked": config.masked, "next": config.next, "rollout": config.rollout}
        self.context = copy.deepcopy(model.encoder)
        width = model.config.encoder.latent_width
        self.norm = LatentNorm(width)
        self.hidden_token = nn.Parameter(torch.zeros(width))
        self.fill = RecurrentPredictor(RecurrentConfig(hidden=config.hidden), width, model.grid)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def terms(
        self, model: WorldModel, frames: Tensor, generator: torch.Generator, actions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms whose weighted sum is the loss; their names are those of `weights`."""
        config = self.config
        hidden = tubes(config, frames.shape[0], model.grid, generator).to(frames.device)
        with torch.no_grad():
            target = model.encode(frames)
        filled, _ = self.fill.scan(self.visible_latents(frames, hidden, model.grid))
        error = (filled.float() - target).abs()
        terms = {"masked": rearrange(error, "b t p d -> b p t d")[hidden].mean()}
        ahead = (Tensor.float, config.horizon, config.starts, generator)
        return terms | errors_ahead(model, model.predict(target, actions), target, *ahead, actions=actions)

    def visible_latents(self, frames: Tensor, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
        """frames (B, T, 3, H, W) and hidden tokens (B, P) -> latents (B, T, P, D) that know nothing of what is hidden.

        Normalised over visible tokens alone: grey ones would rule the statistics.
        """
        pixels = repeat(hidden, "b (h w) -> b 1 1 (h y) (w x)", h=grid[0], y=TOKEN_PIXELS, x=TOKEN_PIXELS)
        latents = self.context(scaled(frames.masked_fill(pixels, GREY)))
        visible = repeat(~hidden, "b p -> b t p", t=frames.shape[1])
        tokens = self.hidden_token.expand_as(latents).clone()
        tokens[visible] = self.norm(latents[visible])
        return tokens

    def before_step(self, model: WorldModel, done: float) -> None:
        """All learn to the end."""

    @torch.no_grad()
    def after_step(self, model: WorldModel) -> None:
        """The target encoder follows the context encoder."""
        for target, context in zip(model.encoder.parameters(), self.context.parameters(), strict=True):
            target.lerp_(context, 1 - self.config.momentum)


def tubes(config: MaskedConfig, batch: int, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Tokens hidden all through a clip, (B, P): small blocks in every other clip, large ones in the rest.

    Raises ConfigError if they leave nothing to see.
    """
    kinds = [(config.short_blocks, config.short_scale), (config.long_blocks, config.long_scale)]
    first = int(torch.randint(2, (), generator=generator))  # so that a batch of one clip has both in turn
    return torch.stack([_tube(*kinds[(first + clip) % 2], grid, generator) for clip in range(batch)])


def _tube(blocks: int, scale: float, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    for _ in range(ATTEMPTS):
        hidden = torch.stack([block(scale, grid, generator) for _ in range(blocks)]).any(0)
        if not hidden.all():
            return hidden.flatten()
    raise ConfigError(
        f"objective masked: {blocks} blocks of scale {scale} hide all of {grid[0]}x{grid[1]} tokens: "
        "take fewer or smaller blocks, or larger pictures"
    )


def block(scale: float, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A rectangle somewhere on the grid (rows, columns) that covers about `scale` of it, as far as the grid allows."""
    rows, columns = grid
    aspect = ASPECTS[0] + (ASPECTS[1] - ASPECTS[0]) * torch.rand((), generator=generator).item()
    height = min(rows, max(1, round(math.sqrt(scale * rows * columns * aspect))))
    width = min(columns, max(1, round(math.sqrt(scale * rows * columns / aspect))))
    top = int(torch.randint(rows - height + 1, (), generator=generator))
    left = int(torch.randint(columns - width + 1, (), generator=generator))
    covered = torch.zeros(grid, dtype=torch.bool)
    covered[top : top + height, left : left + width] = True
    return covered
