"""Heads on frozen latents of a model that acts: every frame is encoded once, and all of them learn from the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from foretell.data.split import Stretch
from foretell.data.store import Store
from foretell.errors import DataError
from foretell.model.heads import Errors, Heads, whitened_error
from foretell.model.world_model import WorldModel
from foretell.surprise.covariance import shrunk_covariance
from foretell.train.loop import step_generator

BATCH, RATE = 512, 1e-3
PORTION = 256
"""Frames encoded at once."""
QUANTILE = 0.1
"""Of the steps that pairs of moments lie apart: nearly the fastest way that anybody went."""
STRANGERS = 0.2
"""Share of pairs of two clips, which count as `farthest` apart: what no clip joins is far."""


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """How long the heads learn, and how far they look."""

    steps: int = 3000
    """Training steps of each head."""
    farthest: int = 20
    """Steps of the model between two moments of a clip that are told to be joined."""
    horizon: int = 5
    """Steps of the model over which foretold quantities are held against the true ones, for guardrails."""


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Latents of every frame of some stretches, and what was done: one long row of frames, cut into clips."""

    latents: Tensor  # (N, P, D)
    actions: Tensor  # (N, A), world units
    states: Tensor  # (N, Q); Q = 0 where nobody told them
    ends: Tensor  # (N,) for each frame, the index behind the last frame of its clip


@torch.inference_mode()
def cache_latents(model: WorldModel, store: Store, stretches: Sequence[Stretch]) -> Cache:
    """Encode each frame of the stretches once. Raises DataError if the store knows nothing of actions."""
    log = store.log
    if log is None:
        raise DataError(
            f"{store.where}: nothing says what was done in these clips: record with a policy, or add csv files"
        )
    # One block for all, and nothing else is kept on the way: small pieces between the large ones that the encoder needs would
    # split up the memory, and it would grow by those of every clip.
    lengths = torch.tensor([s.length for s in stretches])
    tokens, width = model.grid[0] * model.grid[1], model.config.encoder.latent_width
    latents, at = torch.empty(int(lengths.sum()), tokens, width), 0
    for s in stretches:
        frames = torch.from_numpy(store.window(s.clip, s.start, s.length).copy()).permute(0, 3, 1, 2)
        for several in frames.split(PORTION):
            latents[at : at + len(several)] = model.encode(several[None])[0]
            at += len(several)
    actions, states = (
        np.concatenate([table[store.clips[s.clip].name][s.start : s.start + s.length] for s in stretches])
        if table
        else np.zeros((at, 0), np.float32)
        for table in (log.actions, log.states)
    )
    return Cache(
        latents=latents,
        actions=torch.from_numpy(actions),
        states=torch.from_numpy(states).float(),
        ends=lengths.cumsum(0).repeat_interleave(lengths),
    )


def fit_heads(model: WorldModel, cache: Cache, quantities: tuple[str, ...], config: HeadsConfig, seed: int) -> Heads:
    """Train probe, inverse model and reachability on a cache; a function of (cache, config, seed). The model is left alone."""
    torch.manual_seed(seed)
    heads = Heads(model, quantities, config.farthest)
    assert model.config.actions is not None
    skip = model.config.actions.skip
    pairs = _Pairs(cache, skip, config.farthest)
    if heads.probe is not None:
        heads.probe.mean.copy_(cache.states.mean(0))
        heads.probe.std.copy_(cache.states.std(0).clamp_min(1e-3))
        _fit(heads.probe, lambda g: probe_error(heads, cache, g), config.steps, seed)
    _fit(heads.inverse, lambda g: inverse_error(heads, pairs, g), config.steps, seed)
    _fit(heads.reach, lambda g: reach_error(heads, pairs, g), config.steps, seed)
    return heads.eval()


def probe_error(heads: Heads, cache: Cache, generator: torch.Generator) -> Tensor:
    """Squared error of quantities, each in units of its deviation."""
    assert heads.probe is not None
    at = torch.randint(len(cache.latents), (BATCH,), generator=generator)
    read = heads.probe(cache.latents[at])
    return mse_loss((read - cache.states[at]) / heads.probe.std, torch.zeros_like(read))


def inverse_error(heads: Heads, pairs: _Pairs, generator: torch.Generator) -> Tensor:
    """Squared error of the block that was done at the first of two moments (hindsight: wherever a clip went was its goal)."""
    now, later, steps = pairs.joined(BATCH, generator)
    said = heads.inverse(pairs.cache.latents[now], pairs.cache.latents[later], steps)
    return ((said - pairs.blocks(now)) / heads.inverse.reach).pow(2).mean()


def reach_error(heads: Heads, pairs: _Pairs, generator: torch.Generator) -> Tensor:
    """Pinball loss (quantile regression, Koenker and Bassett 1978) of the steps between two moments."""
    now, later, steps = pairs.joined(BATCH, generator)
    apart = int(STRANGERS * BATCH)
    later[:apart] = pairs.any(apart, generator)
    steps[:apart] = heads.reach.farthest
    short = steps - heads.reach(pairs.cache.latents[now], pairs.cache.latents[later])
    return torch.maximum(QUANTILE * short, (QUANTILE - 1) * short).mean()


