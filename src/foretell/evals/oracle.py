"""The state oracle: told by the simulator what can be seen, in numbers instead of frames. A ceiling: what it cannot know at
an occlusion, no model of the frames can. A recurrent network that learns to foretell states one and several steps ahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from foretell.data.clip import Clip
from foretell.evals.judges import from_step
from foretell.worlds.scenes import SHAPES

HIDDEN = 192
BATCH, RATE = 32, 3e-3
USUAL = 500
"""Clips whose mean error is the usual one."""
BLOCK = ("block_left", "block_top", "block_right")


def numbers(clip: Clip) -> np.ndarray:
    """What can be seen of a clip of the physics world, float32 (T, S): of each object whether it is seen, place, size,
    colour and shape; place of the first block. All zero while hidden. Lengths in halves of the frame."""
    states, half = clip.states, clip.frames.shape[1] / 2
    seen = (states["visible"] & ~states["covered"])[..., None]
    shapes = states["shape"][..., None] == np.array(SHAPES)
    place = [states[name][..., None] / half - shift for name, shift in (("x", 1), ("y", 1), ("radius", 0))]
    objects = np.concatenate([*place, states["colour"] / 255, shapes], -1)
    objects = np.where(seen, np.concatenate([np.ones_like(seen), np.nan_to_num(objects)], -1), 0.0)
    block = np.stack([states[name] for name in BLOCK], -1)
    there = np.isfinite(block).all(-1, keepdims=True)
    block = np.where(there, np.concatenate([there, np.nan_to_num(block) / half - 1], -1), 0.0)
    return np.concatenate([objects.reshape(len(block), -1), block], -1).astype(np.float32)


class StateOracle(nn.Module):
    """A gated recurrent network over states (B, T, S), residual: the next ones are these, and what it adds."""

    def __init__(self, width: int, horizons: Sequence[int]) -> None:
        super().__init__()
        self.horizons = tuple(horizons)
        self.memory = nn.GRU(width, HIDDEN, batch_first=True)
        self.speak = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width))
        self.scale = nn.Parameter(torch.ones(width), requires_grad=False)
        self.usual = nn.Parameter(torch.ones(len(self.horizons)), requires_grad=False)

    def look(self, clips: Sequence[Clip]) -> Tensor:
        """States (B, T, S)."""
        return torch.from_numpy(np.stack([numbers(clip) for clip in clips]))

    @torch.inference_mode()
    def surprise(self, seen: Tensor) -> Tensor:
        """Squared error of what was foretold, each number on its own scale, over its usual value; mean over horizons."""
        first = max(self.horizons)
        errors = [
            error[:, first - h :] / usual
            for h, error, usual in zip(self.horizons, self.errors(seen), self.usual, strict=True)
        ]
        return from_step(first, torch.stack(errors).mean(0).double())

    def errors(self, states: Tensor) -> list[Tensor]:
        """(B, T, S) -> for each horizon h (B, T - h), mean over numbers."""
        return [
            ((states[:, h:] - said) / self.scale).pow(2).mean(-1)
            for h, said in self.words_ahead(states)
            if h in self.horizons
        ]

    def words_ahead(self, states: Tensor) -> Iterator[tuple[int, Tensor]]:
        """What is said h steps before of the steps from h on, (B, T - h, S), for every h up to the farthest horizon."""
        now, steps = states, states.shape[1]
        kept, _ = self.memory(states)
        for h in range(1, max(self.horizons) + 1):
            now, kept = now[:, : steps - h], kept[:, : steps - h]
            if h > 1:
                grown, _ = self.memory(now.flatten(0, 1)[:, None], kept.flatten(0, 1)[None].contiguous())
                kept = grown[:, 0].view(kept.shape)
            now = now + self.speak(kept)
            yield h, now


def train_oracle(clips: Sequence[Clip], horizons: Sequence[int], *, steps: int, seed: int = 0) -> StateOracle:
    """An oracle trained on possible clips of the physics world, all of one length, to foretell at all `horizons`."""
    states = torch.from_numpy(np.stack([numbers(clip) for clip in clips]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        oracle = StateOracle(states.shape[-1], horizons)
    oracle.scale.copy_(states.flatten(0, 1).std(0).clamp_min(0.02))
    optimizer = torch.optim.AdamW(oracle.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(states), (BATCH,), generator=generator)
        loss = torch.stack([error.mean() for error in oracle.errors(states[chosen])]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(oracle.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        oracle.usual.copy_(torch.stack([error.mean() for error in oracle.errors(states[:USUAL])]))
    return oracle.eval()
