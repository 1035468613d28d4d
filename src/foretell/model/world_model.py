"""The world model: an encoder and a predictor, and three things to ask of them: encode, predict, rollout."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from foretell.data.clip import View
from foretell.model.encoders import OPPONENT, DenseConfig, Encoder, EncoderConfig, build_encoder, latent_grid
from foretell.model.predictors import Predictor, PredictorConfig, RecurrentConfig, build_predictor
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
        self.predictor: Predictor = build_predictor(config.predictor, config.encoder.latent_width, self.grid)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def kept_channels(self) -> int:
        """How many channels of a latent, the last ones, are given and not learned."""
        encoder = self.config.encoder
        return len(OPPONENT) if isinstance(encoder, DenseConfig) and encoder.keep_colour else 0

    def encode(self, frames: Tensor) -> Tensor:
        """frames uint8 (B, T, 3, H, W) -> latents (B, T, P, D). Raises ShapeError."""
        check_axes(frames, f"B T 3 {self.config.view.height} {self.config.view.width}", "frames")
        latents: Tensor = self.encoder(scaled(frames))
        return latents

    def predict(self, latents: Tensor) -> Foretold:
        """latents (B, T, P, D) -> at every step the foretold next latents, knowing all steps up to it."""
        check_axes(latents, f"B T {self.grid[0] * self.grid[1]} D", "latents")
        said, memories = self.predictor.scan(latents)
        return Foretold(latents, said, memories)

    def go_on(self, latents: Tensor, memory: Tensor | None) -> tuple[Foretold, Tensor]:
        """Like `predict`, for the next stretch of a video: takes the memory that the last one left, leaves its own."""
        said, memories = self.predictor.scan(latents, memory)
        return Foretold(latents, said, memories), self.predictor.memory_after(memories, [latents.shape[1] - 1])[:, 0]

    def rollouts(self, foretold: Foretold, starts: list[int], horizon: int) -> Tensor:
        """From each of S steps, `horizon` steps ahead on its own words: (B, S, horizon, P, D)."""
        now = foretold.next[:, starts].flatten(0, 1)
        memory = self.predictor.memory_after(foretold.memories, starts).flatten(0, 1)
        said = [now]
        while len(said) < horizon:
            now, memory = self.predictor.step(now, memory)
            said.append(now)
        return rearrange(torch.stack(said, 1), "(b s) k p d -> b s k p d", s=len(starts))

    def rollout(self, latents: Tensor, horizon: int) -> Tensor:
        """latents seen (B, T, P, D) -> the next `horizon` steps (B, horizon, P, D)."""
        return self.rollouts(self.predict(latents), [latents.shape[1] - 1], horizon)[:, 0]


def scaled(frames: Tensor) -> Tensor:
    """uint8 frames of any shape -> what encoders take, -2 to 2: exact in bf16, too, and mid-grey (128) is 0."""
    return frames.float().sub_(128).mul_(1 / 64)
