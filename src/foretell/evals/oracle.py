"""The state oracle: told by the simulator what can be seen, in numbers instead of frames. A ceiling: what it cannot know at
an occlusion, no model of the frames can. A recurrent network that learns to foretell the next states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from foretell.data.clip import Clip
from foretell.evals.judges import from_step
from foretell.worlds.scenes import SHAPES

HIDDEN = 192
BATCH, RATE = 64, 3e-3
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

    def __init__(self, width: int) -> None:
        super().__init__()
        self.memory = nn.GRU(width, HIDDEN, batch_first=True)
        self.speak = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width))
        self.scale = nn.Parameter(torch.ones(width), requires_grad=False)

    def look(self, clips: Sequence[Clip]) -> Tensor:
        """States (B, T, S)."""
        return torch.from_numpy(np.stack([numbers(clip) for clip in clips]))

    @torch.inference_mode()
    def surprise(self, seen: Tensor) -> Tensor:
        """Squared error of what was foretold one step before, each number on its own scale."""
        return from_step(1, self.errors(seen).double())

    def errors(self, states: Tensor) -> Tensor:
        """(B, T, S) -> (B, T - 1), mean over numbers."""
        told = states[:, :-1] + self.speak(self.memory(states[:, :-1])[0])
        return ((states[:, 1:] - told) / self.scale).pow(2).mean(-1)


def train_oracle(clips: Sequence[Clip], *, steps: int, seed: int = 0) -> StateOracle:
    """An oracle trained on possible clips of the physics world, all of one length."""
    states = torch.from_numpy(np.stack([numbers(clip) for clip in clips]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        oracle = StateOracle(states.shape[-1])
    oracle.scale.copy_(states.flatten(0, 1).std(0).clamp_min(0.02))
    optimizer = torch.optim.AdamW(oracle.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(states), (BATCH,), generator=generator)
        loss = oracle.errors(states[chosen]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(oracle.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return oracle.eval()
