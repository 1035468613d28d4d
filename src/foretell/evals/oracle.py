"""The state oracle: told by the simulator what can be seen, in numbers instead of frames. A ceiling: what it cannot know at
an occlusion, no model of the frames can. A recurrent network that learns how likely the states one and several steps ahead are.

Weight shows in how speed changes, which is a hundredth of how places do. So the network is given differences, and says how far
a state will depart from a straight line, each number on its own scale, and how sure of it it is. Surprise is minus the
log-likelihood of what came.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad, softplus

from foretell.data.clip import Clip
from foretell.evals.judges import from_step
from foretell.worlds.scenes import SHAPES

HIDDEN = 192
BATCH, RATE = 32, 3e-3
SUREST = 0.02
"""Least deviation that it may claim, in units of the usual departure from a straight line."""
DOUBT = 0.5
"""How far what it is unsure of counts in training. At 0, a plain likelihood, it grows unsure of what is hard to learn (here that
a ball comes back from a wall that it saw) and then never learns it (beta of arXiv 2203.09168)."""
BLOCK = ("block_left", "block_top", "block_right")


def numbers(clip: Clip) -> np.ndarray:
    """What can be seen of a clip of the physics world, float32 (T, S): of each object whether it is seen, place, size,
    colour and shape; of the first block whether it is seen, and place. All zero while hidden. Lengths in halves of the frame."""
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


def flags(width: int) -> Tensor:
    """Where in S = `width` numbers stands whether each of them is there to be seen, int (S,): a flag stands for itself."""
    of_object = (width - 1 - len(BLOCK)) // 2
    return torch.tensor([0] * of_object + [of_object] * of_object + [2 * of_object] * (1 + len(BLOCK)))


class StateOracle(nn.Module):
    """A gated recurrent network over states (B, T, S), their speeds and how these change."""

    def __init__(self, width: int, horizons: Sequence[int]) -> None:
        super().__init__()
        self.width, self.horizons, self.flags = width, tuple(horizons), flags(width)
        self.memory = nn.GRU(3 * width, HIDDEN, batch_first=True)
        self.speak = nn.Sequential(
            nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(self.horizons) * 2 * width)
        )
        self.scale = nn.Parameter(torch.ones(3 * width), requires_grad=False)
        self.usual = nn.Parameter(torch.ones(len(self.horizons), width), requires_grad=False)

    def look(self, clips: Sequence[Clip]) -> Tensor:
        """States (B, T, S)."""
        return torch.from_numpy(np.stack([numbers(clip) for clip in clips]))

    @torch.inference_mode()
    def surprise(self, seen: Tensor) -> Tensor:
        """Minus the log-likelihood of each step, but for a constant; mean over horizons."""
        first = max(self.horizons)
        errors = [of_h[:, first - h :] for h, of_h in zip(self.horizons, self.errors(seen), strict=True)]
        return from_step(first, torch.stack(errors).mean(0).double())

    def errors(self, states: Tensor, doubt: float = 0.0) -> list[Tensor]:
        """(B, T, S) -> for each horizon h (B, T - h): minus the log-likelihood of the steps from h on, as said h steps before.

        Of a number that is not to be seen, nothing is asked. `doubt`: power of a claimed deviation that its number is weighed by.
        """
        speeds, turns = self.changes(states)
        kept, _ = self.memory(torch.cat([states, speeds, turns], -1) / self.scale)
        words = self.speak(kept).unflatten(-1, (len(self.horizons), 2, self.width))
        is_flag = self.flags == torch.arange(self.width)
        found = []
        for k, h in enumerate(self.horizons):
            said, spread = words[:, :-h, k].unbind(2)
            came, deviation = states[:, h:], softplus(spread) + SUREST
            departure = self.departure(states, speeds, h) / self.usual[k]
            unlikely = ((departure - said) / deviation).pow(2) / 2 + (deviation / SUREST).log()
            unlikely = unlikely * deviation.detach().pow(2 * doubt) * came[..., self.flags]
            unseen = binary_cross_entropy_with_logits(said, came.clamp(0, 1), reduction="none")
            found.append(torch.where(is_flag, unseen, unlikely).sum(-1))
        return found

    def changes(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, T, S) -> speeds a step and their changes, of the same shape; zero where a step before is not seen."""
        seen = states[..., self.flags]
        twice = pad(seen[:, 1:] * seen[:, :-1], (0, 0, 1, 0))
        speeds = twice * states.diff(dim=1, prepend=states[:, :1])
        thrice = pad(twice[:, 1:] * twice[:, :-1], (0, 0, 1, 0))
        return speeds, thrice * speeds.diff(dim=1, prepend=speeds[:, :1])

    def departure(self, states: Tensor, speeds: Tensor, h: int) -> Tensor:
        """How far the states from step h on lie from the straight line of h steps before, (B, T - h, S)."""
        return states[:, h:] - states[:, :-h] - h * speeds[:, :-h]


def train_oracle(clips: Sequence[Clip], horizons: Sequence[int], *, steps: int, seed: int = 0) -> StateOracle:
    """An oracle trained on possible clips of the physics world, all of one length, to foretell at all `horizons`."""
    states = torch.from_numpy(np.stack([numbers(clip) for clip in clips]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        oracle = StateOracle(states.shape[-1], horizons)
    speeds, turns = oracle.changes(states)
    oracle.scale.copy_(torch.cat([states, speeds, turns], -1).flatten(0, 1).std(0).clamp_min(1e-3))
    for k, h in enumerate(oracle.horizons):
        asked = oracle.departure(states, speeds, h) * states[:, h:][..., oracle.flags]
        oracle.usual[k] = asked.flatten(0, 1).std(0).clamp_min(0.02)
    optimizer = torch.optim.AdamW(oracle.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(states), (BATCH,), generator=generator)
        loss = torch.stack([error.mean() for error in oracle.errors(states[chosen], DOUBT)]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(oracle.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return oracle.eval()
