"""What a thing looks like, given where it is: it is told from the looks of what moved before.

Words about the steps to come must say at once where a thing will be and what it looks like. Behind a screen the place is
not sure, and the mean of all places looks like nothing. Here the place is given away: of every token that changes, it is told
how much it and its neighbours change, and its latents are to be said from what moved some steps ago and earlier, by attention over
the tokens that changed most then, whose latents may be copied. So what went in red should come out red, wherever and whenever
it does. (Object files, Kahneman, Treisman and Gibbs 1992; copying through attention, arXiv 1506.03134.)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, unfold

from foretell.errors import CheckpointError, ConfigError
from foretell.model.folder import add_to_sums, read_config
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import WorldModel

FILE = "likeness.safetensors"
SLOPE = 0.1
"""Of the rectifiers below zero, as in the predictors."""
EDGE = 5
"""Of the square of tokens whose changes are told."""


@dataclass(frozen=True, kw_only=True)
class LikenessConfig:
    """What is asked, and what it may be told from."""

    apart: int = 4
    """Steps that are kept from it: it must not see how the thing looked just before."""
    span: int = 24
    """Ages that it tells apart, in steps beyond `apart`; what is older counts as the oldest."""
    asked: int = 12
    """Tokens of a step that are asked for, those that change most."""
    kept: int = 8
    """Tokens of an earlier step that it may look at, those that changed most."""
    width: int = 128
    """Channels of its layers."""
    heads: int = 4
    """Places that it looks at, at once."""
    steps: int = 1000
    """Training steps, on frozen latents."""

    @property
    def first(self) -> int:
        """The first step, 0-based, of which something is said: one has to have changed, `apart` before."""
        return self.apart + 1


class Said(NamedTuple):
    """Of the K tokens that change most, at each step from the first that it can speak of; in deviations of a latent."""

    looks: Tensor  # (B, T', K, D) as they should look
    came: Tensor  # (B, T', K, D) as they do
    change: Tensor  # (B, T', K) how much they changed, in units of the usual change


class Likeness(nn.Module):
    """latents (B, T, P, D) of a frozen encoder -> how what changes should look, and how it does."""

    mean: Tensor
    std: Tensor
    usual: Tensor

    def __init__(self, config: LikenessConfig, latent_width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.grid = config, grid
        width, heads = config.width, config.heads
        self.look = nn.Conv2d(latent_width + 1, width, 3, padding=1)
        self.ask = nn.Sequential(
            nn.Linear(2 * EDGE**2 + width, width), nn.LeakyReLU(SLOPE), nn.Linear(width, width), nn.LeakyReLU(SLOPE)
        )
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.choose = nn.Linear(2 * width, heads + 1)
        self.mend = nn.Sequential(
            nn.Linear(2 * width + (heads + 1) * latent_width, width),
            nn.LeakyReLU(SLOPE),
            nn.Linear(width, latent_width),
        )
        last = self.mend[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.age = nn.Parameter(torch.zeros(heads, config.span))
        self.register_buffer("mean", torch.zeros(latent_width))
        self.register_buffer("std", torch.ones(latent_width))
        self.register_buffer("usual", torch.ones(()))

    @torch.no_grad()
    def fit_scale(self, latents: Tensor) -> None:
        """Take deviations and the usual change from latents (B, T, P, D)."""
        self.mean.copy_(latents.flatten(0, 2).mean(0))
        self.std.copy_(latents.flatten(0, 2).std(0).clamp_min(1e-3))
        even = (latents - self.mean) / self.std
        self.usual.copy_((even[:, 1:] - even[:, :-1]).pow(2).mean().sqrt().clamp_min(1e-3))

    def forward(self, latents: Tensor) -> Said:
        """latents (B, T, P, D), T above `config.first` -> Said of T' = T - first steps."""
        apart, first = self.config.apart, self.config.first
        even = (latents.float() - self.mean) / self.std
        changes = self._changes(even)
        around = self._around(changes)
        features = self._features(even, changes)
        past = slice(1, even.shape[1] - apart)  # of each step asked for, the one `apart` before it

        change, asked = changes[:, first:].topk(min(self.config.asked, changes.shape[2]), 2)
        there = even[:, past]
        known = [around[:, first:], around[:, first - 1 : -1], features[:, past]]
        questions = self.ask(torch.cat([_taken(part, asked) for part in known], -1))
        got, copies = self._recall(questions, features[:, past], there, changes[:, past])
        looked = torch.cat([questions.float(), got], -1)
        choices = torch.cat([_taken(there, asked)[..., None, :], copies], -2)  # nothing new there, or one of the past
        share = self.choose(looked).float().softmax(-1)
        said = (share[..., None] * choices).sum(-2) + self.mend(torch.cat([looked, choices.flatten(-2)], -1)).float()
        return Said(said, _taken(even[:, first:], asked), change)

    def _changes(self, even: Tensor) -> Tensor:
        """How much each token changed since the step before, (B, T, P); 0 at the first."""
        changed = (even[:, 1:] - even[:, :-1]).pow(2).mean(-1).sqrt() / self.usual
        return torch.cat([torch.zeros_like(changed[:, :1]), changed], 1)

    def _around(self, changes: Tensor) -> Tensor:
        """The changes of each token and its neighbours, (B, T, P, EDGE * EDGE)."""
        maps = rearrange(changes, "b t (h w) -> (b t) 1 h w", h=self.grid[0])
        return rearrange(unfold(maps, EDGE, padding=EDGE // 2), "(b t) e p -> b t p e", b=len(changes))

    def _features(self, even: Tensor, changes: Tensor) -> Tensor:
        """What is seen of each token and its neighbours, (B, T, P, width)."""
        seen = torch.cat([even, changes[..., None]], -1)
        maps = self.look(rearrange(seen, "b t (h w) d -> (b t) d h w", h=self.grid[0]))
        return rearrange(leaky_relu(maps, SLOPE), "(b t) c h w -> b t (h w) c", b=len(even))

    def _recall(self, questions: Tensor, features: Tensor, even: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
        """What each head finds among the steps of the past that are old enough: (B, T', K, width) and copies (B, T', K, heads, D).

        questions (B, T', K, width); of the past, step 0 of which is `apart` before the first question: features, latents, changes.
        """
        heads, (steps, asked) = self.config.heads, questions.shape[1:3]
        kept = changes.topk(min(self.config.kept, changes.shape[2]), 2).indices
        keys, values = self.key_value(_taken(features, kept)).chunk(2, -1)
        query, key, value = (
            rearrange(part, "b t k (h c) -> b h (t k) c", h=heads) for part in (self.query(questions), keys, values)
        )
        step = torch.arange(steps, device=even.device)
        since = step.repeat_interleave(asked)[:, None] - step.repeat_interleave(kept.shape[2])  # (T' K, T' kept)
        age = self.age[:, since.clamp(0, self.config.span - 1)].masked_fill(since < 0, -torch.inf)
        weight = ((query @ key.mT).float() * query.shape[-1] ** -0.5 + age).softmax(-1)
        got = rearrange(weight @ value.float(), "b h (t k) c -> b t k (h c)", t=steps)
        copies = weight @ rearrange(_taken(even, kept), "b t k d -> b 1 (t k) d")
        return got, rearrange(copies, "b h (t k) d -> b t k h d", t=steps)


def _taken(values: Tensor, chosen: Tensor) -> Tensor:
    """Of values (B, T, P, C) those at the chosen tokens (B, T, K): (B, T, K, C)."""
    return values.gather(2, chosen[..., None].expand(*chosen.shape, values.shape[-1]))


def new_likeness(config: LikenessConfig, model: WorldModel) -> Likeness:
    """One that knows nothing yet, for this model. Raises ConfigError if a frame is one token: there is no where in it."""
    if model.grid == (1, 1):
        raise ConfigError("likeness: this model sees one token a frame; take a dense preset, or leave it out")
    return Likeness(config, model.config.encoder.latent_width, model.grid)


def save_likeness(folder: Path, likeness: Likeness) -> None:
    """Write it into a model folder. Raises DataError if the disk takes no more."""
    save_tensors(folder / FILE, dict(likeness.state_dict()), asdict(likeness.config))
    add_to_sums(folder, [FILE])


def load_likeness(folder: Path, model: WorldModel) -> Likeness | None:
    """What `save_likeness` wrote for this model; None if it never learned that. Raises CheckpointError if it does not fit."""
    if FILE not in read_config(folder)["sha256"]:
        return None
    tensors, facts = load_tensors(folder / FILE)
    try:
        likeness = new_likeness(LikenessConfig(**facts), model)
        likeness.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{folder / FILE}: does not fit ({error}): bring it back, or train again") from error
    return likeness.eval()