class _Pairs:
    """Draws pairs of moments of one clip, and what was done at the first."""

    def __init__(self, cache: Cache, skip: int, farthest: int) -> None:
        self.cache, self.skip, self.farthest = cache, skip, farthest
        places = torch.arange(len(cache.ends))
        self.starts = places[places + skip < cache.ends]
        if not len(self.starts):
            raise DataError(f"heads: no clip is longer than {skip} frames, one step of the model: record longer ones")

    def joined(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Indices of frames now and later in a clip, and how many steps of the model lie between them (float)."""
        now = self.any(count, generator)
        most = ((self.cache.ends[now] - 1 - now) // self.skip).clamp(max=self.farthest)
        steps = 1 + (torch.rand(count, generator=generator) * most).long().clamp(max=most - 1)
        return now, now + steps * self.skip, steps.float()

    def any(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices of frames with a step of the model still before them."""
        return self.starts[torch.randint(len(self.starts), (count,), generator=generator)]

    def blocks(self, now: Tensor) -> Tensor:
        """The blocks that were begun then, (N, A')."""
        return self.cache.actions[now[:, None] + torch.arange(self.skip)].flatten(1)


def _fit(head: nn.Module, error: Callable[[torch.Generator], Tensor], steps: int, seed: int) -> None:
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for step in range(steps):
        optimizer.zero_grad()
        error(step_generator(seed, step)).backward()
        optimizer.step()
        schedule.step()


@torch.inference_mode()
def measure_errors(model: WorldModel, heads: Heads, whiten: Cache, calibrate: Cache, horizon: int) -> Errors:
    """How the model errs: covariance on clips that do not calibrate, the rest on those that do.

    Rollouts for guardrails start at every `horizon` steps of a clip, so that no two share a moment.
    """
    usual = usual_latents(model, whiten)
    skip = 1 if model.config.actions is None else model.config.actions.skip
    foretold, now, between = [], [], []
    for latents, memories, blocks, states in _clips(model, calibrate):
        starts = torch.arange(0, len(latents) - horizon, horizon)
        if heads.probe is None or not len(starts):
            continue
        steps = starts[:, None] + torch.arange(horizon)
        foretold.append(heads.probe(model.imagine(latents[starts], memories[starts], blocks[steps])))
        now.append(heads.probe(latents[starts]))
        between.append(states[skip * starts[:, None] + 1 + torch.arange(skip * horizon)])
    nothing, quantities = torch.zeros(0), len(heads.quantities)
    frames = torch.cat([nothing.view(0, skip * horizon, quantities), *between])
    found = Errors(
        **usual,
        surprises=torch.zeros(0),
        truth=frames[:, skip - 1 :: skip].contiguous(),
        foretold=torch.cat([nothing.view(0, horizon, quantities), *foretold]),
        now=torch.cat([nothing.view(0, quantities), *now]),
        between=frames,
    )
    worst = [
        torch.cat([found.strangeness(None, came[:1]), found.strangeness(said, came[1:])]).max()
        for said, came in _one_step(model, calibrate)
    ]
    return replace(found, surprises=torch.stack(worst).sort().values)


def usual_latents(model: WorldModel, cache: Cache) -> dict[str, Tensor]:
    """What is usual in these clips, as Errors keeps it: `precision` of errors, `mean` of latents and how `familiar` others are."""
    clips = _one_step(model, cache)
    seen = torch.cat([came for _, came in clips])
    mean = seen.mean(0)
    precision, familiar = (
        (torch.linalg.inv(shrunk_covariance(x.flatten(1))) / x.flatten(1).shape[1]).float()
        for x in (torch.cat([said - came[1:] for said, came in clips]), seen - mean)
    )
    largest = torch.stack([whitened_error(said, came[1:], precision).max() for said, came in clips]).median()
    farthest = torch.stack([whitened_error(mean, came, familiar).max() for _, came in clips]).median()
    return {"precision": precision, "mean": mean, "familiar": familiar * largest / farthest}


def _clips(model: WorldModel, cache: Cache) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Each clip at the model's steps: latents (T, P, D), memories before them (T, P, M), blocks (T, A').

    And the states of every frame of it, (T * skip, Q).
    """
    assert model.config.actions is not None
    skip, found = model.config.actions.skip, []
    for end in cache.ends.unique().tolist():
        first = int((cache.ends == end).nonzero()[0])
        steps = (end - first) // skip
        if steps < 2:
            continue
        at = first + skip * torch.arange(steps)
        blocks = cache.actions[first : first + steps * skip].view(steps, -1)
        foretold, _ = model.go_on(cache.latents[at][None], None, blocks[None])
        memories = torch.cat([model.predictor.start(1), foretold.memories[0, :-1]])
        found.append((cache.latents[at], memories, blocks, cache.states[first : first + steps * skip]))
    return found


def _one_step(model: WorldModel, cache: Cache) -> list[tuple[Tensor, Tensor]]:
    """Of each clip what was foretold one step ahead, (T - 1, P, D), and what was seen, (T, P, D)."""
    found = []
    for latents, _, blocks, _ in _clips(model, cache):
        found.append((model.predict(latents[None], blocks[None]).next[0, :-1], latents))
    return found
