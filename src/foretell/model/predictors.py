"""Predictors: from the latents seen so far, the next ones. A predictor carries a memory from step to step.

Both kinds speak one language: ``start`` gives an empty memory, ``step`` takes one latent (B, P, D) and the memory and
returns the foretold next latent and the new memory. A rollout feeds a predictor its own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from foretell.model.layers import TransformerBlock


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """A gated convolutional memory over the token grid: what is hidden is not forgotten. The default for video."""

    hidden: int = 128
    """Channels of the memory at every token."""


@dataclass(frozen=True, kw_only=True)
class CausalConfig:
    """A causal transformer over the last steps of every token; for pooled latents (P = 1)."""

    width: int = 128
    """Width of the transformer."""
    depth: int = 3
    """Transformer blocks."""
    heads: int = 4
    """Attention heads."""
    history: int = 12
    """Steps it can look back."""
    dropout: float = 0.1
    """Dropout in training."""


PredictorConfig = RecurrentConfig | CausalConfig


class RecurrentPredictor(nn.Module):
    """Convolutional gated recurrence with residual output, z' = z + f(memory) (after ConvGRU, arXiv 1511.06432).

    One 3x3 convolution looks at the token, its neighbours and their memories; two 1x1 convolutions make from it the
    gate and what is written through it. A GRU's three 3x3 gates cost twice as much and foretold no better.
    """

    def __init__(self, config: RecurrentConfig, latent_width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        hidden = config.hidden
        self.grid, self.hidden = grid, hidden
        self.look = nn.Conv2d(latent_width + hidden, hidden, 3, padding=1)
        self.write = nn.Conv2d(hidden, 2 * hidden, 1)
        self.speak = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, latent_width, 1)
        )
        last = self.speak[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def start(self, batch: int) -> Tensor:
        """An empty memory (B, hidden, rows, columns)."""
        weight = self.look.weight
        memory = torch.zeros(batch, self.hidden, *self.grid, device=weight.device, dtype=weight.dtype)
        return memory.contiguous(memory_format=torch.channels_last)

    def remember(self, latents: Tensor, memory: Tensor) -> Tensor:
        """Take in latents (B, P, D): the new memory."""
        seen = rearrange(latents, "b (h w) d -> b d h w", h=self.grid[0]).to(memory.dtype)
        looked = nn.functional.relu(self.look(torch.cat([seen, memory], 1)))
        gate, content = self.write(looked).chunk(2, 1)
        return torch.lerp(memory, torch.tanh(content).to(memory.dtype), torch.sigmoid(gate).to(memory.dtype))

    def foretell(self, latents: Tensor, memory: Tensor) -> Tensor:
        """The next latents (B, P, D), said from the memory that has already taken in `latents`."""
        return latents + rearrange(self.speak(memory), "b d h w -> b (h w) d")

    def step(self, latents: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Take in latents (B, P, D); the foretold next ones and the new memory."""
        memory = self.remember(latents, memory)
        return self.foretell(latents, memory), memory

    def scan(self, latents: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """latents (B, T, P, D) -> foretold (B, T, P, D), where [:, t] speaks of t + 1, and memories (B, T, ...)."""
        memory, memories = self.start(latents.shape[0]) if memory is None else memory, []
        for now in latents.unbind(1):
            memory = self.remember(now, memory)
            memories.append(memory)
        stacked = torch.stack(memories, 1)
        said = self.foretell(latents.flatten(0, 1), _joined(stacked))
        return rearrange(said, "(b t) p d -> b t p d", b=latents.shape[0]), stacked

    def last(self, memories: Tensor) -> Tensor:
        """The memory after the last step of a scan."""
        return memories[:, -1]

    def rollouts(self, latents: Tensor, memories: Tensor, starts: Sequence[int], horizon: int) -> Tensor:
        """From every start: foretold (B, S, horizon, P, D); [:, s, k] speaks of step starts[s] + k + 1."""
        chosen = torch.as_tensor(starts, device=latents.device)
        now, memory = latents[:, chosen].flatten(0, 1), _joined(memories[:, chosen])
        said = [self.foretell(now, memory)]
        while len(said) < horizon:
            now, memory = self.step(said[-1], memory)
            said.append(now)
        return rearrange(torch.stack(said, 1), "(b s) k p d -> b s k p d", b=latents.shape[0])


class CausalPredictor(nn.Module):
    """Causal transformer over time, the same for every token, with residual output. Its memory is the last latents."""

    def __init__(self, config: CausalConfig, latent_width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.history, self.tokens, self.latent_width = config.history, grid[0] * grid[1], latent_width
        self.enter = nn.Linear(latent_width, config.width)
        self.position = nn.Parameter(0.02 * torch.randn(config.history, config.width))
        self.blocks = nn.ModuleList(
            TransformerBlock(config.width, config.heads, causal=True, dropout=config.dropout)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.speak = nn.Linear(config.width, latent_width)
        nn.init.zeros_(self.speak.weight)
        nn.init.zeros_(self.speak.bias)

    def start(self, batch: int) -> Tensor:
        """An empty memory (B, 0, P, D)."""
        return self.position.new_zeros(batch, 0, self.tokens, self.latent_width)

    def step(self, latents: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Take in latents (B, P, D); the foretold next ones and the new memory (B, <= history, P, D)."""
        memory = torch.cat([memory, latents[:, None].to(memory.dtype)], 1)[:, -self.history :]
        return self._read(memory)[:, -1], memory

    def scan(self, latents: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """latents (B, T, P, D) -> foretold (B, T, P, D), and the past it may look at, (B, K + T, P, D).

        Steps later than `history` read a sliding window, the same that `step` would hold.
        """
        past = latents if memory is None else torch.cat([memory, latents.to(memory.dtype)], 1)
        said = self._read(past[:, : self.history])
        if past.shape[1] > self.history:
            windows = past.unfold(1, self.history, 1)[:, 1:]
            later = self._read(rearrange(windows, "b w p d k -> (b w) k p d"))[:, -1]
            said = torch.cat([said, rearrange(later, "(b w) p d -> b w p d", b=past.shape[0])], 1)
        return said[:, -latents.shape[1] :], past

    def last(self, memories: Tensor) -> Tensor:
        """The memory after the last step of a scan."""
        return memories[:, -self.history :]

    def rollouts(self, latents: Tensor, memories: Tensor, starts: Sequence[int], horizon: int) -> Tensor:
        """From every start: foretold (B, S, horizon, P, D); [:, s, k] speaks of step starts[s] + k + 1."""
        before = memories.shape[1] - latents.shape[1]
        rolls = []
        for start in starts:
            end = before + start + 1
            window = memories[:, max(0, end - self.history) : end]
            said = [self._read(window)[:, -1]]
            while len(said) < horizon:
                now, window = self.step(said[-1], window)
                said.append(now)
            rolls.append(torch.stack(said, 1))
        return torch.stack(rolls, 1)

    def _read(self, window: Tensor) -> Tensor:
        """window (B, K <= history, P, D) -> foretold (B, K, P, D)."""
        tokens = rearrange(window, "b k p d -> (b p) k d")
        hidden = self.enter(tokens) + self.position[: tokens.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        change = self.speak(self.norm(hidden))
        return window + rearrange(change, "(b p) k d -> b k p d", b=window.shape[0])


def _joined(memories: Tensor) -> Tensor:
    """(B, T, C, h, w) -> (B*T, C, h, w), channels last in memory."""
    return memories.flatten(0, 1).contiguous(memory_format=torch.channels_last)


Predictor = RecurrentPredictor | CausalPredictor


def build_predictor(config: PredictorConfig, latent_width: int, grid: tuple[int, int]) -> Predictor:
    """The predictor that `config` describes, for latents of `latent_width` on a `grid` of tokens."""
    if isinstance(config, RecurrentConfig):
        return RecurrentPredictor(config, latent_width, grid)
    return CausalPredictor(config, latent_width, grid)
