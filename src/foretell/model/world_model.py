"""The world model: an encoder and a predictor, and three things to ask of them: encode, predict, rollout."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from foretell.data.clip import View
from foretell.errors import ShapeError
from foretell.model.actions import ActionConfig
from foretell.model.encoders import DenseConfig, Encoder, EncoderConfig, build_encoder, latent_grid
from foretell.model.predictors import Predictor, PredictorConfig, RecurrentConfig, RecurrentPredictor, build_predictor
from foretell.shapes import check_axes


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that is needed to build the model again."""

    view: View = field(default_factory=View)
    """How it looks at videos."""
    encoder: EncoderConfig = field(default_factory=DenseConfig)
    """From a frame to latents."""
    predictor: PredictorConfig = field(default_factory=RecurrentConfig)
    """From the latents so far to the next ones."""
    actions: ActionConfig | None = None
    """What it is told of actions; None if it only watches."""


class Foretold(NamedTuple):
    """One pass over a stretch of video. `memory` lets the next stretch go on where this one ended."""

    latents: Tensor  # (B, T, P, D)
    next: Tensor  # (B, T, P, D); [:, t] speaks of step t + 1
    memories: Tensor  # what the scan left; predictor.memory_after finds the memory after a step in it


class WorldModel(nn.Module):
    """frames (B, T, C, H, W) uint8 -> latents (B, T, P, D) -> what comes next."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        view = config.view
        self.config = config
        self.grid = latent_grid(config.encoder, view.height, view.width)
        self.encoder: Encoder = build_encoder(config.encoder, view.height, view.width)
        width = 0 if config.actions is None else config.actions.width
        self.predictor: Predictor = build_predictor(config.predictor, config.encoder.latent_width, self.grid, width)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def carries(self) -> bool:
        """Whether it also says how the picture will move."""
        predictor = self.config.predictor
        return isinstance(predictor, RecurrentConfig) and predictor.carry

    def encode(self, frames: Tensor) -> Tensor:
        """frames uint8 (B, T, 3, H, W) -> latents (B, T, P, D). Raises ShapeError."""
        check_axes(frames, f"B T 3 {self.config.view.height} {self.config.view.width}", "frames")
        latents: Tensor = self.encoder(scaled(frames))
        return latents

    def predict(self, latents: Tensor, actions: Tensor | None = None) -> Foretold:
        """latents (B, T, P, D) -> at every step the foretold next latents, knowing all steps up to it.

        And knowing what was done at each, (B, T, A') in the world's units, if the model is one that acts. Raises ShapeError.
        """
        check_axes(latents, f"B T {self.grid[0] * self.grid[1]} D", "latents")
        said, memories = self.predictor.scan(latents, None, self._told(actions))
        return Foretold(latents, said, memories)

    def go_on(self, latents: Tensor, memory: Tensor | None, actions: Tensor | None = None) -> tuple[Foretold, Tensor]:
        """Like `predict`, for the next stretch of a video: takes the memory that the last one left, leaves its own."""
        said, memories = self.predictor.scan(latents, memory, self._told(actions))
        return Foretold(latents, said, memories), self.predictor.memory_after(memories, [latents.shape[1] - 1])[:, 0]

    def rollouts(self, foretold: Foretold, starts: list[int], horizon: int, actions: Tensor | None = None) -> Tensor:
        """From each of S steps, `horizon` steps ahead on its own words: (B, S, horizon, P, D).

        `actions` (B, T, A') are those of the clip that was foretold; a rollout goes on with what was done later in it.
        """
        now = foretold.next[:, starts].flatten(0, 1)
        memory = self.predictor.memory_after(foretold.memories, starts).flatten(0, 1)
        told, said = self._told(actions), [now]
        while len(said) < horizon:
            done = None if told is None else told[:, [s + len(said) for s in starts]].flatten(0, 1)
            now, memory = self.predictor.step(now, memory, done)
            said.append(now)
        return rearrange(torch.stack(said, 1), "(b s) k p d -> b s k p d", s=len(starts))

    def rollout(self, latents: Tensor, horizon: int) -> Tensor:
        """latents seen (B, T, P, D) -> the next `horizon` steps (B, horizon, P, D), where nobody acts."""
        return self.rollouts(self.predict(latents), [latents.shape[1] - 1], horizon)[:, 0]

    def imagine(self, latents: Tensor, memory: Tensor, actions: Tensor) -> Tensor:
        """What follows if this is done: the last latents seen (N, P, D) and actions (N, T, A') -> (N, T, P, D).

        `memory` is that of before the last latents were taken in. Raises ShapeError.
        """
        check_axes(actions, "N T A", "actions")
        told = self._told(actions)
        assert told is not None
        said = []
        for done in told.unbind(1):
            latents, memory = self.predictor.step(latents, memory, done)
            said.append(latents)
        return torch.stack(said, 1)

    def drift(self, memories: Tensor) -> Tensor:
        """How the picture is about to move after N steps, from their memories (N, P, hidden): (N, 2, rows, columns), pixels."""
        assert isinstance(self.predictor, RecurrentPredictor)
        return self.predictor.drift(memories)

    def _told(self, actions: Tensor | None) -> Tensor | None:
        """What the predictor hears of blocks (B, T, A') in the world's units. Raises ShapeError if they are missing or too wide."""
        acts = self.config.actions
        if (acts is None) != (actions is None):
            got, expected = (
                ("none", "blocks (B, T, A)") if actions is None else ("some", "none: this model only watches")
            )
            raise ShapeError(f"actions: got {got}, expected {expected}")
        if acts is None or actions is None:
            return None
        if actions.shape[-1] != acts.width:
            raise ShapeError(f"actions: got shape {tuple(actions.shape)}, expected blocks of {acts.width} numbers")
        return acts.normalised(actions)


def scaled(frames: Tensor) -> Tensor:
    """uint8 frames of any shape -> what encoders take, -2 to 2: exact in bf16, too, and mid-grey (128) is 0."""
    return frames.float().sub_(128).mul_(1 / 64)
