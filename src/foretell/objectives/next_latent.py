"""next_latent: foretell the next latents, one step and several, kept from collapse. One screen, the paper's lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from foretell.errors import ConfigError
from foretell.model.carry import carried
from foretell.model.world_model import Foretold, WorldModel, scaled
from foretell.objectives.regularizers import sigreg, unit_directions, variance_covariance, within_clip


@dataclass(frozen=True, kw_only=True)
class NextLatentConfig:
    """Weights of the named terms, and the few numbers behind them."""

    next: float = 1.0
    """Weight of the one-step error."""
    rollout: float = 1.0
    """Weight of the error of open-loop rollouts, mean over steps 2 .. horizon."""
    isotropy: float = 5.0
    """Weight of the term that keeps latents spread out: SIGReg / N (lambda * N of arXiv 2603.19312)."""
    within: float = 1.0
    """Weight of the within-clip variance hinge, where the picture moves."""
    regularizer: Literal["sigreg", "vcreg"] = "sigreg"
    """SIGReg, or variance-covariance as the alternative (weights 1 and 0.04 inside, times `isotropy` / 5)."""
    horizon: int = 4
    """Steps of a training rollout."""
    starts: int = 2
    """Rollouts started in every clip; 4 learn as much in a step, but no more in a minute."""
    seen: int = 1
    """Steps of a window that are seen before a rollout starts. More where that is how the model will be asked: after few steps
    nobody can know how things go on, and that error would rule the mean."""
    tokens: int = 2048
    """Tokens that the regulariser sees in a step: half at random, half where the picture moves."""
    directions: int = 64
    """Random directions of SIGReg in a step."""
    within_floor: float = 0.5
    """Deviation over a clip that a moving token should reach."""
    carry: float = 1.0
    """Weight of carrying the picture on, where the predictor says how it moves; that teaches nothing else."""
    inverse: float = 0.0
    """Weight of reading what was done from the latents before and after it; for models that act."""
    settle: float = 0.0
    """Share of the steps, the last ones, in which the encoder rests and the predictor learns on alone, what changes above all."""

    def __post_init__(self) -> None:
        check_least(self, horizon=2, starts=1, seen=1, tokens=2, directions=1)
        if not 0 <= self.settle < 1:
            raise ConfigError(f"objective settle: got {self.settle}, expected a share from 0 to below 1")


CARRIED = 8
"""Steps of each clip whose frames are carried on."""
STILL, MOST = 0.1, 30.0
"""Weights of the error where nothing changes, and where most does, in units of the mean change: while the encoder rests."""


class NextLatent(nn.Module):
    """frames (B, T, 3, H, W) -> named loss terms. Drawn tokens, starts and directions are a function of (seed, step).

    It owns no weights but those that read actions, if the model acts.
    """

    resting = False
    """Whether the encoder rests by now; then the error over copy is another's, and starts afresh."""

    def __init__(self, config: NextLatentConfig, model: WorldModel | None = None) -> None:
        super().__init__()
        self.config = config
        self.weights = {"next": config.next, "rollout": config.rollout, "within": config.within}
        self.weights[config.regularizer] = config.isotropy
        if model is not None and model.carries:
            self.weights["carry"] = config.carry
        if config.inverse:
            if model is None or model.config.actions is None:
                raise ConfigError(f"objective inverse: got {config.inverse}, but this model does not act: leave it out")
            self.weights["inverse"] = config.inverse
            latents = 2 * model.grid[0] * model.grid[1] * model.config.encoder.latent_width
            self.read_actions = nn.Linear(latents, model.config.actions.width)

    def terms(
        self, model: WorldModel, frames: Tensor, generator: torch.Generator, actions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms whose weighted sum is the loss; their names are those of `weights`. Actions (B, T, A') if the model acts."""
        config = self.config
        with torch.set_grad_enabled(not self.resting):
            latents = model.encode(frames)
        weight = change_weight(latents) if self.resting else None
        ahead = (Tensor.float, config.horizon, config.starts, generator)
        foretold = model.predict(latents, actions)
        terms = errors_ahead(model, foretold, latents, *ahead, seen=config.seen, weight=weight, actions=actions)

        motion = pixel_motion(frames, model.grid)
        moving, spread = drawn_tokens(latents, motion, config.tokens, generator)
        if config.regularizer == "sigreg":
            terms["sigreg"] = sigreg(spread, unit_directions(config.directions, spread.shape[1], generator))
        else:
            deviation, covariance = variance_covariance(spread)
            terms["vcreg"] = (deviation + 0.04 * covariance) / 5
        terms["within"] = within_clip(moving, floor=config.within_floor)
        if config.inverse:
            terms["inverse"] = self.inverse_error(model, latents, actions)
        if "carry" in self.weights:
            terms["carry"] = carry_error(model, frames, foretold.memories, generator)
        return terms

    def inverse_error(self, model: WorldModel, latents: Tensor, actions: Tensor | None) -> Tensor:
        """Squared error of a linear reading of what was done, in units of its deviation (inverse dynamics, PLDM's term)."""
        assert model.config.actions is not None
        assert actions is not None
        around = torch.cat([latents[:, :-1], latents[:, 1:]], -1).flatten(2)
        return mse_loss(self.read_actions(around).float(), model.config.actions.normalised(actions[:, :-1]))

    def before_step(self, model: WorldModel, done: float) -> None:
        """Lay the encoder to rest, in eval mode and without gradient, for the last share of training; `done` is 0 to 1.

        A latent that still learns may lower an error that weighs much by moving less; one that rests may not.
        """
        self.resting = done >= 1 - self.config.settle
        model.encoder.train(not self.resting)

    def after_step(self, model: WorldModel) -> None:
        """Nothing follows the weights."""


def check_least(config: object, **least: int) -> None:
    """Raise ConfigError if a field of an objective's settings is less than it may be."""
    for name, bound in least.items():
        if getattr(config, name) < bound:
            raise ConfigError(f"objective {name}: got {getattr(config, name)}, expected {bound} or more")


def errors_ahead(
    model: WorldModel,
    foretold: Foretold,
    truth: Tensor,
    read: Callable[[Tensor], Tensor],
    horizon: int,
    starts: int,
    generator: torch.Generator,
    seen: int = 1,
    weight: Tensor | None = None,
    actions: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms `next` and `rollout`: squared error of what `read` makes of foretold latents (B, T, P, D).

    It is held against `truth` (B, T, ...): one step ahead everywhere, and 2 .. horizon steps ahead from a few drawn starts,
    each the last of `seen` steps or more.
    `weight` of each step from the second on, (B, T - 1, ...): one for all unless given. `actions` (B, T, A') if the model acts.
    """
    terms = {"next": squared_error(read(foretold.next[:, :-1]), truth[:, 1:], weight)}
    last = foretold.latents.shape[1] - horizon
    drawn = (seen - 1 + torch.randperm(last - seen + 1, generator=generator)[:starts]).sort().values.tolist()
    said = model.rollouts(foretold, drawn, horizon, actions)[:, :, 1:].flatten(1, 2)
    happened = torch.cat([truth[:, s + 2 : s + 1 + horizon] for s in drawn], 1)
    weighs = None if weight is None else torch.cat([weight[:, s + 1 : s + horizon] for s in drawn], 1)
    terms["rollout"] = squared_error(read(said), happened, weighs)
    return terms


def carry_error(model: WorldModel, frames: Tensor, memories: Tensor, generator: torch.Generator) -> Tensor:
    """Squared error of frames (B, T, 3, H, W) carried on to the next ones as the model says, over that of a copy.

    A few steps of each clip. The memories (B, T, P, hidden) are taken as they are: only the drift is taught.
    """
    drawn = torch.randperm(frames.shape[1] - 1, generator=generator)[:CARRIED].sort().values
    now, after = (scaled(frames[:, steps]).flatten(0, 1) for steps in (drawn, drawn + 1))
    said = carried(now, model.drift(memories[:, drawn].detach().flatten(0, 1)))
    return mse_loss(said, after) / (mse_loss(now, after) + 1e-4)


def squared_error(said: Tensor, truth: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over everything, each place with its weight, if there is one."""
    return mse_loss(said, truth) if weight is None else (weight * (said - truth).pow(2)).mean()


def change_weight(latents: Tensor) -> Tensor:
    """How much each token changes from step to step, in latents (B, T, P, D): (B, T - 1, P, 1), 1 on average.

    In a fixed view most tokens never change, and what is foretold of the rest hardly counts in a plain mean.
    """
    change = (latents[:, 1:] - latents[:, :-1]).pow(2).mean(-1, keepdim=True)
    weight = STILL + (change / change.mean().clamp_min(1e-12)).clamp(max=MOST)
    return weight / weight.mean()


def pixel_motion(frames: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much the pixels under each token change from step to step: frames (B, T, 3, H, W) -> (B, T-1, P)."""
    red, green, blue = frames.to(torch.int16).unbind(2)
    grey = red + green + blue
    change = (grey[:, 1:] - grey[:, :-1]).abs().float()
    return reduce(change, "b t (h y) (w x) -> b t (h w)", "mean", h=grid[0], w=grid[1]) / 3


def drawn_tokens(latents: Tensor, motion: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What the regularisers look at: moving tokens over a whole clip (N, T, D), and `count` single tokens (N, D).

    In a fixed view most tokens are background and never change; drawn evenly they would rule the code.
    """
    batch, steps, places, _ = latents.shape
    by_place = rearrange(latents, "b t p d -> (b p) t d")
    amount = reduce(motion, "b t p -> (b p)", "mean").cpu() + 1e-6
    chosen = torch.multinomial(amount, min(batch * 4, len(amount)), generator=generator)
    moving = by_place[chosen.to(latents.device)]

    half = min(count, batch * steps * places) // 2
    even = torch.randint(batch * steps * places, (half,), generator=generator)
    amount = rearrange(torch.cat([motion[:, :1], motion], 1), "b t p -> (b t p)").cpu() + 1e-6
    moved = torch.multinomial(amount, half, replacement=True, generator=generator)
    flat = latents.flatten(0, 2)
    return moving, flat[torch.cat([even, moved]).to(latents.device)]
