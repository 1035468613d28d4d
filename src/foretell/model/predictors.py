"""Predictors: from the latents seen so far, the next ones. A predictor carries a memory from step to step.

All kinds speak one language: ``start`` gives an empty memory; ``step`` takes one latent (B, P, D) and the memory and
returns the foretold next latent and the new memory; ``scan`` does so for many steps at once; ``memory_after`` finds in
what a scan leaves the memory after some of its steps. A memory has one shape whatever was seen, batch first.
One kind is steered: it is told what is done at each step, (B, A') or (B, T, A'); the others only watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import leaky_relu_

from foretell.errors import ConfigError
from foretell.model.layers import GatedBlock, TransformerBlock


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """A gated convolutional memory over the token grid: what is hidden is not forgotten. The default for video."""

    hidden: int = 128
    """Channels of the memory at every token."""
    carry: bool = False
    """It also says how the picture will move: then looks are judged by the last frame, carried on (surprise/looks.py)."""


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
    """Steps that a block looks back, its own counted; blocks on blocks look further."""
    dropout: float = 0.1
    """Dropout in training."""


@dataclass(frozen=True, kw_only=True)
class SteeredConfig:
    """A gated memory of one pooled token that is told what is done; for worlds that are acted in."""

    hidden: int = 256
    """Width of its layers."""
    memory: int = 64
    """Numbers that it remembers: speed, and what is out of sight."""
    blocks: int = 0
    """Gated blocks in place of its two plain layers: where it matters which way things are turned to each other."""


PredictorConfig = RecurrentConfig | CausalConfig | SteeredConfig

DRIFT_CHANNELS = 64
"""Of the layer that reads from a memory how the picture will move."""
SLOPE = 0.1
"""Of the recurrent predictor's rectifiers below zero. With plain ones all could fall silent at once, in the first hundred
steps at the highest rate, and then nothing is ever learned again: seen in 2 of 3 runs on staged scenes."""


class RecurrentPredictor(nn.Module):
    """Convolutional gated recurrence with residual output, z' = z + f(memory) (after ConvGRU, arXiv 1511.06432).

    One 3x3 convolution looks at the token, its neighbours and their memories; a 1x1 convolution makes from it the
    gate and what is written through it. A GRU's three 3x3 gates cost twice as much and foretold no better.
    Tokens stay (B, P, C) between steps: as a picture that is channels last, and no step copies it into another order.
    """

    def __init__(self, config: RecurrentConfig, latent_width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        hidden = config.hidden
        self.grid, self.hidden = grid, hidden
        self.look = nn.Conv2d(latent_width + hidden, hidden, 3, padding=1)
        self.write = nn.Conv2d(hidden, 2 * hidden, 1)
        self.speak = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(hidden, latent_width, 1),
        )
        last = self.speak[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        if config.carry:
            move = nn.Conv2d(DRIFT_CHANNELS, 2, 1)
            nn.init.zeros_(move.weight)
            assert move.bias is not None
            nn.init.zeros_(move.bias)
            self.carry = nn.Sequential(nn.Conv2d(hidden, DRIFT_CHANNELS, 3, padding=1), nn.LeakyReLU(SLOPE), move)

    def start(self, batch: int) -> Tensor:
        """An empty memory (B, P, hidden)."""
        return self.look.weight.new_zeros(batch, self.grid[0] * self.grid[1], self.hidden)

    def step(self, latents: Tensor, memory: Tensor, actions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take in latents (B, P, D); the foretold next ones and the new memory."""
        assert actions is None
        memory = self._remember(latents, memory)
        return self._foretell(latents, memory), memory

    def step_along(self, latents: Tensor, memory: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
        """The same on one of several ways (B, hidden), which every token hears of (model/branches.py)."""
        memory = self._remember(latents, memory, way)
        return self._foretell(latents, memory), memory

    def scan(
        self, latents: Tensor, memory: Tensor | None = None, actions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """latents (B, T, P, D) -> foretold (B, T, P, D), where [:, t] speaks of t + 1, and memories (B, T, P, hidden)."""
        assert actions is None
        memory, memories = self.start(latents.shape[0]) if memory is None else memory, []
        for now in latents.unbind(1):
            memory = self._remember(now, memory)
            memories.append(memory)
        kept = torch.stack(memories, 1)
        said = self._foretell(latents.flatten(0, 1), kept.flatten(0, 1))
        return said.view(latents.shape), kept

    def memory_after(self, memories: Tensor, steps: Sequence[int]) -> Tensor:
        """From what a scan left, the memories after these of its steps (0-based): (B, S, P, hidden)."""
        return memories[:, list(steps)]

    def drift(self, memory: Tensor) -> Tensor:
        """How the picture is about to move, told from memories (N, P, hidden): (N, 2, rows, columns) in pixels."""
        moves: Tensor = self.carry(self._picture(memory))
        return moves.float()

    def _remember(self, latents: Tensor, memory: Tensor, way: Tensor | None = None) -> Tensor:
        seen = torch.cat([latents.to(memory.dtype), memory], -1)
        looked = self.look(self._picture(seen))
        if way is not None:
            looked = looked + way[:, :, None, None].to(looked.dtype)
        looked = leaky_relu_(looked, SLOPE)
        gate, content = _tokens(self.write(looked)).chunk(2, -1)
        return torch.lerp(memory, torch.tanh(content).to(memory.dtype), torch.sigmoid(gate).to(memory.dtype))

    def _foretell(self, latents: Tensor, memory: Tensor) -> Tensor:
        """The next latents (B, P, D), said from the memory that has already taken in `latents`."""
        return latents + _tokens(self.speak(self._picture(memory)))

    def _picture(self, tokens: Tensor) -> Tensor:
        return rearrange(tokens, "b (h w) c -> b c h w", h=self.grid[0])


def _tokens(picture: Tensor) -> Tensor:
    return rearrange(picture, "b c h w -> b (h w) c")


class CausalPredictor(nn.Module):
    """Causal transformer over time, the same for every token, with residual output.

    Its memory holds, for every block, keys and values of the last history - 1 steps, so that each step is read once;
    what came before the first step reads as zeros. Order is told by a learned bias for every distance in time
    (arXiv 1910.10683), so that a memory may slide on for ever.
    """

    def __init__(self, config: CausalConfig, latent_width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.history, self.tokens = config.history, grid[0] * grid[1]
        self.enter = nn.Linear(latent_width, config.width)
        self.distance = nn.Parameter(torch.zeros(config.depth, config.heads, config.history))
        self.blocks = nn.ModuleList(
            TransformerBlock(config.width, config.heads, dropout=config.dropout) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.speak = nn.Linear(config.width, latent_width)
        nn.init.zeros_(self.speak.weight)
        nn.init.zeros_(self.speak.bias)

    def start(self, batch: int) -> Tensor:
        """An empty memory (B, P, depth, history - 1, 2 * width)."""
        width = self.enter.out_features
        return self.distance.new_zeros(batch, self.tokens, len(self.blocks), self.history - 1, 2 * width)

    def step(self, latents: Tensor, memory: Tensor, actions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take in latents (B, P, D); the foretold next ones and the new memory."""
        assert actions is None
        said, memories = self.scan(latents[:, None], memory)
        return said[:, 0], memories[:, :, :, 1:]

    def scan(
        self, latents: Tensor, memory: Tensor | None = None, actions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """latents (B, T, P, D) -> foretold (B, T, P, D), where [:, t] speaks of t + 1.

        And keys and values of all steps behind those of the memory, (B, P, depth, history - 1 + T, 2 * width).
        """
        assert actions is None
        memory = self.start(latents.shape[0]) if memory is None else memory
        hidden = self.enter(rearrange(latents, "b t p d -> (b p) t d"))
        kept = []
        for number, block in enumerate(self.blocks):
            past = rearrange(memory[:, :, number], "b p k c -> (b p) k c")
            hidden, seen = block(hidden, past, self._nearness(number, latents.shape[1]))
            kept.append(seen)
        change = rearrange(self.speak(self.norm(hidden)), "(b p) t d -> b t p d", p=self.tokens)
        return latents + change, rearrange(torch.stack(kept, 1), "(b p) n k c -> b p n k c", p=self.tokens)

    def memory_after(self, memories: Tensor, steps: Sequence[int]) -> Tensor:
        """From what a scan left, the memories after these of its steps (0-based): (B, S, P, depth, history - 1, ...)."""
        return torch.stack([memories[:, :, :, step + 1 : step + self.history] for step in steps], 1)

    def _nearness(self, block: int, steps: int) -> Tensor:
        """What a block adds to its scores (heads, T, history - 1 + T): by distance in time; -inf outside the history."""
        device = self.distance.device
        asking = torch.arange(steps, device=device)[:, None] + self.history - 1
        distance = asking - torch.arange(self.history - 1 + steps, device=device)
        outside = (distance < 0) | (distance >= self.history)
        bias = self.distance[block][:, distance.clamp(0, self.history - 1)]
        return bias.masked_fill(outside, float("-inf"))


class SteeredPredictor(nn.Module):
    """Gated recurrence over one token and the action, with residual output, z' = z + f(z, action, memory).

    What is done enters where the latent does, normalised; there is no memory in space (P = 1).
    """

    def __init__(self, config: SteeredConfig, latent_width: int, action_width: int) -> None:
        super().__init__()
        hidden, self.remembered = config.hidden, config.memory
        enter = nn.Linear(latent_width + action_width + config.memory, hidden)
        deeper: list[nn.Module] = [GatedBlock(hidden) for _ in range(config.blocks)]
        self.look = nn.Sequential(enter, *(deeper or [nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()]))
        self.write = nn.Linear(hidden, 2 * config.memory)
        self.speak = nn.Sequential(
            nn.Linear(hidden + config.memory, hidden), nn.SiLU(), nn.Linear(hidden, latent_width)
        )
        last = self.speak[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def start(self, batch: int) -> Tensor:
        """An empty memory (B, 1, memory)."""
        return self.write.weight.new_zeros(batch, 1, self.remembered)

    def step(self, latents: Tensor, memory: Tensor, actions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take in latents (B, 1, D) and what is done now, (B, A'); the foretold next ones and the new memory."""
        assert actions is not None
        looked = self.look(torch.cat([latents.to(memory.dtype), actions[:, None].to(memory.dtype), memory], -1))
        gate, content = self.write(looked).chunk(2, -1)
        memory = torch.lerp(memory, torch.tanh(content).to(memory.dtype), torch.sigmoid(gate).to(memory.dtype))
        return latents + self.speak(torch.cat([looked, memory.to(looked.dtype)], -1)), memory

    def scan(
        self, latents: Tensor, memory: Tensor | None = None, actions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """latents (B, T, 1, D), actions (B, T, A') -> foretold, where [:, t] speaks of t + 1; memories (B, T, 1, memory)."""
        assert actions is not None
        memory = self.start(latents.shape[0]) if memory is None else memory
        said, memories = [], []
        for now, done in zip(latents.unbind(1), actions.unbind(1), strict=True):
            foretold, memory = self.step(now, memory, done)
            said.append(foretold)
            memories.append(memory)
        return torch.stack(said, 1), torch.stack(memories, 1)

    def memory_after(self, memories: Tensor, steps: Sequence[int]) -> Tensor:
        """From what a scan left, the memories after these of its steps (0-based): (B, S, 1, memory)."""
        return memories[:, list(steps)]


Predictor = RecurrentPredictor | CausalPredictor | SteeredPredictor


def build_predictor(
    config: PredictorConfig, latent_width: int, grid: tuple[int, int], action_width: int = 0
) -> Predictor:
    """The predictor that `config` describes, for latents of `latent_width` on a `grid` of tokens.

    `action_width` is A', numbers of a block of actions; 0 where nobody acts. Raises ConfigError if they do not go together.
    """
    if isinstance(config, SteeredConfig) != (action_width > 0):
        got = f"{type(config).__name__} and {'actions' if action_width else 'no actions'}"
        raise ConfigError(
            f"predictor: got {got}: actions need a steered predictor and the other way round (--preset act)"
        )
    if isinstance(config, SteeredConfig):
        if grid != (1, 1):
            raise ConfigError(f"predictor: steered, with a grid of {grid} tokens; expected one token, a pooled encoder")
        return SteeredPredictor(config, latent_width, action_width)
    if isinstance(config, RecurrentConfig):
        return RecurrentPredictor(config, latent_width, grid)
    return CausalPredictor(config, latent_width, grid)
